#!/usr/bin/env bash
# Set up what scripts/pack_gpu.py packed, on a machine without a package index.
#
#     bash unpack_gpu.sh [--venv DIR | --target DIR] [--python PROGRAM] [--without-gpu]
#
# --venv (./gpu-venv is the default) makes an environment that sees the packages of PROGRAM's
# (python3's) too; --target puts ours into a folder for PYTHONPATH. --without-gpu checks only what
# needs none.
set -euo pipefail

pack=$(cd "$(dirname "$0")" && pwd)
place=gpu-venv kind=venv python=python3 check=()
while [ $# -gt 0 ]; do
  case $1 in
    --venv | --target) kind=${1#--} place=${2:?"$1 needs a folder"}; shift 2 ;;
    --python) python=${2:?"--python needs a program"}; shift 2 ;;
    --without-gpu) check+=("$1"); shift ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
if [ -e "$place" ]; then
  echo "error: $place is there already; remove it, or name another folder with --$kind" >&2
  exit 1
fi

(cd "$pack" && sha256sum --check --quiet SHA256SUMS)
mkdir -p "$place"
place=$(cd "$place" && pwd)
files=$place/pack
mkdir "$files"
# tar asks for xz, which may be missing; Python has it.
"$python" - "$pack/pack.tar.xz" "$files" <<'PYTHON'
import sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    archive.extractall(sys.argv[2], **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
PYTHON
"$python" "$pack/check_gpu.py" --files "$pack/manifest.json" "$files"

options=(--no-index --no-deps --quiet --disable-pip-version-check --no-cache-dir)
if [ "$kind" = venv ]; then
  "$python" -m venv --system-site-packages --without-pip "$place"
  run=$place/bin/python
  # PROGRAM may be of an environment itself, whose packages --system-site-packages does not mean.
  site=$("$run" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  "$python" -c 'import site, sys; print("\n".join(p for p in sys.path if p.endswith("-packages")))' \
    >"$site/of-the-machine.pth"
  "$python" -m pip --python "$run" install "${options[@]}" --ignore-installed "$files"/wheels/*.whl
else
  run=$python
  export PYTHONPATH=$place${PYTHONPATH:+:$PYTHONPATH}
  "$python" -m pip install "${options[@]}" --target "$place" "$files"/wheels/*.whl
fi
rm -r "$files/wheels"

"$run" "$pack/check_gpu.py" --imports ${check[@]+"${check[@]}"}
echo
echo "Next, a server with random weights of a well-known shape:"
[ "$kind" = venv ] || echo "export PYTHONPATH=$PYTHONPATH"
cat <<NEXT
$run -m sglang.launch_server --model-path $files/models/llama-3.1-8b --load-format dummy \\
  --attention-backend triton --sampling-backend pytorch --enable-tenant-cache
NEXT
