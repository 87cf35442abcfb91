"""What a deployment chooses about the policy; the tenant flags have the same names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """``mode``: shared, isolated or selective. ``detector``: a key of ``scan_results.SOURCES``, or
    another name for scan results that arrive. ``idle_ttl``: seconds, None is for ever.
    ``promotion``: count or dp; the ``dp_`` options belong to the latter, ``dp_window`` in admitted
    requests, ``dp_period`` in windows. ``join_chains``: whether a private node and its only child
    may become one node.
    ``batches_ahead``: how many batches may have been launched whose results were not looked at."""

    mode: str = "selective"
    public_users: int = 3
    epoch_requests: int = 1024
    detector: str = "rules"
    rdr_threshold: float = 0.0
    rdr_min_hits: int = 256
    quarantine_epochs: int = 64
    idle_ttl: float | None = None
    promotion: str = "count"
    dp_epsilon: float = 1.0
    dp_delta: float = 1e-5
    dp_votes: int = 1
    dp_window: int = 4096
    dp_period: int = 64
    join_chains: bool = True
    batches_ahead: int = 0

    @property
    def selective(self) -> bool:
        return self.mode == "selective"

    @property
    def votes(self) -> bool:
        """Whether users vote for what becomes public."""
        return self.selective and self.promotion == "dp"
