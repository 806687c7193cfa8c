"""Features that switch themselves off when they fail again and again (F5): a pure decision over moments of failure.

Rules kept here: the ``most``-th failure within a day switches off, and nothing but a person switches on again; a person who
does so starts the counting anew; what is off stays off for the reason that it was given first.

Left to others: keeping it (work.features), telling it.
"""

from __future__ import annotations

import msgspec

__all__ = ["DAY_S", "Feature", "after_failure"]

DAY_S = 86400.0


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a feature stands. ``failures``: the moments, in seconds since 1970; ``since``: when it was switched off, ISO 8601.

    ``by_person``: it was a person who switched it off.
    """

    off: bool = False
    by_person: bool = False
    why: str = ""
    since: str = ""
    failures: tuple[float, ...] = ()


def after_failure(feature: Feature, now: float, at: str, most: int, why: str) -> Feature:
    """The feature after one more failure ``now`` (seconds since 1970; ``at`` is the same for people)."""
    # A clock that was set back: what lies ahead counts as now.
    recent = tuple(min(moment, now) for moment in feature.failures if moment > now - DAY_S)
    failures = (*recent, now)[-most:]
    if feature.off or len(failures) < most:
        return msgspec.structs.replace(feature, failures=failures)
    return Feature(off=True, why=why, since=at, failures=failures)
