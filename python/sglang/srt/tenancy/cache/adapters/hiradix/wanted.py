"""What a waiting request looks for in storage, and under which names."""

from __future__ import annotations

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.adapters.hiradix.hashes import page_hashes, tag
from sglang.srt.tenancy.namespace import Namespace


class Wanted(RadixKey):
    """The tokens to look for in storage, and whose names they may have.

    ``public_pages``: how many of the first pages may be asked for under public names.
    ``above``: the tokens before, where they are public, or None.
    """

    __slots__ = ("above", "public_pages")

    @property
    def above_is_public(self) -> bool:
        return self.above is not None

    def public_names(self, above: str | None, page_size: int) -> list[str]:
        """Name the pages as public ones. ``above``: hash of the page before the first.

        Without an owner all names are public.
        """
        namespace = self.extra_key
        if type(namespace) is not Namespace:
            plain, end = namespace, len(self)
        elif self.above_is_public:
            plain, end = namespace.extra_key, self.public_pages * page_size
        else:
            return []
        start = tag("", plain, above) if above is None else above
        return page_hashes(self[:end], start, page_size) if end else []

    def own_names(self, above: str | None, page_size: int, public: int) -> list[str]:
        """Name those behind ``public`` public pages; ``above``: hash of the last of them."""
        namespace, rest = self.extra_key, self[public * page_size :]
        if type(namespace) is not Namespace or not len(rest):
            return []
        if self.above_is_public:
            above = tag(namespace.owner, namespace.extra_key, above)
        return page_hashes(rest, above, page_size)

    def names_before_publication(self, page_size: int) -> tuple[list[str], list[str]]:
        """Name the owner's pages as when nothing before them was public: of the tokens
        above, and of these."""
        namespace = self.extra_key
        if type(namespace) is not Namespace or self.above is None:
            return [], []
        above, last = [], tag(namespace.owner, namespace.extra_key, None)
        if len(self.above):
            above = page_hashes(self.above, last, page_size)
            last = above[-1]
        return above, page_hashes(self, last, page_size)
