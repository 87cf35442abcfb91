"""What is stored of a request, and under which name."""

from __future__ import annotations

from dataclasses import dataclass

# Of what an entry holds, and of what its key is made of: entries of another version are not found.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Key:
    """Names what one user asked for. ``owner``: the user's id; ``digest``: of the request."""

    owner: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """The answers to a request.

    ``created``: Unix time of the first one, in seconds. ``seconds``: that it took. ``bodies``: JSON
    of the endpoint's final objects; several where samples were added to a bucket.
    """

    created: float
    seconds: float
    bodies: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes, without those that a store adds."""
        return sum(len(body) for body in self.bodies)
