"""Remember what is known of content, beyond the life of its nodes and over a flush."""

from __future__ import annotations

from sglang.srt.tenancy.cache.core.elsewhere import Elsewhere
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.cache.core.promotion_blocklist import PromotionBlocklist
from sglang.srt.tenancy.cache.core.published import Published
from sglang.srt.tenancy.cache.core.scan_results import SOURCES, Scanned, ScanResults
from sglang.srt.tenancy.cache.core.votes import VoteBudget


class SharingMemory:
    """The prefixes that are registered, what may not become public, what is harmless, and what
    other replicas say.

    ``budget``: of users' votes; None where nobody votes."""

    def __init__(self, page_size: int, options: PolicyOptions, secret: bytes):
        self.published = Published(page_size)
        self.blocklist = PromotionBlocklist()
        self.elsewhere = Elsewhere(page_size)
        self.results: ScanResults = SOURCES.get(options.detector, Scanned)()
        self.budget = VoteBudget(options, secret) if options.votes else None
