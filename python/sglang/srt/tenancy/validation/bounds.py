"""How large a request may be: more than ordinary clients send, less than hurts others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglang.srt.tenancy.flags import TenantOptions


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most of each that one request may hold; the fields are the flags' names.

    ``prompts``: in one request. ``samples``: answers to one prompt (`n`). ``logprobs``: values of
    a prompt and its answer, all positions together. ``stops``: strings, token ids and regular
    expressions that end an answer, together. ``grammar_bytes``: of a JSON schema, a regular
    expression or a grammar. ``media``: pictures, videos and sounds.
    """

    prompts: int = 2048
    samples: int = 128
    logprobs: int = 2_000_000
    stops: int = 64
    logit_bias: int = 1024
    grammar_bytes: int = 65_536
    media: int = 64

    @classmethod
    def of(cls, options: TenantOptions) -> Bounds:
        return cls(
            prompts=options.tenant_max_prompts,
            samples=options.tenant_max_samples,
            logprobs=options.tenant_max_logprobs,
            stops=options.tenant_max_stops,
            logit_bias=options.tenant_max_logit_bias,
            grammar_bytes=options.tenant_max_grammar_bytes,
            media=options.tenant_max_media,
        )
