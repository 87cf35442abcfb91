"""What the tree promises, in plain dictionaries and one page of tokens at a time.

Written from the rules in docs/tree.md and the design, not from the code. It knows no nodes,
no slots and no tiers. Where the rules leave a choice (what is evicted; which of the first
holders gets a demoted page; how a merged owner's earlier hits are summed up) it accepts the
tree's choice, after checking that it is one of those allowed.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sglang.srt.tenancy.cache.core.node import NO_PROMOTE, SCANNED_CLEAN, Node
from sglang.srt.tenancy.user_id import account_name
from support.engine import Seen, Setting

# upstream's extra key, and all tokens up to the end of the page
Place = tuple[str | None, tuple[int, ...]]

OTHERS = "somebody"  # shared mode knows no owners
NOBODY = ""  # to whom pages go back whose first owner was erased


class ModelError(AssertionError):
    """The tree shows what it must not, or hides what it must show."""


@dataclass
class Range:
    """A count that is known only within bounds."""

    low: int = 0
    high: int = 0

    def add(self, other: Range) -> None:
        self.low += other.low
        self.high += other.high


@dataclass
class Holding:
    """One owner's private copy of a page."""

    epoch: int
    no_promote: bool
    harmless: bool = False  # a detector has said so
    cur: Range = field(default_factory=Range)
    pre: Range = field(default_factory=Range)

    def roll(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.pre = self.cur if epoch == self.epoch + 1 else Range()
            self.cur = Range()
            self.epoch = epoch


@dataclass
class Public:
    """A page that serves everybody."""

    candidates: set[str]  # any of these may be its first owner
    registered: bool
    earned: bool  # enough users hold it: it needs nobody's word
    epoch: int
    cur: Range = field(default_factory=Range)
    pre: Range = field(default_factory=Range)
    users: set[str] = field(default_factory=set)
    maybe_users: set[str] = field(default_factory=set)
    before: Range = field(default_factory=Range)  # distinct users, the epoch before

    def roll(self, epoch: int) -> None:
        if epoch == self.epoch:
            return
        follows = epoch == self.epoch + 1
        self.pre = self.cur if follows else Range()
        self.cur = Range()
        high = len(self.users | self.maybe_users)
        self.before = Range(len(self.users), high) if follows else Range()
        self.users, self.maybe_users = set(), set()
        self.epoch = epoch


@dataclass
class Page:
    public: Public | None = None
    owners: dict[str, Holding] = field(default_factory=dict)
    wrote: set[str] = field(default_factory=set)  # whoever inserted it, and was not erased

    def seen_by(self, user: str) -> bool:
        return self.public is not None or user in self.owners


class Model:
    def __init__(self, setting: Setting):
        self.setting = setting
        self.page = setting.page_size
        self.pages: dict[Place, Page] = {}
        self.published: list[tuple[int, ...]] = []
        self.admitted = 0
        self.bans: dict[Place, int] = {}  # a page -> the epoch from which it may be public
        self.sensitive: set[Place] = set()  # whatever begins so may never be public
        self.judged: set[Place] = set()  # pages of which a detector has said that they are harmless
        # Pages at which a prefix ends that is public at other replicas, private again at one, or
        # private again here.
        self.elsewhere: set[Place] = set()
        self.demoted_elsewhere: set[Place] = set()
        self.demoted_here: set[Place] = set()
        self.by_word_of_others = 0  # pages
        # Who votes for the prefixes that end with these pages; how often each has in this period.
        self.votes: dict[Place, dict[str, Holding]] = {}
        self.spent: Counter[str] = Counter()
        self.windows = 0
        self.voted_public = 0  # prefixes
        # What storage may give to whom, however long ago it was written.
        self.was_public: set[Place] = set()
        self.written: dict[Place, set[str]] = {}

    @property
    def epoch(self) -> int:
        return self.admitted // self.setting.epoch_requests

    # What a user sees

    def visible(self, user: str, plain: str | None, tokens: array[int]) -> int:
        """How many first tokens this user may match, in whole pages."""
        length = 0
        for end, place in self._path(plain, tokens):
            page = self.pages.get(place)
            if page is None or not page.seen_by(user):
                break
            length = end
        return length

    def _path(self, plain: str | None, tokens: array[int]) -> Iterator[tuple[int, Place]]:
        for end in range(self.page, len(tokens) + 1, self.page):
            yield end, (plain, tuple(tokens[:end]))

    # What a request does

    def insert(self, user: str, plain: str | None, tokens: array[int], *, no_promote: bool) -> None:
        """The whole pages of ``tokens`` are in the tree from now on."""
        shared = self.setting.mode == "shared"
        for _, place in self._path(plain, tokens):
            page = self.pages.setdefault(place, Page())
            page.wrote.add(user)
            self.written.setdefault(place, set()).add(user)
            if shared:
                self.was_public.add(place)
                page.public = page.public or Public({OTHERS}, False, True, 0)
            elif page.public is None:
                mine = page.owners.setdefault(user, Holding(self.epoch, no_promote))
                mine.no_promote &= no_promote

    def count(
        self, user: str, plain: str | None, tokens: array[int], counted: int | None, least: int
    ) -> None:
        """A request's path is these tokens; of the first ``counted`` all pages know, None: it was
        admitted just now. ``least``: 0 where a page may have been joined to such a one since."""
        if counted is None:
            self.admitted += 1
        for end, place in self._path(plain, tokens):
            if counted is not None and end <= counted:
                continue
            page = self.pages.get(place)
            if page is None:
                break
            if page.public is not None:
                page.public.roll(self.epoch)
                page.public.cur.add(Range(least, 1))
                (page.public.users if least else page.public.maybe_users).add(account_name(user))
            elif user in page.owners:
                mine = page.owners[user]
                mine.roll(self.epoch)
                # A joined page has the hits of the last page that it was joined to.
                mine.cur.add(Range(0, 1))
            else:
                break

    def promote(self, user: str, plain: str | None, tokens: array[int]) -> bool:
        """After this user's insert of these tokens, which nothing keeps private. Returns whether
        anything became public."""
        if self.setting.mode != "selective":
            return False
        path = [place for _, place in self._path(plain, tokens)]
        start = 0
        while start < len(path) and self.pages[path[start]].public is not None:
            start += 1
        own = []
        for place in path[start:]:
            if self.pages[place].owners[user].no_promote:
                break
            own.append(place)
        registered = min(self.covered(tokens) // self.page - start, len(own))
        earned = told = 0
        if self.setting.promotion == "count":
            earned, told = self._earned(user, own), self._public_elsewhere(own)
        number = max(registered, earned, told)
        self.by_word_of_others += max(0, told - max(registered, earned))
        self._make_public(own[:number], registered)
        return number > 0

    def _make_public(self, places: list[Place], registered: int) -> None:
        for index, place in enumerate(places):
            page = self.pages[place]
            for holding in page.owners.values():
                holding.roll(self.epoch)
            by_word = index < registered
            self.was_public.add(place)
            page.public = Public(set(page.owners), by_word, not by_word, self.epoch)
            for owner, holding in page.owners.items():
                page.public.cur.add(holding.cur)
                page.public.pre.add(holding.pre)
                page.public.before.add(Range(0, min(1, holding.pre.high)))
                if holding.cur.high:
                    page.public.maybe_users.add(owner)
            page.owners = {}

    # Votes

    def vote(self, user: str, plain: str | None, tokens: array[int]) -> None:
        """Once for the first private page of these tokens behind which the user goes on in more
        than one way."""
        for _, place in self._path(plain, tokens):
            page = self.pages[place]
            if page.public is not None:
                continue
            goes_on = [
                below
                for below, held in self.pages.items()
                if user in held.owners and (below[0], below[1][: -self.page]) == place
            ]
            if len(goes_on) > 1:
                self._cast(account_name(user), place, page.owners[user])
                return

    def _cast(self, user: str, place: Place, mine: Holding) -> None:
        if self.spent[user] == self.setting.dp_votes:
            return
        voters = self.votes.setdefault(place, {})
        self.spent[user] += user not in voters
        voters[user] = mine

    def end_window(self, threshold: Callable[[Place, int], int]) -> list[Place]:
        """Count the votes, if this request was the last of a window. Returns the prefixes that
        have enough. ``threshold``: of the prefix that ends with a page, in a window."""
        if self.setting.promotion == "count" or self.admitted % self.setting.dp_window:
            return []
        enough = [
            place
            for place in self.votes
            if self._count_votes(place) >= threshold(place, self.windows)
        ]
        self.votes.clear()
        self.windows += 1
        if self.windows % self.setting.dp_period == 0:
            self.spent.clear()
        return enough

    def publish_voted(self, place: Place) -> None:
        """So many users have voted for what ends with this page."""
        path = [above for _, above in self._path(place[0], array("q", place[1]))]
        private = [above for above in path if not self.pages[above].public]
        self._make_public(private, 0)
        self.voted_public += bool(private)

    def publish_seen(self, now: dict[Place, Seen]) -> None:
        """As ``publish_voted``, where eviction has taken votes that nobody knows of: what the tree
        shows, as long as enough users have written it."""
        for place, seen in sorted(now.items(), key=lambda item: len(item[0][1])):
            page = self.pages.get(place)
            if page is None or page.public or not seen.public:
                continue
            if len(page.wrote) < self.setting.public_users:
                raise ModelError("a page is public for which too few can have voted")
            self.publish_voted(place)

    def _count_votes(self, place: Place) -> int:
        return sum(self._votes(place, user, mine) for user, mine in self.votes[place].items())

    def _votes(self, place: Place, user: str, mine: Holding) -> bool:
        """Whether a vote still counts: its user holds all of the prefix, and nothing is against
        it in their copy."""
        for _, above in self._path(place[0], array("q", place[1])):
            page = self.pages.get(above, Page())
            if page.public is not None:
                continue
            held = page.owners.get(user)
            if held is None or held.no_promote:
                return False
            if self.setting.detector != "off-trust-all" and not held.harmless:
                return False
            if above == place and held is not mine:
                return False
        return True

    def _earned(self, user: str, own: list[Place]) -> int:
        """How many of a user's private pages are harmless, and enough users hold them."""
        if self.setting.detector == "none":
            return 0
        lengths: dict[str, int] = {}
        for index, place in enumerate(own):
            if self._is_blocked(place):
                break
            if self.setting.detector == "rules" and not self.pages[place].owners[user].harmless:
                break
            for owner, holding in self.pages[place].owners.items():
                recent = holding.epoch >= self.epoch - 1
                if lengths.get(owner, 0) == index and recent and not holding.no_promote:
                    lengths[owner] = index + 1
        ranking = sorted(lengths.values(), reverse=True)
        enough = self.setting.public_users
        return ranking[enough - 1] if len(ranking) >= enough else 0

    def _public_elsewhere(self, own: list[Place]) -> int:
        """How many of a user's private pages other replicas have made public, with nothing against
        it here or there."""
        longest = 0
        for index, place in enumerate(own):
            if self._is_blocked(place) or self._begins_with_demoted(place):
                break
            if place in self.elsewhere:
                longest = index + 1
        return longest

    def _is_blocked(self, place: Place) -> bool:
        return self.bans.get(place, 0) > self.epoch or self._is_sensitive(place)

    def _begins_with_demoted(self, place: Place) -> bool:
        plain, tokens = place
        return any(
            plain == other and tokens[: len(begins)] == begins
            for other, begins in self.demoted_elsewhere | self.demoted_here
        )

    def hear(self, plain: str | None, tokens: array[int], *, demoted: bool) -> None:
        """Another replica has made these whole pages public, or private again."""
        (self.demoted_elsewhere if demoted else self.elsewhere).add((plain, tuple(tokens)))

    def to_tell(self) -> tuple[set[Place], set[Place]]:
        """The pages at which prefixes may end of which other replicas are told, and those at which
        one must: nothing public goes on there."""
        may = set()
        for place, page in self.pages.items():
            path = [part for _, part in self._path(place[0], array("q", place[1]))]
            if page.public and page.public.earned and not any(map(self._is_blocked, path)):
                may.add(place)
        public = {place for place, page in self.pages.items() if page.public}
        above = {(plain, tokens[: -self.page]) for plain, tokens in public}
        return may, may - above

    def _follows_sensitive(self, place: Place) -> bool:
        """Whether something sensitive is in this page or before it."""
        plain, tokens = place
        return any(
            plain == other and tokens[: len(begins)] == begins for other, begins in self.sensitive
        )

    def _is_sensitive(self, place: Place) -> bool:
        """Whether something sensitive begins in this page."""
        plain, tokens = place
        return any(
            (plain, tokens[:end]) in self.sensitive
            for end in range(len(tokens) - self.page + 1, len(tokens) + 1)
        )

    # Verdicts and storage

    def judge(
        self, user: str, plain: str | None, tokens: array[int], harmless: int, sensitive: int | None
    ) -> None:
        """The first ``harmless`` tokens are; ``sensitive``: index of one that is not."""
        if self.setting.mode != "selective":
            return
        if sensitive is not None and sensitive < len(tokens):
            end = min(len(tokens), (sensitive // self.page + 1) * self.page)
            self.sensitive.add((plain, tuple(tokens[:end])))
            for last, place in self._path(plain, tokens):
                page = self.pages.get(place)
                if last > sensitive and page is not None and user in page.owners:
                    page.owners[user].harmless = False
        last, own = 0, False
        for end, place in self._path(plain, tokens[:harmless]):
            page = self.pages.get(place)
            if page is None or not page.seen_by(user):
                break
            if page.public is None:
                page.owners[user].harmless = own = True
                self.judged.add(place)
            last = end
        if own:
            self.promote(user, plain, tokens[:last])

    def fetch(
        self, user: str, plain: str | None, tokens: array[int], new: dict[Place, Seen]
    ) -> None:
        """These pages have come from storage for a user: they must be what they asked for, and
        theirs, or public once."""
        asked = {place for _, place in self._path(plain, tokens)}
        for place, seen in new.items():
            if place not in asked:
                raise ModelError("storage gave a page that nobody asked for")
            if place not in self.was_public and user not in self.written.get(place, ()):
                raise ModelError("storage gave a page of somebody else")
            page = self.pages.setdefault(place, Page())
            if self.setting.mode == "shared":
                page.public = Public({OTHERS}, False, True, 0)
            elif seen.public or user not in seen.owners or page.public is not None:
                raise ModelError("a fetched page is private to who asked for it")
            else:
                page.owners[user] = Holding(self.epoch, True)
                page.wrote.add(user)

    # What operators do

    def covered(self, tokens: array[int] | tuple[int, ...]) -> int:
        """How many first tokens, in whole pages, begin a published prefix."""
        longest = 0
        for prefix in self.published:
            same = 0
            while same < min(len(prefix), len(tokens)) and prefix[same] == tokens[same]:
                same += 1
            longest = max(longest, same)
        return longest // self.page * self.page

    def publish(self, tokens: array[int]) -> None:
        prefix = tuple(tokens[: len(tokens) // self.page * self.page])
        if prefix not in self.published:
            self.published.append(prefix)
        if self.setting.mode != "selective":
            return
        for (_, place), page in self.pages.items():
            if page.public is not None and prefix[: len(place)] == place:
                page.public.registered = True

    def withdraw(self, tokens: array[int]) -> list[Place]:
        """Returns the pages at which the tree must become private again."""
        prefix = tuple(tokens[: len(tokens) // self.page * self.page])
        self.published.remove(prefix)
        still = self.covered(prefix)
        tops = []
        for plain in sorted({plain for plain, _ in self.pages}, key=repr):
            for end, place in self._path(plain, array("q", prefix)):
                page = self.pages.get(place)
                if page is None or page.public is None:
                    break
                if end <= still:
                    continue
                page.public.registered = False
                if not page.public.earned:
                    tops.append(place)
                    break
        return tops

    def erase(self, user: str) -> None:
        for place in list(self.pages):
            page = self.pages[place]
            page.owners.pop(user, None)
            page.wrote.discard(user)
            if page.public is not None and user in page.public.candidates:
                page.public.candidates -= {user}
                page.public.candidates |= {NOBODY}
            if page.public is None and not page.owners:
                del self.pages[place]
        for voters in self.votes.values():
            voters.pop(user, None)

    def flush(self) -> None:
        self.pages.clear()
        self.votes.clear()

    # Demotion

    def suspects(self, plain: str | None, tokens: array[int]) -> tuple[set[Place], set[Place]]:
        """After a counted request: the pages of its path that may be demoted, and of those the
        ones that must be, if none above them is."""
        may, must = set(), set()
        limit, least = self.setting.rdr_threshold, self.setting.rdr_min_hits
        for _, place in self._path(plain, tokens):
            public = self.pages[place].public if place in self.pages else None
            if public is None:
                break
            if public.registered:
                continue
            low, high = (public.cur.low + public.pre.low), (public.cur.high + public.pre.high)
            users = len(public.users) + public.before.low
            most = len(public.users | public.maybe_users) + public.before.high
            if high >= least and users < limit * high:
                may.add(place)
            if low >= least and most < limit * low:
                must.add(place)
        return may, must

    def demoted(self, top: Place, now: dict[Place, Seen], *, ban: bool, evicted: bool) -> None:
        """The tree took this page, and what is below, from the public: check to whom it went,
        and follow. ``evicted``: it may be gone already, as its owner's share is small."""
        plain, tokens = top
        page = self.pages[top]
        seen = now.get(top)
        assert page.public is not None
        if seen is None and (evicted or NOBODY in page.public.candidates):
            owner = NOBODY
        elif seen is None or seen.public or len(seen.owners) != 1:
            raise ModelError("a demoted page has one owner")
        else:
            owner = next(iter(seen.owners))
        if owner and owner not in page.public.candidates:
            raise ModelError("a demoted page goes to somebody who held it first")
        if ban:
            self.demoted_here.add(top)
            self.bans[top] = max(self.bans.get(top, 0), self.epoch + self.setting.quarantine_epochs)
        below = [
            place for place in self.pages if place[0] == plain and place[1][: len(tokens)] == tokens
        ]
        kept: set[tuple[int, ...]] = {tokens[: -self.page]}
        for place in sorted(below, key=lambda place: len(place[1])):
            if (
                owner
                and place[1][: -self.page] in kept
                and self._keeps(place, owner, now.get(place))
            ):
                kept.add(place[1])
            else:
                del self.pages[place]

    def _keeps(self, place: Place, owner: str, seen: Seen | None) -> bool:
        """Whether a page below a demoted one stays with its owner."""
        page = self.pages[place]
        public = page.public
        if public is None:
            if owner not in page.owners:
                return False
            page.owners = {owner: page.owners[owner]}
            return True
        if owner not in public.candidates:
            return False
        if seen is None and public.candidates != {owner}:
            return False
        harmless = seen is not None and bool(seen.owners[owner].state & SCANNED_CLEAN)
        page.owners = {owner: Holding(public.epoch, False, harmless, public.cur, public.pre)}
        page.public = None
        return True

    # Comparison

    def compare(self, now: dict[Place, Seen], *, evicted: bool) -> None:
        """The tree shows what it should, and nothing else. What was evicted is forgotten here
        too; nothing else may be missing, and nothing may have appeared."""
        for place, seen in now.items():
            page = self.pages.get(place)
            where = f"page {len(place[1]) // self.page} of {place[0]!r}"
            if page is None:
                raise ModelError(f"{where} is there, and nobody has it: {sorted(seen.owners)}")
            if seen.public:
                if page.public is None:
                    raise ModelError(f"{where} is public, and must not be: {page}")
            elif page.public is not None:
                if not evicted:
                    raise ModelError(f"{where} is private, and should be public: {page}")
                if not seen.owners.keys() <= page.wrote:
                    raise ModelError(f"{where} is with a stranger")
                page.public = None
                page.owners = {
                    owner: Holding(
                        node.epoch,
                        bool(node.state & NO_PROMOTE),
                        bool(node.state & SCANNED_CLEAN),
                        Range(0, node.hit_cur),
                        Range(0, 99),
                    )
                    for owner, node in seen.owners.items()
                }
            elif seen.owners.keys() != page.owners.keys():
                if not evicted or not seen.owners.keys() <= page.owners.keys():
                    raise ModelError(
                        f"{where} is with {sorted(seen.owners)}, not {sorted(page.owners)}"
                    )
                page.owners = {owner: page.owners[owner] for owner in seen.owners}
            for owner, node in seen.owners.items():
                self._compare_verdict(place, page.owners[owner], node, evicted=evicted)
        gone = self.pages.keys() - now.keys()
        if gone and not evicted:
            raise ModelError(f"{len(gone)} pages are gone")
        for place in gone:
            del self.pages[place]

    def _compare_verdict(
        self, place: Place, holding: Holding, node: Node, *, evicted: bool
    ) -> None:
        """Only what was judged is taken for harmless; eviction forgets."""
        harmless = bool(node.state & SCANNED_CLEAN)
        if harmless and place not in self.judged:
            raise ModelError("a page is taken for harmless that nobody has judged")
        forgotten = holding.harmless and (evicted or self._follows_sensitive(place))
        if harmless != holding.harmless and not forgotten:
            raise ModelError("a verdict is on another page than was judged")
        holding.harmless = harmless
