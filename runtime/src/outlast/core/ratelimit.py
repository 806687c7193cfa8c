"""Token buckets: so many messages a window, in bursts up to the whole of it (spec.md, section 4).

Each sender has a bucket a lane, and no lane takes from another's: what keeps the nodes in touch is never starved by work.
A message's lane is told by its id, which is signed, so that it is known before its body is read; an id that claims a lane and
brings something else is refused (net.ingress).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Bucket", "Lane", "lane", "take"]

Lane = Literal["work", "control", "shared"]

_LANES: dict[str, Lane] = {"ping": "control", "trace": "control", "status": "control", "share": "shared"}


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left. ``at`` is the monotonic second at which ``tokens`` was true."""

    tokens: float
    at: float


def lane(kind: str) -> Lane:
    """The lane of a message of this kind; of a message's id what stands before its first ``_`` tells the kind."""
    return _LANES.get(kind, "work")


def take(bucket: Bucket | None, now: float, rate: int, window: float) -> tuple[Bucket, float]:
    """Take one token of ``rate`` tokens a ``window`` of seconds.

    Returns the bucket afterwards, and 0 when there was one, else the seconds until there is. A None bucket is a full one.
    """
    full = float(rate)
    had = full if bucket is None else min(full, bucket.tokens + max(0.0, now - bucket.at) * rate / window)
    if had >= 1.0:
        return Bucket(had - 1.0, now), 0.0
    return Bucket(had, now), (1.0 - had) * window / rate
