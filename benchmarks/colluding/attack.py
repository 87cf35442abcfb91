"""What an attacker tries with accounts of theirs, against somebody who may hold what they guess.

The attacker knows everything but one thing: whether the victim is there. A trial plays one guess,
and returns all that the attacker saw of it, as a short tuple.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

from colluding.server import Server
from sglang.srt.tenancy.cache.core.options import PolicyOptions

GUESS = 12  # tokens of one; whole pages of 1 and 4
HITS = 20
ENOUGH = 30  # accounts that make anything public

Seen = tuple[int, ...]


@dataclass(frozen=True)
class Attack:
    """``accounts``: that plant the guess. ``windows``: voting windows it takes. ``each``, ``more``:
    requests of one window, for each account and beyond, at most. ``page_size``: of the server.
    ``steps``: what the attacker does, and the victim, in each window."""

    name: str
    accounts: int
    steps: Callable[[Guess, int], Iterator[None]]
    windows: int = 1
    each: int = 2
    more: int = 6
    page_size: int = 1

    @property
    def most_requests(self) -> int:
        return self.accounts * self.each + self.more

    def with_accounts(self, accounts: int) -> Attack:
        return replace(self, accounts=accounts)


class Guess:
    """One guess on a server: prompts that begin with it, who sends them, and what was seen."""

    def __init__(self, server: Server, number: int, fresh: Iterator[int], *, victim: bool):
        self.server = server
        self.text = [next(fresh) for _ in range(GUESS)]
        self.seen: list[int] = []
        self._number, self._fresh, self._victim = number, fresh, victim
        # What the victim says where it is not the guess: as long, and nobody else's.
        self._other = [next(fresh) for _ in range(GUESS)]

    def plant(self, account: int, length: int = GUESS, ways: int = 2) -> None:
        """Ask with one account in so many ways for what begins with the guess."""
        for _ in range(ways):
            self._ask(f"mallory-{self._number}-{account}", self.text[:length])

    def victim_asks(self, ways: int = 2) -> None:
        for _ in range(ways):
            self._ask(f"victim-{self._number}", self.text if self._victim else self._other)

    def look(self) -> int:
        """Ask for the guess with an account that holds nothing, and leave nothing."""
        found = self.server.probe(f"mallory-{self._number}-probe", [*self.text, next(self._fresh)])
        self.seen.append(found)
        return found

    def drop(self, account: int) -> None:
        """Have an account's copies evicted."""
        self.server.erase(f"mallory-{self._number}-{account}")

    def _ask(self, user: str, prompt: list[int]) -> None:
        self.server.ask(user, [*prompt, *(next(self._fresh) for _ in range(4))])


def _planted(guess: Guess, accounts: int) -> Iterator[None]:
    """All accounts ask for the guess in the victim's window."""
    guess.victim_asks()
    for account in range(accounts):
        guess.plant(account)
    yield
    guess.look()


def _watched(guess: Guess, accounts: int) -> Iterator[None]:
    """Look before the victim comes, after that, and when the window has ended."""
    for account in range(accounts):
        guess.plant(account)
    guess.look()
    guess.victim_asks()
    guess.look()
    yield
    guess.look()


def _repeated(guess: Guess, accounts: int) -> Iterator[None]:
    """Each account asks again and again, in both windows, and so does the victim."""
    for _ in range(2):
        guess.victim_asks()
        for account in range(accounts):
            guess.plant(account, ways=3)
        yield
        guess.look()


def _adaptive(guess: Guess, accounts: int) -> Iterator[None]:
    """Where the first window told nothing, one account more in the second."""
    guess.victim_asks()
    for account in range(accounts):
        guess.plant(account)
    yield
    told = guess.look()
    guess.victim_asks()
    for account in range(0 if told else accounts + 1):
        guess.plant(100 + account)
    yield
    guess.look()


def _dropped(guess: Guess, accounts: int) -> Iterator[None]:
    """As many accounts more plant the guess, and lose it before the window ends."""
    for account in range(2 * accounts):
        guess.plant(account)
    guess.victim_asks()
    for account in range(accounts):
        guess.drop(account)
    yield
    guess.look()


def _evicted(guess: Guess, accounts: int) -> Iterator[None]:
    """Enough accounts to be sure, whose copies are evicted: only the victim's is left."""
    for account in range(accounts):
        guess.plant(account)
    guess.victim_asks()
    for account in range(accounts):
        guess.drop(account)
    yield
    guess.look()


def _split(guess: Guess, accounts: int) -> Iterator[None]:
    """Half of the guess by as many other accounts, and all of it by these."""
    for account in range(accounts):
        guess.plant(200 + account, GUESS // 2)
        guess.plant(account)
    guess.victim_asks()
    yield
    guess.look()


def _bordered(guess: Guess, accounts: int) -> Iterator[None]:
    """As many texts that end at the border of a page as ones that end a token before it."""
    for account in range(accounts):
        guess.plant(account)
        guess.plant(300 + account, GUESS - 1)
    guess.victim_asks()
    yield
    guess.look()


def _public_before(guess: Guess, accounts: int) -> Iterator[None]:
    """First make half of it public with enough accounts; then all of it in the second window."""
    for account in range(ENOUGH):
        guess.plant(400 + account, GUESS // 2)
    yield
    guess.victim_asks()
    for account in range(accounts):
        guess.plant(account)
    yield
    guess.look()


def _demoted(guess: Guess, accounts: int) -> Iterator[None]:
    """Make it public, then hit it as often as a monitor that counts users would not stand."""
    for account in range(ENOUGH):
        guess.plant(500 + account)
    yield
    guess.victim_asks(1)
    for _ in range(HITS):
        guess.plant(500, ways=1)
    guess.look()
    yield
    guess.look()


PLANTED = Attack("planted", 0, _planted)
OTHERS = (
    Attack("watched", 0, _watched),
    Attack("repeated", 0, _repeated, windows=2, each=3),
    Attack("adaptive", 0, _adaptive, windows=2),
    Attack("dropped out", 0, _dropped, each=4),
    Attack("evicted", 0, _evicted),
    Attack("split prefix", 0, _split, each=4),
    Attack("page border", 0, _bordered, each=4, page_size=4),
    Attack("public before", 0, _public_before, windows=2, more=2 * ENOUGH),
    Attack("demotion", 0, _demoted, windows=2, more=2 * ENOUGH + HITS),
)


def play(
    attack: Attack, options: PolicyOptions, guesses: int, seed: int, *, victim: bool
) -> list[Seen]:
    """Play so many guesses side by side on one server: in each window every guess has its steps."""
    rng = random.Random(seed)
    options = replace(options, dp_window=guesses * attack.most_requests)
    server = Server(options, rng.randbytes(32), attack.page_size)
    fresh = count(1)
    boards = [Guess(server, number, fresh, victim=victim) for number in range(guesses)]
    running = [attack.steps(board, attack.accounts) for board in boards]
    for number in range(attack.windows):
        for each in running:
            next(each)
        server.end_window(number)
    for each in running:
        next(each, None)
    return [tuple(board.seen) for board in boards]
