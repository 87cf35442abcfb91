"""What a deployment chooses about the policy; the tenant flags have the same names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """``mode``: shared, isolated or selective. ``detector``: a key of ``scan_results.SOURCES``, or
    another name for scan results that arrive. ``idle_ttl``: seconds, None is for ever.
    ``join_chains``: whether a private node and its only child may become one node.
    ``batches_ahead``: how many batches may have been launched whose results were not looked at."""

    mode: str = "selective"
    public_users: int = 3
    epoch_requests: int = 1024
    detector: str = "rules"
    rdr_threshold: float = 0.0
    rdr_min_hits: int = 256
    quarantine_epochs: int = 64
    idle_ttl: float | None = None
    join_chains: bool = True
    batches_ahead: int = 0

    @property
    def selective(self) -> bool:
        return self.mode == "selective"
