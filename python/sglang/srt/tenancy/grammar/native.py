"""The native grammar compiler (xgrammar's), without the Python package around it.

That one imports torch and transformers: 280 MB and two seconds, to read a vocabulary that the
server has already read.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from sglang.srt.tenancy.grammar import wire

METHODS = frozenset(
    {
        "compile_json_schema",
        "compile_builtin_json_grammar",
        "compile_regex",
        "compile_grammar_from_strings",
        "compile_structural_tag",
    }
)
_RAW = 0  # a vocabulary of the tokens' own bytes
_MOST_ROLLED_BACK = 200  # tokens, as upstream


class NativeCompiler:
    """Compiles for one vocabulary, on one thread."""

    def __init__(self, setup: wire.Setup):
        self._core = _load()
        self.vocabulary_size = len(setup.vocabulary)
        self._override = setup.override_stop_tokens
        self._vocabulary = self._core.TokenizerInfo(
            setup.vocabulary,
            _RAW,
            self.vocabulary_size,
            setup.stop_tokens,
            setup.add_prefix_space,
        )

    def compile(self, method: str, arguments: Sequence[Any]) -> Any:
        """Return a matcher for a grammar. Raises what the compiler raises."""
        assert method in METHODS, "no method that compiles"
        compiler = self._core.GrammarCompiler(self._vocabulary, 1, False, -1)
        compiled = getattr(compiler, method)(*arguments)
        return self._core.GrammarMatcher(compiled, self._override, False, _MOST_ROLLED_BACK)


def _load() -> Any:
    """Import the bindings alone. For a process that uses xgrammar for nothing else."""
    # They import it where it is there, to be compatible with tensors that nobody has here.
    sys.modules["torch"] = None  # type: ignore[assignment]
    # Threads that numpy would start, and a fork would lose.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    found = importlib.util.find_spec("xgrammar")
    assert found is not None, "xgrammar is not installed"
    package = ModuleType("xgrammar")
    package.__path__ = list(found.submodule_search_locations or ())
    sys.modules["xgrammar"] = package
    importlib.import_module("xgrammar.load_binding")
    return importlib.import_module("xgrammar.base")._core
