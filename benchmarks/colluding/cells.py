"""All attacks, under each setting that is compared: what each gained, beside what it may."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

from colluding.advantage import advantage
from colluding.attack import OTHERS, PLANTED, Attack, Seen, play
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.cache.core.vote_threshold import VoteThreshold, advantage_bound

SIDE_BY_SIDE = 50  # guesses on one server
DELTA = 1e-5


@dataclass(frozen=True)
class Setting:
    """``votes``: of a user in a period; 0 counts users, as without --tenant-promotion dp."""

    name: str
    epsilon: float = 0.0
    votes: int = 0

    @property
    def options(self) -> PolicyOptions:
        if not self.votes:
            return PolicyOptions(detector="off-trust-all")
        return PolicyOptions(
            detector="off-trust-all",
            promotion="dp",
            dp_epsilon=self.epsilon,
            dp_delta=DELTA,
            dp_votes=self.votes,
        )

    @property
    def bound(self) -> float:
        """What no attack may gain. Counting has none: it is held to the weakest of the others."""
        return advantage_bound(self.epsilon if self.votes else MAIN.epsilon, DELTA)

    @property
    def threshold(self) -> VoteThreshold:
        return VoteThreshold(
            self.epsilon / self.votes, DELTA / self.votes, self.options.public_users
        )

    def describe(self) -> dict[str, Any]:
        threshold = self.threshold
        return {
            **asdict(self),
            "delta": DELTA,
            "bound": self.bound,
            "votes_least": threshold.least,
            "votes_median": threshold.median,
            "votes_most": threshold.most,
            "one_vote_changes": threshold.sharpest,
        }

    @property
    def sharpest(self) -> int:
        """Accounts with which one vote more changes most."""
        return int(self.threshold.median) - 1


COUNT = Setting("count")
SETTINGS = (
    Setting("dp, epsilon 0.5", 0.5, 1),
    Setting("dp, epsilon 1", 1.0, 1),
    Setting("dp, epsilon 2", 2.0, 1),
    Setting("dp, epsilon 2 in 2 votes", 2.0, 2),
)
MAIN = SETTINGS[3]  # whose windows compose: all attacks are tried on it
DEFAULT = SETTINGS[1]


@dataclass(frozen=True)
class Cell:
    setting: Setting
    attack: Attack


def cells(*, all_of_them: bool = True) -> list[Cell]:
    """Numbers of accounts around the one where a vote matters most, and all attacks with that."""
    found = [Cell(COUNT, PLANTED.with_accounts(number)) for number in (1, 2, 3)]
    shifts = (-8, -3, -1, 0, 2) if all_of_them else (0,)
    found += [_planted(DEFAULT, shift) for shift in shifts]
    if all_of_them:
        found += [_planted(one, shift) for one in SETTINGS[2:] for shift in (-3, 0, 2)]
        found.append(_planted(SETTINGS[0], 0))
    return found + [Cell(MAIN, attack.with_accounts(MAIN.sharpest)) for attack in OTHERS]


def _planted(setting: Setting, shift: int) -> Cell:
    return Cell(setting, PLANTED.with_accounts(setting.sharpest + shift))


def measure(
    wanted: list[Cell], trials: int, step: Callable[[], object], workers: int = 2
) -> list[dict[str, Any]]:
    """``trials``: of each kind that are judged, with the victim and without; a tenth more are what
    the rule is learnt on."""
    jobs = list(_jobs(wanted, trials + trials // 10))
    gc.freeze()  # or each collection would look at all that was imported
    seen: dict[tuple[int, bool], list[Seen]] = {}
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(_run, job): job for job in jobs}
        for done in as_completed(running):
            job = running[done]
            seen.setdefault((job.cell_number, job.victim), []).extend(done.result())
            step()
    return [
        {
            "setting": cell.setting.name,
            "attack": cell.attack.name,
            "accounts": cell.attack.accounts,
            "bound": cell.setting.bound,
            **asdict(advantage(seen[number, True], seen[number, False], trials // 10)),
        }
        for number, cell in enumerate(wanted)
    ]


@dataclass(frozen=True)
class _Job:
    cell_number: int
    cell: Cell
    victim: bool
    seed: int
    guesses: int


def number_of_jobs(wanted: list[Cell], trials: int) -> int:
    return len(list(_jobs(wanted, trials + trials // 10)))


def _jobs(wanted: list[Cell], trials: int) -> Iterator[_Job]:
    for number, cell in enumerate(wanted):
        for victim in (False, True):
            for block in range(0, trials, 20 * SIDE_BY_SIDE):
                guesses = min(20 * SIDE_BY_SIDE, trials - block)
                yield _Job(number, cell, victim, 2 * block + victim, guesses)


def _run(job: _Job) -> list[Seen]:
    found: list[Seen] = []
    while len(found) < job.guesses:
        guesses = min(SIDE_BY_SIDE, job.guesses - len(found))
        # The victim's trials have other coins: equal ones would make two samples one.
        seed = (job.cell_number << 40) + (job.seed << 8) + len(found) // SIDE_BY_SIDE
        found += play(job.cell.attack, job.cell.setting.options, guesses, seed, victim=job.victim)
    return found
