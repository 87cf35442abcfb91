"""Server arguments that a CPU needs, where the user left them open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.server_args import ServerArgs

# Beyond these a CPU only keeps requests waiting longer for one another.
_MAX_POOL_TOKENS = 65_536
_MAX_RUNNING_REQUESTS = 128
_CHUNKED_PREFILL_TOKENS = 2_048

# The device pool's share of the machine. The host pool takes --hicache-ratio
# (2.0 by default) times as much, and the weights need room too.
_POOL_MEMORY_SHARE = 1 / 8

_THREADS_BIND = "SGLANG_CPU_OMP_THREADS_BIND"
_OMP_THREADS = "OMP_NUM_THREADS"

# Seconds that a tokenizer worker may be too busy to answer. SGLang's 10 are less than a worker
# needs to start on a few shared cores, and uvicorn would end it again and again.
_WORKER_HEALTHCHECK = ("SGLANG_UVICORN_WORKER_HEALTHCHECK_TIMEOUT", "120")

# What this module wrote to the environment, which is not a user's choice.
_written: dict[str, str] = {}


def apply(args: ServerArgs) -> None:
    """Set the defaults of a CPU server in place."""
    if args.device != "cpu":
        return
    _choose_backends(args)
    _choose_dtype(args)
    _choose_sizes(args)
    _divide_cores(args)
    _set_default(*_WORKER_HEALTHCHECK)


def _choose_backends(args: ServerArgs) -> None:
    # SGLang has by now put "intel_amx" for an unset backend. It cannot be the
    # user's: it runs on sgl_kernel's CPU build, SGLANG_USE_CPU_ENGINE=1.
    if args.attention_backend == "intel_amx":
        args.attention_backend = "torch_native"
    # There is no second queue on which the scheduler could run ahead.
    args.disable_overlap_schedule = True
    # The scheduler runs on the cores that compute: idle, it must not spin on one.
    args.sleep_on_idle = True
    # The plain pool serves sliding windows by a mask; out-of-tree platforms
    # have no hook for SGLang's two-pool layout.
    args.disable_hybrid_swa_memory = True
    # "kernel" is SGLang's default and means CUDA kernels.
    if args.hicache_io_backend == "kernel":
        args.hicache_io_backend = "direct"
    # The same for LoRA: "csgmv" is the default, and Triton.
    if args.lora_backend == "csgmv":
        args.lora_backend = "torch_native"


def _choose_dtype(args: ServerArgs) -> None:
    """Serve a float32 model as it is; SGLang would make it float16.

    That halves a GPU's memory traffic. A CPU has no fast float16 arithmetic.
    """
    stored = getattr(args.get_model_config().hf_config, "dtype", None)
    if args.dtype == "auto" and stored == torch.float32:
        args.dtype = "float32"
        # The cached configuration has the float16 in it.
        del args.model_config


def _choose_sizes(args: ServerArgs) -> None:
    if args.chunked_prefill_size is None:
        args.chunked_prefill_size = _CHUNKED_PREFILL_TOKENS
    if args.max_running_requests is None:
        args.max_running_requests = _MAX_RUNNING_REQUESTS
    # --mem-fraction-static asks for SGLang's own sizing by free memory.
    if args.max_total_tokens is None and args.mem_fraction_static is None:
        args.max_total_tokens = _pool_tokens(args)


def _pool_tokens(args: ServerArgs) -> int:
    budget = psutil.virtual_memory().total * _POOL_MEMORY_SHARE / args.dp_size
    per_token = _kv_bytes_per_token(args.get_model_config())
    return min(_MAX_POOL_TOKENS, int(budget / per_token))


def _kv_bytes_per_token(config: ModelConfig) -> int:
    """Bytes that all layers of all ranks keep for one token."""
    if config.attention_arch.name == "MLA":
        width = config.kv_lora_rank + config.qk_rope_head_dim
    else:
        width = config.get_total_num_kv_heads() * (config.head_dim + config.v_head_dim)
    return config.num_hidden_layers * width * config.dtype.itemsize


def _divide_cores(args: ServerArgs) -> None:
    """Give every rank its own cores: `SGLANG_CPU_OMP_THREADS_BIND=0-3|4-7`.

    Replicas (--dp-size) share the binding of their rank, so their number cuts
    the threads and not the binding: SGLang wants one entry per TP rank.
    """
    cores = sorted(os.sched_getaffinity(0))
    ranks = args.tp_size
    shares = (_share(cores, rank, ranks) for rank in range(ranks))
    _set_default(_THREADS_BIND, "|".join(",".join(map(str, share)) for share in shares))
    replicas = 1 if args.enable_dp_attention else args.dp_size
    _set_default(_OMP_THREADS, str(max(1, len(cores) // (ranks * replicas))))


def _share(cores: list[int], rank: int, ranks: int) -> list[int]:
    start, end = (len(cores) * bound // ranks for bound in (rank, rank + 1))
    # More ranks than cores: they have to share.
    return cores[start:end] or cores


def _set_default(variable: str, value: str) -> None:
    """Set an environment variable for the workers unless the user has set it."""
    current = os.environ.get(variable)
    if current is not None and current != _written.get(variable):
        return
    os.environ[variable] = _written[variable] = value
