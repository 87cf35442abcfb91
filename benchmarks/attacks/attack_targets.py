"""What is asked of each mode, and whether it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from report.target import Target

TOLD = 0.95  # AUC from which an attack counts as working
TIMED_FROM = 64  # tokens of a prefix whose prefill can be felt
LUCK = 0.001  # chance of guessing as well, below which it is no luck
FEW = 30  # probes below which a timing is not judged

Results = Mapping[str, Mapping[str, Any]]


def targets(results: Results) -> list[Target]:
    return [
        target.of(mode=name)
        for name, result in results.items()
        for target in (_closed(result) if result["private"] else _open(result))
    ]


def rows(found: list[Target]) -> list[dict[str, Any]]:
    """As the results file has them."""
    return [t.row(target="name", measured="shown", met="met") for t in found]


def _open(result: Mapping[str, Any]) -> Iterator[Target]:
    """The attack must work where nothing is private: else it would prove nothing elsewhere."""
    for length, each in result["membership"].items():
        if length >= TIMED_FROM:
            auc = each["by_time"]["auc"]
            name = f"AUC by time above {TOLD} at {length} tokens"
            yield Target(name, auc, TOLD, ">", shown=f"{auc:.3f}")
        exact = each["by_count"]["auc"]
        name = f"AUC by cached_tokens 1 at {length} tokens"
        yield Target(name, exact, 1, ">=", shown=f"{exact:.3f}")
    flagged = result["flagged"]
    yield all_of("sensitive content confirmed", flagged["confirmed"], flagged["guesses"])
    count, order = (
        next(r for r in result["recovery"] if r["signal"] == signal)
        for signal in ("cached_tokens", "order")
    )
    yield all_of("secrets recovered by cached_tokens", count["whole"], count["secrets"])
    name, share = "order recovers more than chance", order["share"]
    yield Target(name, share, 3 * order["chance"], ">", shown=f"{share:.0%} of tokens")
    from_host = result["host_tier"]["from_host"]
    yield Target("hits from the host tier", from_host, 0, ">", shown=str(from_host))


def _closed(result: Mapping[str, Any]) -> Iterator[Target]:
    for length, each in result["membership"].items():
        by_time = each["by_time"]
        if by_time["hits"] + by_time["misses"] >= FEW:
            name = f"AUC by time silent at {length} tokens"
            yield silent(name, by_time["wide_low"], by_time["wide_high"])
    for length, each in result["order"].items():
        name = f"AUC by order silent at {length} tokens"
        yield silent(name, each["wide_low"], each["wide_high"])
    trials = [*result["counted"], result["chat"]]
    asked, leaked = (sum(t[key] for t in trials) for key in ("right_guesses", "confirmed"))
    yield none_of("no right guess confirmed", leaked, part_of(leaked, asked))
    if result["flagged"]:
        yield from _sensitive(result["flagged"])
    owners, found = (sum(t[key] for t in trials) for key in ("owner_asked", "owner_hits"))
    yield all_of("owners find what they said", found, owners)
    tier = result["host_tier"]
    yield Target.holds(
        "no tokens from others out of the host tier",
        tier["from_host"] == 0 and tier["owner_from_host"] > 0,
        shown=str(tier["from_host"]),
    )
    luck = min(recovery["by_luck"] for recovery in result["recovery"])
    name = "no piece of a secret recovered but by luck"
    yield Target(name, luck, LUCK, ">", shown=f"p {luck:.2g}")
    told = sum(c["confirmed"] for c in result["collusion"] if c["accounts"] < 3)
    yield none_of("nothing confirmed to fewer accounts than the threshold", told, str(told))
    if result["detects"]:
        cases = [c for c in result["collusion"] if c["content"] == "flagged"]
        told = sum(max(0, c["confirmed"] - c["false"]) for c in cases)
        yield none_of("nothing sensitive told to any number of accounts", told, str(told))
    bound = sum(forgery["works"] for forgery in result["forgery"] if forgery["bound"])
    free = sum(forgery["works"] for forgery in result["forgery"] if not forgery["bound"])
    name = "a forged name fails where it is bound, works where not"
    yield Target.holds(name, bound == 0 and free > 0, shown=f"{bound}, {free}")


def _sensitive(flagged: Mapping[str, Any]) -> Iterator[Target]:
    told, asked = flagged["confirmed"], flagged["guesses"]
    yield none_of("nothing sensitive confirmed that many share", told, part_of(told, asked))
    if 2 * asked >= FEW:
        by_time = flagged["by_time"]
        yield silent("AUC by time silent for it", by_time["low"], by_time["high"])
    yield all_of("those who share it find it", flagged["owner_hits"], flagged["owner_asked"])


def silent(name: str, low: float, high: float) -> Target:
    """The interval holds 0.5: the signal tells nothing."""
    return Target.holds(name, low <= 0.5 <= high, shown=f"{low:.2f} to {high:.2f}")


def all_of(name: str, part: int, whole: int) -> Target:
    return Target.holds(name, part == whole, shown=part_of(part, whole))


def none_of(name: str, value: int, shown: str) -> Target:
    return Target(name, value, 0, "<=", shown=shown)


def interval(separation: Mapping[str, Any]) -> str:
    return f"[{separation['low']:.2f}, {separation['high']:.2f}]"


def part_of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def summary(result: Mapping[str, Any]) -> str:
    """A few lines for the terminal."""
    lines = []
    for length, each in result["membership"].items():
        time, count = each["by_time"], each["by_count"]
        lines.append(
            f"  {length:>4} tokens: AUC by time {time['auc']:.3f} "
            f"{interval(time)}, TPR {time['tpr']:.2f} FPR {time['fpr']:.2f}, "
            f"KS p {time['ks_p']:.2g}; by cached_tokens {count['auc']:.3f}; first token "
            f"{-1e3 * time['median_hit']:.0f} / {-1e3 * time['median_miss']:.0f} ms"
        )
    for length, order in result["order"].items():
        lines.append(f"  {length:>4} tokens: AUC by order {order['auc']:.3f} {interval(order)}")
    null = result["null"]["by_time"]
    lines.append(f"  nobody said it: AUC by time {null['auc']:.3f} {interval(null)}")
    trials = [*result["counted"], result["chat"]]
    confirmed = sum(t["confirmed"] for t in trials)
    lines.append(
        f"  guesses confirmed: {part_of(confirmed, sum(t['right_guesses'] for t in trials))}"
    )
    if flagged := result["flagged"]:
        lines.append(
            f"  flagged, shared by many: AUC by time {flagged['by_time']['auc']:.3f} "
            f"{interval(flagged['by_time'])}, confirmed "
            f"{part_of(flagged['confirmed'], flagged['guesses'])}, wrong ones {flagged['false']}"
        )
    for each in result["recovery"]:
        per_token = each["requests_per_token"]
        lines.append(
            f"  {each['how']} by {each['signal']}: {each['share']:.0%} of tokens, "
            f"{part_of(each['whole'], each['secrets'])} secrets, "
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
            f"{part_of(each['confirmed'], each['guesses'])}, wrong ones {each['false']}"
        )
    lines += [
        f"  forged: {each['claim']}: {part_of(each['works'], each['tries'])} worked"
        for each in result["forgery"]
    ]
    for window in result["monitor"]:
        lines.append(
            f"  after {window['hits_so_far']} probes: AUC by time {window['by_time']['auc']:.2f}, "
            f"by cached_tokens {window['by_count']['auc']:.2f}"
        )
    return "\n".join(lines)
