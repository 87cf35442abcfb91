"""What upstream would ask the compiler for a grammar, found without compiling it.

Upstream's own backend is asked, with a compiler that only writes down how it was called: so what
is tried is what the scheduler will do, in this release and the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from sglang.srt.tenancy.grammar import wire
from sglang.srt.tenancy.grammar.native import METHODS

# The fields of a request, in the order in which the scheduler looks for them, and what it calls.
FIELDS = {
    "json_schema": "dispatch_json",
    "regex": "dispatch_regex",
    "ebnf": "dispatch_ebnf",
    "structural_tag": "dispatch_structural_tag",
}


class InvalidGrammar(ValueError):
    """A grammar that never gets as far as the compiler. Its message is for the client."""


class NoGrammars(Exception):
    """The scheduler compiles no grammar for this model's tokenizer: it refuses them all."""


class CompilerCalls:
    """Upstream's xgrammar backend of this model, with nothing behind it.

    ``vocabulary``: each token's bytes.
    """

    def __init__(self, manager: Any):
        """Raises NoGrammars."""
        from xgrammar import GrammarCompiler

        from sglang.srt.constrained.xgrammar_backend import (
            TokenizerNotSupportedError,
            XGrammarGrammarBackend,
        )

        config, options = manager.model_config, manager.server_args
        stops = config.hf_eos_token_id
        try:
            self._backend: Any = XGrammarGrammarBackend(
                manager.tokenizer,
                vocab_size=config.vocab_size,
                model_eos_token_ids=list(stops) if stops else None,
                any_whitespace=not options.constrained_json_disable_any_whitespace,
            )
        except TokenizerNotSupportedError:
            raise NoGrammars from None
        info = self._backend.grammar_compiler.compile_grammar('root ::= "a"').tokenizer_info
        self.vocabulary = [_bytes(token) for token in info.decoded_vocab]
        self.add_prefix_space = info.add_prefix_space
        self.stop_tokens: list[int] = info.stop_token_ids
        self.override_stop_tokens: list[int] | None = self._backend.override_stop_tokens
        self._backend.grammar_compiler = GrammarCompiler._create_from_handle(_Recorder())

    def call(self, field: str, grammar: str) -> wire.Compile:
        """Return the call for one field of a request. Raises InvalidGrammar."""
        try:
            made = getattr(self._backend, FIELDS[field])(grammar)
        except _Called as called:
            return wire.Compile(called.method, called.arguments)
        except Exception as error:  # noqa: BLE001 - upstream takes what it parses for granted
            raise InvalidGrammar(type(error).__name__) from None
        raise InvalidGrammar(getattr(made, "error_message", "it is no grammar")[:200])


class _Called(Exception):
    def __init__(self, method: str, arguments: Sequence[Any]):
        super().__init__(method)
        self.method = method
        self.arguments = list(arguments)


class _Recorder:
    """In the place of the native compiler: ends each call with what it was."""

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(name)

        def called(*arguments: Any) -> NoReturn:
            raise _Called(name, arguments)

        return called


def _bytes(token: str | bytes) -> bytes:
    return token.encode("utf-8", "surrogateescape") if isinstance(token, str) else bytes(token)
