"""The grammar trials of this HTTP process."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.grammar.trials import GrammarTrials, TrialBounds
from sglang.srt.tenancy.user_id import account_name

if TYPE_CHECKING:
    from sglang.srt.tenancy.flags import TenantOptions

logger = logging.getLogger("sglang.srt.entrypoints.http_server")

# This process's; None where no grammar is tried.
_trials: GrammarTrials | None = None


def of_server(manager: Any, options: TenantOptions) -> GrammarTrials | None:
    """Make this HTTP process's trials, where the options ask for some. Starts nothing yet."""
    global _trials
    arguments = manager.server_args
    backend = arguments.grammar_backend
    if options.tenant_grammar_seconds == 0 or manager.tokenizer is None or backend == "none":
        return None
    if backend != "xgrammar":
        logger.warning(
            "--grammar-backend %s: grammars are not tried before the scheduler compiles them, so "
            "one that is slow delays all. --grammar-backend xgrammar has them tried.",
            backend,
        )
        return None
    from sglang.srt.tenancy.grammar.calls import CompilerCalls

    bounds = TrialBounds(
        seconds=options.tenant_grammar_seconds,
        step_seconds=options.tenant_grammar_step_seconds,
        memory=options.tenant_grammar_memory << 20,
    )
    _trials = GrammarTrials(partial(CompilerCalls, manager), bounds)
    return _trials


def stats() -> dict[str, object] | None:
    """Count what this process found of grammars so far; None where it tries none."""
    return None if _trials is None else _trials.stats()


def forget(user: str) -> None:
    """Drop what is remembered of a user's grammars."""
    if _trials is not None:
        _trials.forget(account_name(user))
