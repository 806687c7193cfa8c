"""Which features were switched off because they failed again and again: ``var/features.json``, until a person turns them on.

Rules kept here: what is off stays off over a restart; a record that cannot be read counts as off, for nobody knows better;
every change is on the disk before it counts, an event, and for a person an alert.

Left to others: when a feature fails (core.features decides what follows), and what being off means (the feature itself).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from outlast.clock import iso
from outlast.core.features import Feature, after_failure
from outlast.core.plainjson import from_json
from outlast.core.record import one_line
from outlast.errors import BadInput
from outlast.store import durable, regular

if TYPE_CHECKING:
    from outlast.control import Order
    from outlast.upkeep import Around

__all__ = ["FEATURES", "Features"]

FEATURES = {"subagents": "sub-agents that this node starts"}


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class _Off(_Named, forbid_unknown_fields=True):
    reason: str


class Features:
    """The features of one node, by name. ``changed`` is called after each change."""

    def __init__(self, around: Around) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._around = around
        self._path = around.home.features
        try:
            self._known = from_json(regular.read(self._path), dict[str, Feature])
        except FileNotFoundError:
            self._known = {}
        except (OSError, ValueError) as error:
            # It stays where it is until a person decides: set aside, the next start would take everything for on.
            around.events.emit("features.unreadable", error=str(error))
            why = f"var/{self._path.name} cannot be read, so nobody knows whether it was off"
            self._known = {name: Feature(off=True, why=why) for name in FEATURES}
        for name in self._known:
            self._alert(name)

    def off(self, name: str) -> str:
        """Why it is off; empty where it is on."""
        feature = self._known.get(name, Feature())
        return (feature.why or "nobody said why") if feature.off else ""

    def failed(self, name: str, most: int, why: str) -> bool:
        """It failed once more; returns whether it is off now. Raises DurabilityError."""
        now = self._around.clock.time()
        self._set(name, after_failure(self._known.get(name, Feature()), now, iso(now), most, why))
        return bool(self.off(name))

    def orders(self) -> dict[str, Order]:
        """What a person may ask for."""
        return {"feature/list": self._list, "feature/on": self._on, "feature/off": self._off}

    def _list(self, _: bytes) -> object:
        return {"features": {name: self._shown(name) for name in FEATURES}}

    def _on(self, body: bytes) -> object:
        name = _known(msgspec.json.decode(body, type=_Named).name)
        self._set(name, Feature())
        return {"name": name, **self._shown(name)}

    def _off(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Off)
        name, why = _known(order.name), one_line(order.reason, 200)
        if not self.off(name):
            feature = self._known.get(name, Feature())
            now = iso(self._around.clock.time())
            self._set(name, msgspec.structs.replace(feature, off=True, by_person=True, why=why, since=now))
        return {"name": name, **self._shown(name)}

    def _shown(self, name: str) -> dict[str, object]:
        feature = self._known.get(name, Feature())
        return {"on": not feature.off, "what": FEATURES[name], "why": self.off(name), "since": feature.since}

    def _set(self, name: str, feature: Feature) -> None:
        before = self._known.get(name, Feature())
        if feature == before:
            return
        known = {**self._known, name: feature}
        durable.replace(self._path, msgspec.json.encode(known) + b"\n")
        self._known = known
        if feature.off != before.off:
            self._around.events.emit("feature.off" if feature.off else "feature.on", name=name, why=self.off(name))
            self._alert(name)
            self.changed()

    def _alert(self, name: str) -> None:
        alert, why = f"feature-{name}", self.off(name)
        if why and not self._known[name].by_person:
            text = f"{name} are switched off: {why}; look into it, then: outlast feature on {name}"
            self._around.alerts.found(alert, "now", text)
        else:
            # A person said so: there is nothing to wait and see.
            self._around.alerts.over(alert)


def _known(name: str) -> str:
    if name not in FEATURES:
        raise BadInput("FEATURE", f"{one_line(name, 40)!r} is not known", f"one of: {', '.join(FEATURES)}")
    return name
