"""Features that switch themselves off (F5): when, for how long, and what a person sees of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.badjson import DEEP
from support.clock import FixedClock

from outlast.alerts import Alerts
from outlast.core.features import DAY_S, Feature, after_failure
from outlast.errors import BadInput
from outlast.home import Home
from outlast.store.events import EventLog
from outlast.work.features import Features


@given(st.lists(st.floats(0, 3 * DAY_S), max_size=30), st.integers(1, 5))
def test_it_is_off_from_the_first_day_with_too_many_failures_on(gaps: list[float], most: int) -> None:
    """Over days of failures: off exactly where ``most`` of them lie within a day, and then for ever."""
    feature, now, moments, should = Feature(), 1e9, list[float](), False
    for gap in gaps:
        now += gap
        moments.append(now)
        should = should or (len(moments) >= most and now - moments[-most] < DAY_S)
        feature = after_failure(feature, now, "at", most, f"at {now}")
        assert feature.off == should
        assert len(feature.failures) <= most
    if feature.off:
        assert feature.why and feature.since == "at"


def test_a_clock_that_was_set_back_counts_no_failure_for_years() -> None:
    """What seems to lie ahead counts as now, and is forgotten a day later."""
    ahead = after_failure(Feature(), 2e9, "", 3, "")
    back = after_failure(ahead, 1e9, "", 3, "")
    assert back.failures == (1e9, 1e9)
    assert after_failure(back, 1e9 + DAY_S, "", 3, "").failures == (1e9 + DAY_S,)


class Scene:
    """Features of a home, without a node."""

    def __init__(self, root: Path) -> None:
        self.home, self.clock = Home(root), FixedClock(1_795_000_000.0)
        self.home.features.parent.mkdir(exist_ok=True)
        self.home.logs.mkdir(parents=True, exist_ok=True)
        events = EventLog(self.home.logs, "coz", self.clock)
        self.alerts = Alerts(events, self.clock)
        self.around: Any = SimpleNamespace(home=self.home, clock=self.clock, events=events, alerts=self.alerts)

    def start(self) -> Features:
        """As at a start of the node."""
        return Features(self.around)

    def told(self, features: Features, order: str, /, **fields: str) -> Any:
        """The answer to an order."""
        return features.orders()[order](msgspec.json.encode(fields))


def test_off_lasts_over_a_restart_until_a_person_acts(tmp_path: Path) -> None:
    """The third failure switches off and says why; a start changes nothing; `on` counts anew."""
    scene = Scene(tmp_path)
    features = scene.start()
    assert [features.failed("subagents", 3, f"reason {at}") for at in range(3)] == [False, False, True]
    for known in (features, scene.start()):
        assert known.off("subagents") == "reason 2"
        assert scene.alerts.holds("feature-subagents")
    changed: list[int] = []
    known.changed = lambda: changed.append(1)
    assert scene.told(known, "feature/on", name="subagents")["on"] and changed == [1]
    assert not scene.alerts.holds("feature-subagents")
    assert not scene.start().failed("subagents", 3, "once")
    assert scene.home.features.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"\xff{", b'{"subagents":{"more":' + DEEP.encode(), DEEP.encode()])
def test_a_record_that_cannot_be_read_counts_as_off(tmp_path: Path, content: bytes) -> None:
    """Nobody knows whether it was off: a person says; until then it is so at every start."""
    scene = Scene(tmp_path)
    scene.home.features.write_bytes(content)
    scene.start()
    features = scene.start()
    assert "features.unreadable" in "".join(path.read_text() for path in scene.home.logs.iterdir())
    assert "var/features.json cannot be read" in features.off("subagents")
    scene.told(features, "feature/on", name="subagents")
    assert scene.start().off("subagents") == ""


def test_a_person_can_switch_off_and_misspell(tmp_path: Path) -> None:
    """With a reason that is shown; the first one stays."""
    scene = Scene(tmp_path)
    features = scene.start()
    assert scene.told(features, "feature/off", name="subagents", reason="tonight")["why"] == "tonight"
    assert scene.told(features, "feature/off", name="subagents", reason="later")["why"] == "tonight"
    # Who did it need not be told.
    assert scene.alerts.shown == [] and scene.start().off("subagents") == "tonight" and scene.alerts.shown == []
    with pytest.raises(BadInput, match="FEATURE: 'sub-agents' is not known; one of: subagents"):
        scene.told(features, "feature/on", name="sub-agents")
