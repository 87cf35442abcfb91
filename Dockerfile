# The fork as a container, for CPUs (the target `cpu`) and for CUDA (`cuda`, on upstream's image).
# docs/operating.md says how to run it; compose.yaml does.

FROM python:3.11-slim-bookworm AS cpu-build
WORKDIR /src
COPY . .
RUN python -m venv /opt/sglang \
 && /opt/sglang/bin/python -m pip install --no-cache-dir -c constraints/cpu.txt '.[cpu]'

FROM python:3.11-slim-bookworm AS cpu
COPY --from=cpu-build /opt/sglang /opt/sglang
COPY --chmod=755 scripts/container_entrypoint.sh /usr/local/bin/serve
# Upstream asks lscpu for the cores, and libnuma for where they are.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libnuma1 util-linux \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 10001 -g 10001 -m 700 /var/lib/sglang
ENV PATH=/opt/sglang/bin:$PATH HOME=/tmp HF_HUB_CACHE=/models PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
VOLUME /var/lib/sglang
EXPOSE 30000
HEALTHCHECK --interval=10s --timeout=10s --start-period=600s \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:30000/health', timeout=8)"]
ENTRYPOINT ["serve"]

FROM lmsysorg/sglang:v0.5.17 AS cuda
WORKDIR /src
COPY . .
# Its dependencies are there; the fork takes upstream's place.
RUN python3 -m pip install --no-cache-dir --no-deps --force-reinstall . \
 && install -m 755 scripts/container_entrypoint.sh /usr/local/bin/serve \
 && install -d -o 10001 -g 10001 -m 700 /var/lib/sglang
WORKDIR /
ENV HOME=/tmp HF_HUB_CACHE=/models PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
VOLUME /var/lib/sglang
EXPOSE 30000
HEALTHCHECK --interval=10s --timeout=10s --start-period=1200s \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:30000/health', timeout=8)"]
ENTRYPOINT ["serve"]
