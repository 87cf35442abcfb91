"""Are these the words that a server without a cache would say?

On a GPU two right answers may differ. Kernels round differently for batches of other sizes, and
for prompts of which a part was cached, so where two tokens are nearly as likely either may come
first, and all that follows is then another text. Comparing texts would call that wrong, and
comparing none would call all right. So each token is judged by itself: the server without a cache
is given the prompt and the answer and says how likely each token was after those before it. A right
one is the most likely, but for what rounding moves; how much that is, the same server says of its
own answers (``noise``). What the comparison must see is KV of other tokens: answers judged behind a
prompt of which a part was changed lie far off (``wrong``). The sharpest measure that tells the two
apart is taken; where none does, nothing is judged, and that is a failure of the test.

Of 16 bits a page of 16 wrong tokens moves some token of an answer by 1.5 and more, rounding none by
more than 0.04. With KV in fp8 rounding may move single tokens by 3, but answers on average by less
than a quarter, and half of a prompt changed moves them by 1.5.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from support.asks import Asker, sampling
from support.prompts import fresh_prompt

LEAST = 0.01  # by which float32 on a CPU may be off
SLACK = 3.0  # more answers are judged than noise was measured on
SAMPLES, TOKENS = 16, 60
PROMPT = 240
SHORT = 16  # tokens of an answer whose average says little
AT_ONCE = 8

Ids = Sequence[int]
Margins = Sequence[float]  # of the tokens of an answer: how much less likely than the best


@dataclass(frozen=True)
class Measure:
    """``average``: of an answer's tokens, else the worst of them. ``changed``: tokens of a prompt
    that are not its own where it must be seen."""

    name: str
    average: bool
    changed: int

    def of(self, answers: Sequence[Margins]) -> list[float]:
        """Of each answer, where averages are taken of all short ones together."""
        if not self.average:
            return [max(margins) for margins in answers]
        long = [margins for margins in answers if len(margins) >= SHORT]
        short = [margin for margins in answers if len(margins) < SHORT for margin in margins]
        return [statistics.fmean(margins) for margins in [*long, short] if margins]


MEASURES = (Measure("worst token", False, 16), Measure("average", True, PROMPT // 2))


@dataclass(frozen=True)
class Judge:
    """``without_cache``: the server that is asked. ``noise``, ``wrong``: in log probability."""

    without_cache: Asker
    measure: Measure
    noise: float
    wrong: float

    @property
    def tolerance(self) -> float:
        return max(LEAST, SLACK * self.noise)

    @property
    def sees(self) -> bool:
        """Whether what is wrong can be told from rounding."""
        return self.wrong > self.tolerance

    def check(self, answers: Sequence[tuple[Ids, Ids]]) -> None:
        """Fail where an answer to a prompt is not what the model says, or where that cannot be
        seen."""
        assert self.sees, (
            f"changed prompts move log probabilities ({self.measure.name}) by {self.wrong:.3f}, "
            f"rounding by up to {self.noise:.3f}: they cannot be told apart on this device"
        )
        found = self.measure.of(_margins(self.without_cache, answers))
        off = sorted(each for each in found if each > self.tolerance)
        assert not off, (
            f"{len(off)} of {len(found)} answers are not the model's: {self.measure.name} up to "
            f"{off[-1]:.3f} less likely than the best, where {self.tolerance:.3f} is rounding"
        )


def calibrated(without_cache: Asker) -> Judge:
    """Measure how far right answers are off, and wrong ones, and choose what to look at."""
    prompts = [_ids(fresh_prompt(PROMPT)) for _ in range(SAMPLES)]
    replies = without_cache.generate(input_ids=prompts, sampling_params=sampling(TOKENS))
    answers = [list(reply["output_ids"]) for reply in replies]
    own = _margins(without_cache, list(zip(prompts, answers, strict=True)))
    judges = []
    for measure in MEASURES:
        changed = [_changed(prompt, measure.changed) for prompt in prompts]
        others = _margins(without_cache, list(zip(changed, answers, strict=True)))
        noise, wrong = max(measure.of(own)), min(measure.of(others))
        judges.append(Judge(without_cache, measure, noise, wrong))
    return next((judge for judge in judges if judge.sees), judges[-1])


def _margins(asker: Asker, answers: Sequence[tuple[Ids, Ids]]) -> list[Margins]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda pair: _margins_of(asker, *pair), answers))


def _margins_of(asker: Asker, prompt: Ids, answer: Ids) -> Margins:
    reply: Any = asker.generate(
        input_ids=[*prompt, *answer],
        sampling_params=sampling(1),
        return_logprob=True,
        logprob_start_len=len(prompt) - 1,
        top_logprobs_num=1,
    )
    meta = reply["meta_info"]
    # The first is of the prompt's last token, before which nothing is looked at.
    chosen = meta["input_token_logprobs"][-len(answer) :]
    best = meta["input_top_logprobs"][-len(answer) :]
    assert [token for _, token, _ in chosen] == list(answer)
    return [top[0][0] - own[0] for own, top in zip(chosen, best, strict=True)]


def _changed(prompt: Ids, tokens: int) -> list[int]:
    """With other letters in a part of it, which begins with a page."""
    start = random.randrange(0, len(prompt) - tokens) // 16 * 16
    return [*prompt[:start], *_ids(fresh_prompt(tokens)), *prompt[start + tokens :]]


def _ids(text: str) -> list[int]:
    """The demo tokenizer's: a token is a byte."""
    return list(text.encode())
