"""What the client imports: nothing of the engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from server_process import free_port

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "python" / "sglang" / "tenant_client"
LAUNCHER = ROOT / "python" / "sglang_tenant.py"

# What decides knows no transport, and what both clients share knows neither.
LAYERS = (
    {"__main__"},
    {"command"},
    {"chat", "analysis"},
    {"screen"},
    {"async_client", "sync_client"},
    {"async_sessions", "sync_sessions"},
    {"async_transport"},
    {"sync_transport"},
    {"turn", "named_sessions"},
    {"settings"},
    {"server_state", "warming"},
    {"failures"},
    {"steps"},
    {"options", "answer", "session_file", "session_table"},
    {"session_state", "endpoint"},
    {"errors"},
)

EVERY_MODULE = """
import importlib, sys
import sglang_tenant
sglang_tenant.leave_out_engine()
for name in names:
    importlib.import_module(name)
engine = ("torch", "transformers", "sglang.srt", "sglang.version")
found = [name for name in sys.modules if name in engine or name.startswith("sglang.srt.")]
assert not found, found
assert "sglang.tenant_client.analysis.picture" in sys.modules
"""


def test_no_module_imports_the_engine() -> None:
    path = str(LAUNCHER.parent)
    files = [file.relative_to(FOLDER.parents[1]).with_suffix("") for file in FOLDER.rglob("*.py")]
    names = [".".join(file.parts) for file in files if not file.name.startswith("__")]
    assert len(names) > 20
    code = f"import sys; sys.path.append({path!r}); names = {names!r}\n{EVERY_MODULE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", [FOLDER, LAUNCHER], ids=["folder", "launcher"])
@pytest.mark.parametrize("command", ["chat", "analysis"])
def test_the_command_imports_no_engine(command: str, program: Path) -> None:
    """By what Python says that it imports, until no server answers."""
    url = f"http://127.0.0.1:{free_port()}"
    wait = ["--wait", "0.01"] if command == "chat" else []
    run = [sys.executable, "-X", "importtime", str(program), command, "--url", url, *wait]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not reached" in done.stderr
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert {"openai", "sglang.tenant_client.chat"} <= imported
    assert not imported & {"torch", "sglang", "sglang.srt", "matplotlib"}


def test_the_folder_needs_no_engine_at_all(tmp_path: Path) -> None:
    """In a folder of that name, on a machine where nothing else of it is installed."""
    (tmp_path / "sglang").mkdir()
    (tmp_path / "sglang" / "tenant_client").symlink_to(FOLDER)
    packages = [path for path in sys.path if path.endswith("site-packages")]
    # Without site.py no .pth file is read; and the folder comes before what is installed there.
    code = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}]
sys.path += {packages!r}
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name == "sglang":
            import importlib.machinery as machinery
            spec = machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [{str(tmp_path / "sglang")!r}]
            return spec
sys.meta_path.insert(0, NotInstalled())
from sglang.tenant_client import Client, AsyncClient
with Client("http://127.0.0.1:9") as client:
    assert not client.health().ok
assert "torch" not in sys.modules
"""
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_imports_point_down(monkeypatch: pytest.MonkeyPatch) -> None:
    # import-linter reads no part of an installed package; under another name it is none.
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    graph = grimp.build_graph("tenant_client", cache_dir=None)
    listed = {f"tenant_client.{name}" for layer in LAYERS for name in layer}
    assert graph.find_children("tenant_client") == listed
    illegal = graph.find_illegal_dependencies_for_layers(LAYERS, containers={"tenant_client"})
    assert not illegal
