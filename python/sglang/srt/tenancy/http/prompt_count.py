"""Count the prompts that a request's body holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sglang.srt.tenancy.http.identity import RequestIdentity
from sglang.srt.tenancy.user_id import IdentityError

# Fields of a body that hold one prompt, or a list of them.
PROMPT_FIELDS = ("text", "prompt", "input_ids")


def count_prompts(body: dict[str, Any]) -> int:
    """Count the prompts in a body: known here, a stream has no 200 to take back."""
    for field in PROMPT_FIELDS:
        prompts = body.get(field)
        if isinstance(prompts, list) and is_batch(prompts):
            return len(prompts)
    return 1


def is_batch(prompts: Any) -> bool:
    """Tell whether it is a list of prompts, and not one prompt's text or token ids."""
    return isinstance(prompts, list) and bool(prompts) and not isinstance(prompts[0], int)


def check_user_count(users: Sequence[str | None], prompts: int) -> None:
    if len(users) != prompts:
        raise IdentityError(
            400, "user_id", f"user_id: {len(users)} users for {prompts} prompts; give one for each"
        )


def prompts_by_user(identity: RequestIdentity, body: dict[str, Any]) -> Counter[str | None]:
    """Count each user's prompts in a request, answers to one prompt counted singly."""
    sampling = body.get("sampling_params")
    answers = body.get("n") or (sampling.get("n") if isinstance(sampling, dict) else 1)
    if isinstance(answers, bool) or not isinstance(answers, int) or answers < 1:
        answers = 1  # the handler refuses it
    users = identity.user_ids
    if not isinstance(users, tuple):
        return Counter({users: count_prompts(body) * answers})
    return Counter({user: count * answers for user, count in Counter(users).items()})
