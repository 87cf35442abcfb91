"""Compare token sequences."""

from __future__ import annotations

from array import array


def common_prefix(stored: array[int], tokens: array[int], at: int, end: int) -> int:
    """Count how many first tokens of ``stored`` equal ``tokens[at:end]``."""
    length = min(len(stored), end - at)
    low, step = 0, 32
    while low < length:
        high = min(low + step, length)
        if stored[low:high] != tokens[at + low : at + high]:
            while high - low > 1:  # equal before low, different before high
                middle = (low + high) // 2
                if stored[low:middle] == tokens[at + low : at + middle]:
                    low = middle
                else:
                    high = middle
            return low
        low = high
        step *= 4
    return length
