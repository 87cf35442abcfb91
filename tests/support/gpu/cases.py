"""Which servers are tried: each differs from the first in one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from support.gpu.device import Device, Need, capability, cuda, devices, package

DEMO, LATENT = "demo", "latent"
PAGES = (1, 16, 64)
PAGE = 16
BACKENDS: Mapping[str, tuple[Need, ...]] = {
    "triton": (cuda("Triton's attention"),),
    "fa3": (capability("fa3", (8, 0), (9, 0)), package("sglang-kernel")),
    "flashinfer": (capability("flashinfer", (7, 5)), package("flashinfer-python")),
    "trtllm_mha": (capability("trtllm_mha", (10, 0), (10, 3)), package("flashinfer-python")),
}
# Those whose answers upstream says do not depend on the batch, nor on what was cached.
EXACT_BACKENDS = ("triton", "fa3")


@dataclass(frozen=True)
class Case:
    """``engine``: flags that numbers depend on; the server without a cache has them too.
    ``cache``: flags that they do not depend on. ``needs``: what a device must have."""

    name: str
    page: int = PAGE
    engine: tuple[str, ...] = ()
    cache: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    model: str = DEMO
    graphs: bool = True
    ranks: int = 1
    needs: tuple[Need, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--page-size", str(self.page), *self.engine, *self.cache)

    def lacks(self, device: Device) -> str:
        """Why it cannot run there; nothing where it can."""
        return "; ".join(reason for need in self.needs if (reason := need(device)))


def _copies(backend: str) -> tuple[Need, ...]:
    return (cuda("copying by kernels"),) if backend == "kernel" else ()


def _tiers(model: str, page: int, backend: str) -> Case:
    return Case(
        f"{model} model, {backend} copies, pages of {page}",
        page=page,
        cache=("--hicache-io-backend", backend),
        model=model,
        needs=_copies(backend),
    )


CASES = (
    *(_tiers(DEMO, page, backend) for backend in ("kernel", "direct") for page in PAGES),
    *(_tiers(LATENT, page, backend) for backend, page in (("kernel", 1), ("direct", 64))),
    Case(
        "write barrier on the whole forward pass",
        env={"SGLANG_FORCE_COARSE_WAR_BARRIER": "1", "SGLANG_ENABLE_WAR_BARRIER": "1"},
    ),
    Case(
        "no CUDA graphs",
        engine=(
            *("--cuda-graph-backend-decode", "disabled"),
            *("--cuda-graph-backend-prefill", "disabled"),
        ),
        graphs=False,
        needs=(cuda("a graph"),),
    ),
    *(
        Case(f"attention by {name}", engine=("--attention-backend", name), needs=needs)
        for name, needs in BACKENDS.items()
    ),
    Case(
        "KV in fp8_e4m3",
        engine=("--kv-cache-dtype", "fp8_e4m3"),
        needs=(capability("fp8_e4m3", (8, 9)),),
    ),
    Case(
        "KV in fp8_e5m2",
        engine=("--kv-cache-dtype", "fp8_e5m2"),
        needs=(capability("fp8_e5m2", (8, 0)),),
    ),
    Case("two ranks", cache=("--tp-size", "2"), ranks=2, needs=(devices(2),)),
)
