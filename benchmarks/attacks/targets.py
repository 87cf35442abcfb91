"""What is asked of each mode, and whether it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TOLD = 0.95  # AUC from which an attack counts as working
TIMED_FROM = 64  # tokens of a prefix whose prefill can be felt
LUCK = 0.001  # chance of guessing as well, below which it is no luck
FEW = 30  # probes below which a timing is not judged

Results = Mapping[str, Mapping[str, Any]]


def targets(results: Results) -> list[dict[str, Any]]:
    """Each as mode, target, measured, met."""
    return [
        {"mode": name, "target": target, "measured": measured, "met": met}
        for name, result in results.items()
        for target, measured, met in (_closed(result) if result["private"] else _open(result))
    ]


Judged = tuple[str, str, bool]


def _open(result: Mapping[str, Any]) -> Iterator[Judged]:
    """The attack must work where nothing is private: else it would prove nothing elsewhere."""
    for length, each in result["membership"].items():
        if length >= TIMED_FROM:
            auc = each["by_time"]["auc"]
            yield f"AUC by time above {TOLD} at {length} tokens", f"{auc:.3f}", auc > TOLD
        exact = each["by_count"]["auc"]
        yield f"AUC by cached_tokens 1 at {length} tokens", f"{exact:.3f}", exact == 1
    flagged = result["flagged"]
    yield (
        "sensitive content confirmed",
        _of(flagged["confirmed"], flagged["guesses"]),
        flagged["confirmed"] == flagged["guesses"],
    )
    count, order = (
        next(r for r in result["recovery"] if r["signal"] == signal)
        for signal in ("cached_tokens", "order")
    )
    yield (
        "secrets recovered by cached_tokens",
        _of(count["whole"], count["secrets"]),
        (count["whole"] == count["secrets"]),
    )
    yield (
        "order recovers more than chance",
        f"{order['share']:.0%} of tokens",
        (order["share"] > 3 * order["chance"]),
    )
    yield (
        "hits from the host tier",
        str(result["host_tier"]["from_host"]),
        (result["host_tier"]["from_host"] > 0),
    )


def _closed(result: Mapping[str, Any]) -> Iterator[Judged]:
    for length, each in result["membership"].items():
        by_time = each["by_time"]
        if by_time["hits"] + by_time["misses"] >= FEW:
            low, high = by_time["wide_low"], by_time["wide_high"]
            yield (
                f"AUC by time silent at {length} tokens",
                f"{low:.2f} to {high:.2f}",
                (low <= 0.5 <= high),
            )
    for length, each in result["order"].items():
        low, high = each["wide_low"], each["wide_high"]
        yield (
            f"AUC by order silent at {length} tokens",
            f"{low:.2f} to {high:.2f}",
            low <= 0.5 <= high,
        )
    trials = [*result["counted"], result["chat"]]
    asked, leaked = (sum(t[key] for t in trials) for key in ("right_guesses", "confirmed"))
    yield "no right guess confirmed", _of(leaked, asked), leaked == 0
    if result["flagged"]:
        yield from _sensitive(result["flagged"])
    owners, found = (sum(t[key] for t in trials) for key in ("owner_asked", "owner_hits"))
    yield "owners find what they said", _of(found, owners), found == owners
    tier = result["host_tier"]
    yield (
        "no tokens from others out of the host tier",
        str(tier["from_host"]),
        (tier["from_host"] == 0 and tier["owner_from_host"] > 0),
    )
    luck = min(recovery["by_luck"] for recovery in result["recovery"])
    yield "no piece of a secret recovered but by luck", f"p {luck:.2g}", luck > LUCK
    below = [c for c in result["collusion"] if c["accounts"] < 3]
    told = sum(c["confirmed"] for c in below)
    yield "nothing confirmed to fewer accounts than the threshold", str(told), told == 0
    if result["detects"]:
        cases = [c for c in result["collusion"] if c["content"] == "flagged"]
        told = sum(max(0, c["confirmed"] - c["false"]) for c in cases)
        yield "nothing sensitive told to any number of accounts", str(told), told == 0
    bound = sum(forgery["works"] for forgery in result["forgery"] if forgery["bound"])
    free = sum(forgery["works"] for forgery in result["forgery"] if not forgery["bound"])
    yield (
        "a forged name fails where it is bound, works where not",
        f"{bound}, {free}",
        (bound == 0 and free > 0),
    )


def _sensitive(flagged: Mapping[str, Any]) -> Iterator[Judged]:
    told, asked = flagged["confirmed"], flagged["guesses"]
    yield "nothing sensitive confirmed that many share", _of(told, asked), told == 0
    low, high = flagged["by_time"]["low"], flagged["by_time"]["high"]
    if 2 * asked >= FEW:
        yield "AUC by time silent for it", f"{low:.2f} to {high:.2f}", low <= 0.5 <= high
    found, owners = flagged["owner_hits"], flagged["owner_asked"]
    yield "those who share it find it", _of(found, owners), found == owners


def _interval(separation: Mapping[str, Any]) -> str:
    return f"[{separation['low']:.2f}, {separation['high']:.2f}]"


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def as_table(judged: list[dict[str, Any]]) -> str:
    lines = [
        f"{'ok' if target['met'] else 'MISSED':7}{target['mode']:18}{target['target']:58}"
        f"{target['measured']}"
        for target in judged
    ]
    return "\n".join(lines)


def summary(result: Mapping[str, Any]) -> str:
    """A few lines for the terminal."""
    lines = []
    for length, each in result["membership"].items():
        time, count = each["by_time"], each["by_count"]
        lines.append(
            f"  {length:>4} tokens: AUC by time {time['auc']:.3f} "
            f"{_interval(time)}, TPR {time['tpr']:.2f} FPR {time['fpr']:.2f}, "
            f"KS p {time['ks_p']:.2g}; by cached_tokens {count['auc']:.3f}; first token "
            f"{-1e3 * time['median_hit']:.0f} / {-1e3 * time['median_miss']:.0f} ms"
        )
    for length, order in result["order"].items():
        lines.append(f"  {length:>4} tokens: AUC by order {order['auc']:.3f} {_interval(order)}")
    null = result["null"]["by_time"]
    lines.append(f"  nobody said it: AUC by time {null['auc']:.3f} {_interval(null)}")
    trials = [*result["counted"], result["chat"]]
    confirmed = sum(t["confirmed"] for t in trials)
    lines.append(f"  guesses confirmed: {_of(confirmed, sum(t['right_guesses'] for t in trials))}")
    if flagged := result["flagged"]:
        lines.append(
            f"  flagged, shared by many: AUC by time {flagged['by_time']['auc']:.3f} "
            f"{_interval(flagged['by_time'])}, confirmed "
            f"{_of(flagged['confirmed'], flagged['guesses'])}, wrong ones {flagged['false']}"
        )
    for each in result["recovery"]:
        per_token = each["requests_per_token"]
        lines.append(
            f"  {each['how']} by {each['signal']}: {each['share']:.0%} of tokens, "
            f"{_of(each['whole'], each['secrets'])} secrets, "
            f"{'-' if per_token is None else f'{per_token:.1f}'} requests per token"
        )
    tier = result["host_tier"]
    lines.append(
        f"  host tier: AUC by time {tier['by_time']['auc']:.3f}, by cached_tokens "
        f"{tier['by_count']['auc']:.3f}; {tier['from_host']} tokens to the attacker, "
        f"{tier['owner_from_host']} to their owners"
    )
    for each in result["collusion"]:
        lines.append(
            f"  {each['accounts']} accounts, {each['content']}: confirmed "
            f"{_of(each['confirmed'], each['guesses'])}, wrong ones {each['false']}"
        )
    lines += [
        f"  forged: {each['claim']}: {_of(each['works'], each['tries'])} worked"
        for each in result["forgery"]
    ]
    for window in result["monitor"]:
        lines.append(
            f"  after {window['hits_so_far']} probes: AUC by time {window['by_time']['auc']:.2f}, "
            f"by cached_tokens {window['by_count']['auc']:.2f}"
        )
    return "\n".join(lines)
