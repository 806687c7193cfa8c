"""The operating modes as a pure state machine (spec.md, section 6).

Rules kept here: maintenance is what a person wrote; emergency is left only when a person says so; degraded is left when its
causes were gone for two checks in a row (hysteresis); every mode comes with the observations that explain it; what
is shed goes by priority, and P0 never does.

Left to others: observing (health), and leaving out what is shed: everybody asks ``pace`` before it begins something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "DUTIES",
    "Duty",
    "Mode",
    "Observed",
    "Shed",
    "Standing",
    "Thresholds",
    "decide",
    "declare",
    "pace",
    "resume",
    "shed",
]

Mode = Literal["normal", "degraded", "emergency", "maintenance"]
_CALM_CHECKS = 2
# How often work runs, by mode and priority; what is not named runs always. P0, answering people, is never shed.
_PACE: dict[Mode, dict[str, int]] = {
    "degraded": {"P2": 2, "P3": 0},
    "emergency": {"P1": 0, "P2": 0, "P3": 0},
    "maintenance": {"P1": 0, "P2": 0, "P3": 0},
}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When to degrade: percent of the disk in use, and seconds of a sibling's silence."""

    disk_degraded: int
    disk_emergency: int
    sibling_silent: float


@dataclass(frozen=True, slots=True)
class Observed:
    """One check: percent of the disk in use, seconds since each peer was heard, and what a person wrote.

    ``causes``: what else was found that is a reason to shed, in words.
    """

    disk: float
    silence: Mapping[str, float]
    maintenance: bool
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """The mode, its reasons, whether an emergency is not yet cleared by a person, and calm checks in a row.

    ``silence``: a sibling's silence is all that explains it, which is told by its own rules (spec.md, F1 to F3).
    """

    mode: Mode = "normal"
    reasons: tuple[str, ...] = ()
    emergency: tuple[str, ...] = ()
    calm: int = 0
    silence: bool = False


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that is done here. ``kind``: duty (the runtime's own), service, or job."""

    name: str
    priority: str
    kind: str = "duty"


@dataclass(frozen=True, slots=True)
class Shed:
    """A duty that rests, or is done less often."""

    name: str
    priority: str
    kind: str
    how: Literal["off", "less often"]


# What the runtime itself does, apart from what node.yml declares.
DUTIES = (
    Duty("memory compaction", "P3"),
    Duty("heartbeat monitoring", "P1"),
    Duty("sub-agent oversight", "P1"),
    Duty("work handed over by peers", "P1"),
    Duty("answering the human", "P0"),
)
# Shed first to last (spec.md, section 6); jobs and services of these names take their place in it.
_ORDER = (
    "entity extraction",
    "proactive e-mail and calendar",
    "memory compaction",
    "autostudy",
    "property search",
    "heartbeat monitoring",
    "sub-agent oversight",
    "answering the human",
)


def decide(before: Standing, seen: Observed, limits: Thresholds) -> Standing:
    """The standing after one more check."""
    emergency = before.emergency
    if not emergency and seen.disk > limits.disk_emergency:
        emergency = (f"disk {seen.disk:.0f} % full",)
    causes = [f"disk {seen.disk:.0f} % full"] if seen.disk > limits.disk_degraded else []
    causes += [
        f"{peer} silent for {silent / 60:.0f} min"
        for peer, silent in sorted(seen.silence.items())
        if silent > limits.sibling_silent
    ]
    silence = bool(causes) and seen.disk <= limits.disk_degraded and not seen.causes
    causes += seen.causes
    calm = 0 if causes else min(before.calm + 1, _CALM_CHECKS)
    if seen.maintenance:
        return Standing("maintenance", ("MAINTENANCE_MODE in HEARTBEAT.md",), emergency, calm)
    if emergency:
        return Standing("emergency", emergency, emergency, calm)
    if causes:
        return Standing("degraded", tuple(causes), (), 0, silence)
    if before.mode == "degraded" and calm < _CALM_CHECKS:
        return replace(before, emergency=(), calm=calm)
    return Standing("normal", (), (), calm)


def declare(before: Standing, reason: str) -> Standing:
    """A person, or what found a breach, says that there is an emergency. The next check shows it."""
    return replace(before, emergency=tuple(dict.fromkeys((*before.emergency, reason))))


def resume(before: Standing) -> Standing:
    """A person says that the emergency is over. The next check may find another."""
    return replace(before, emergency=())


def pace(mode: Mode, priority: str) -> int:
    """How often work of a priority (P0 to P3) runs in a mode: 1 always, 2 every second time, 0 never."""
    return _PACE.get(mode, {}).get(priority, 1)


def shed(mode: Mode, duties: Iterable[Duty]) -> list[Shed]:
    """What of ``duties`` rests in a mode, or is done less often, in the order in which it is shed."""

    order = [_plain(name) for name in _ORDER]

    def place(duty: Duty) -> tuple[int, int, str]:
        name = _plain(duty.name)
        return -int(duty.priority[1:]), order.index(name) if name in order else len(order), duty.name

    found = [(duty, pace(mode, duty.priority)) for duty in sorted(duties, key=place)]
    return [
        Shed(one.name, one.priority, one.kind, "less often" if often else "off") for one, often in found if often != 1
    ]


def _plain(name: str) -> str:
    """Jobs and services are named without spaces."""
    return name.replace("-", " ")
