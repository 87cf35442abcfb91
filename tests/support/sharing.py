"""What must hold in selective mode on every server: page size, tiers, model and policy aside."""

from __future__ import annotations

from support.asks import Asker, Reply
from support.prompts import fresh_prompt, fresh_user

# Tokens that two random prompts may have in common by chance; a page of 16 or more never is.
CHANCE = 12


def beyond_chance(cached: int) -> int:
    """Cached tokens, or 0 where a prompt only begins by chance like something public."""
    return cached if cached >= CHANCE else 0


def publish(asker: Asker, prompt: str, users: int = 3, endpoint: str = "generate") -> list[Reply]:
    """That many distinct users ask the same."""
    return [asker.ask(endpoint, prompt, user_id=fresh_user()) for _ in range(users)]


def check_sharing(asker: Asker, page: int = 1) -> None:
    """Three users make a prefix public for a fourth, and their own tails for nobody."""
    prompt, length = fresh_prompt(256), 256 // page * page
    users = [fresh_user() for _ in range(3)]
    tails = [fresh_prompt(128) for _ in users]
    for user, tail in zip(users, tails, strict=True):
        assert asker.ask("generate", prompt + tail, user_id=user).cached < CHANCE
    for tail in tails:
        seen = asker.ask("generate", prompt + tail, user_id=fresh_user()).cached
        assert length <= seen < length + CHANCE
    for user, tail in zip(users, tails, strict=True):
        reply = asker.ask("generate", prompt + tail, user_id=user)
        assert reply.cached >= (reply.prompt_tokens - 1) // page * page
