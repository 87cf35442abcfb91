"""Bound what the scheduler keeps of compiled grammars: upstream keeps each for good.

What is dropped depends on nothing but the order in which grammars came, which is the same on every
rank: ranks that kept different ones would serve different batches.
"""

from __future__ import annotations

from typing import Any

_TARGET = "sglang.srt.constrained.base_grammar_backend.BaseGrammarBackend.set_cache"

MOST_KEPT = 128  # grammars; of a vocabulary of 128,000 tokens, one takes 1 to 40 MB
_COMPILER_KEEPS = 256 << 20  # bytes, as it counts: more than they are

_on = False


def install() -> None:
    """Hook in through upstream's registry, as ``scheduler_handler.install``."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

    source = HookSource("tenancy", "sglang")
    HookRegistry.register(_TARGET, _drop_oldest, HookType.AFTER, source=source)


def bound_cache() -> None:
    """Have this process's backend keep no more than ``MOST_KEPT`` grammars from now on."""
    global _on
    _on = True


def _drop_oldest(_: None, backend: Any, *__: Any) -> None:
    if not _on:
        return
    while len(backend.cache) > MOST_KEPT:
        del backend.cache[next(iter(backend.cache))]
    # A reasoning model's backend is around another one.
    _bound_compiler(getattr(backend, "grammar_backend", backend))


def _bound_compiler(backend: Any) -> None:
    """Give xgrammar's own cache a limit; a compiler is given one when it is made, or never."""
    compiler = getattr(backend, "grammar_compiler", None)
    if compiler is None or getattr(compiler, "cache_limit_bytes", 0) == _COMPILER_KEEPS:
        return
    from xgrammar import GrammarCompiler

    vocabulary = compiler.compile_grammar('root ::= "a"').tokenizer_info
    backend.grammar_compiler = GrammarCompiler(vocabulary, cache_limit_bytes=_COMPILER_KEEPS)
