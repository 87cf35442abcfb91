"""What goes wrong in a play, and the shortest play in which it does."""

from __future__ import annotations

import traceback
from collections import Counter

from support.engine import Setting
from support.play import Play, Step, random_play

Events = Counter[str]


def find_fault(seed: int, steps: int, events: Events) -> str | None:
    """Play; what went wrong, and how to see it again. ``events``: what happened is added."""
    setting, chosen = random_play(seed, steps)
    if _traceback(setting, chosen, events) is None:
        return None
    shortest = _shortened(setting, chosen)
    return f"seed {seed}: {setting}\n{shortest}\n{_traceback(setting, shortest, Counter())}"


def _traceback(setting: Setting, steps: list[Step], events: Events) -> str | None:
    play = Play(setting)
    try:
        play.run(steps)
    except Exception:  # noqa: BLE001 - whatever it is, it is to be told
        return traceback.format_exc()
    events["steps"] += play.steps
    events["late_verdicts"] += play.late
    events["fetched_pages"] += play.fetched
    events["loaded_tokens"] += play.engine.loaded
    events["evictions"] += play.evictions
    events["over_share"] += play.over_share
    events["told"] += play.told
    events["by_word_of_others"] += play.model.by_word_of_others
    events["by_votes"] += play.model.voted_public
    events.update(play.engine.cache.core.counts)
    return None


def _shortened(setting: Setting, steps: list[Step]) -> list[Step]:
    """Leave out steps, many at a time and then fewer, as long as the play still fails."""
    size = len(steps) // 2
    while size:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + size :]
            if _traceback(setting, fewer, Counter()) is not None:
                steps = fewer
            else:
                start += size
        size //= 2
    return steps
