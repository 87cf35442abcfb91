"""Patterns that end answers: the usual ones pass, and none that passes takes long."""

from __future__ import annotations

import random
import re
import time

import pytest

from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.validation.stop_regex import check_stop_regex

USUAL = [
    r"\n\nUser:",
    r"[0-9]{3}-[0-9]{4}",
    r"</?(tool|answer)>",
    r"(?i)the end\.?$",
    r"\n{2,4}#",
    r"\bstop\b",
    r"[.!?]\s{0,8}\n",
    r"(ab|cd){1,4}x",
    "",
]
TOO_LONG = [
    *("a*", "a+b", ".*x", "(a+)+b", "(a|a)*b", "(a{0,16}){0,16}b", "(a?){30}a{30}"),
    *(r"(\s{0,9}){9}", "(a|ab|b){0,9}c", "a{300}", "((a{0,20}){0,20}){0,20}", ".{0,99}.{0,99}x"),
    *("(|){0,50}(|){0,50}x", "(?:(?:)|(?:)){0,99}b", "(aa|bb|cc|dd){0,12}!"),
]
NO_PATTERN = ["(", "[", "(?P<a", "a{2,1}", "*", "\\", "(?<=a)b", r"(a)\1", "(?=a)b", "(a)(?(1)b|c)"]


@pytest.mark.parametrize("pattern", USUAL)
def test_the_usual_ones_pass(pattern: str) -> None:
    check_stop_regex(pattern)


@pytest.mark.parametrize("pattern", [*TOO_LONG, *NO_PATTERN, "(" * 5000 + ")" * 5000])
def test_others_are_refused_by_name(pattern: str) -> None:
    with pytest.raises(RequestError, match=r"^stop_regex: ") as refused:
        check_stop_regex(pattern)
    assert refused.value.status_code == 400
    assert len(str(refused.value)) < 200


def draw(random: random.Random, depth: int = 0) -> str:
    kind = random.randrange(6 if depth < 3 else 2)
    if kind == 0:
        return random.choice(["a", "b", "[ab]", "."])
    if kind == 1:
        return "".join(draw(random, depth + 1) for _ in range(random.randrange(3))) or "a"
    inner = draw(random, depth + 1)
    if kind == 2:
        return f"({inner}|{draw(random, depth + 1)})"
    low = random.randrange(3)
    high = low + random.choice((0, 1, 3, 12, 40))
    return f"({inner}){{{low},{high}}}{random.choice(('', '', '?'))}"


@pytest.mark.slow
def test_none_that_passes_takes_long() -> None:
    """On answers made for it: letters that the pattern likes, and an end that it does not."""
    drawn = random.Random(1)
    passed = 0
    for _ in range(10_000):
        pattern = draw(drawn) + draw(drawn) + "c"
        try:
            check_stop_regex(pattern)
        except RequestError:
            continue
        compiled = re.compile(pattern)
        for text in ("a" * 1024, "ab" * 512, "b" * 1023 + "a"):
            started = time.process_time()
            compiled.search(text)
            assert time.process_time() - started < 0.25, pattern
        passed += 1
    assert passed > 1000
