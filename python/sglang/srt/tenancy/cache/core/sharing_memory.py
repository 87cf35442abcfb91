"""Remember what is known of content, beyond the life of its nodes and over a flush."""

from __future__ import annotations

from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.cache.core.promotion_blocklist import PromotionBlocklist
from sglang.srt.tenancy.cache.core.published import Published
from sglang.srt.tenancy.cache.core.scan_results import SOURCES, Scanned, ScanResults


class SharingMemory:
    """The prefixes that are registered, what may not become public, and what is harmless."""

    def __init__(self, page_size: int, options: PolicyOptions):
        self.published = Published(page_size)
        self.blocklist = PromotionBlocklist()
        self.results: ScanResults = SOURCES.get(options.detector, Scanned)()
