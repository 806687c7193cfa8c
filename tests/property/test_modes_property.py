"""The modes over simulated days: never flapping, never without a reason, and P0 never shed."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from outlast.core.modes import DUTIES, Duty, Observed, Standing, Thresholds, decide, declare, pace, resume, shed

LIMITS = Thresholds(85, 95, 1800.0)
MODES = ("normal", "degraded", "emergency", "maintenance")
PRIORITIES = ("P0", "P1", "P2", "P3")
# Half an hour of looks in one stretch; hundreds of stretches are a week.
LOOKS = st.integers(1, 60)


class Days(RuleBasedStateMachine):
    """A node whose disk, siblings, causes and people do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.standing = Standing()
        self.seen = Observed(10.0, {"axiom": 0.0}, maintenance=False)
        self.trouble = False
        self.history: list[tuple[str, bool]] = []
        self.explained = True

    def look(self, seen: Observed) -> None:
        """One check, 30 s after the last one."""
        before, self.standing = self.standing, decide(self.standing, seen, LIMITS)
        trouble = bool(seen.causes) or seen.disk > 85 or any(silent > 1800 for silent in seen.silence.values())
        self.history.append((self.standing.mode, trouble))
        # What explains a mode was observed: now, or it is kept from when it was.
        words = " ".join(self.standing.reasons)
        if self.standing.mode == "degraded" and trouble:
            told = [cause in words for cause in seen.causes] + [seen.disk <= 85 or "disk" in words]
            told += [silent <= 1800 or f"{peer} silent" in words for peer, silent in seen.silence.items()]
            self.explained &= all(told)
        elif self.standing.mode == "degraded":
            self.explained &= self.standing.reasons == before.reasons
        self.explained &= bool(self.standing.reasons) == (self.standing.mode != "normal")
        self.explained &= self.standing.silence == (
            self.standing.mode == "degraded" and all(" silent for " in reason for reason in self.standing.reasons)
        )

    @rule(disk=st.floats(0, 94.9), silent=st.floats(0, 90_000), causes=st.lists(st.sampled_from("abc")), looks=LOOKS)
    def as_it_comes(self, disk: float, silent: float, causes: list[str], looks: int) -> None:
        """Things stay so for a while."""
        for _ in range(looks):
            self.look(Observed(disk, {"axiom": silent}, maintenance=False, causes=tuple(causes)))

    @rule(disks=st.lists(st.floats(84.0, 86.0), min_size=1, max_size=60))
    def around_the_threshold(self, disks: list[float]) -> None:
        """A disk that goes a little over and under."""
        for disk in disks:
            self.look(Observed(disk, {}, maintenance=False))

    @rule(looks=LOOKS)
    def a_person_wants_quiet(self, looks: int) -> None:
        """MAINTENANCE_MODE, for a while."""
        for _ in range(looks):
            self.look(Observed(10.0, {}, maintenance=True))
            assert self.standing.mode == "maintenance"

    @rule(disk=st.floats(95.1, 100.0), looks=LOOKS)
    def the_disk_is_full(self, disk: float, looks: int) -> None:
        """An emergency, which no check ends."""
        for _ in range(looks):
            self.look(Observed(disk, {}, maintenance=False))
            assert self.standing.mode == "emergency"

    @rule()
    def a_breach(self) -> None:
        """Somebody declares an emergency: the next look shows it."""
        self.standing = declare(self.standing, "breach")
        self.look(Observed(10.0, {}, maintenance=False))
        assert self.standing.mode == "emergency" and "breach" in self.standing.reasons

    @rule()
    def a_person_resumes(self) -> None:
        """Only this ends an emergency."""
        self.standing = resume(self.standing)
        self.look(Observed(10.0, {}, maintenance=False))
        assert self.standing.mode in {"normal", "degraded"}

    @invariant()
    def every_mode_is_explained(self) -> None:
        """By what was observed."""
        assert self.explained

    @invariant()
    def nothing_flaps(self) -> None:
        """Degraded is left only after two looks in a row without a cause: so it is entered at most every third look."""
        entered = 0
        for (before, _), (mode, _), calm in zip(self.history, self.history[1:], _calm(self.history), strict=False):
            if before == "degraded" and mode == "normal":
                assert calm >= 2
            entered += before == "normal" and mode == "degraded"
        assert entered <= len(self.history) / 3 + 1

    @invariant()
    def people_are_always_answered(self) -> None:
        """P0 is never shed, in whatever mode."""
        assert pace(self.standing.mode, "P0") == 1
        assert not [one for one in shed(self.standing.mode, DUTIES) if one.priority == "P0"]


def _calm(history: Sequence[tuple[str, bool]]) -> list[int]:
    """How many looks in a row had no cause, up to each look but the first."""
    calm, found = 0, []
    for _, trouble in history:
        calm = 0 if trouble else calm + 1
        found.append(calm)
    return found[1:]


TestDays = Days.TestCase
TestDays.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

DUTY = st.builds(
    Duty, st.text("abc-", min_size=1, max_size=5), st.sampled_from(PRIORITIES), st.sampled_from(["job", "service"])
)


@given(st.lists(DUTY, max_size=20), st.sampled_from(MODES))
def test_what_is_shed_is_in_the_order_of_the_spec(duties: list[Duty], mode: str) -> None:
    """P3 before P2 before P1, never P0; what is listed is what ``pace`` says, no more and no less."""
    found = shed(mode, [*DUTIES, *duties])  # type: ignore[arg-type]
    places = [PRIORITIES.index(one.priority) for one in found]
    assert places == sorted(places, reverse=True) and 0 not in places
    paces = {one.priority: pace(mode, one.priority) for one in [*DUTIES, *duties]}  # type: ignore[arg-type]
    assert len(found) == sum(paces[one.priority] != 1 for one in [*DUTIES, *duties])
    assert all((one.how == "off") == (paces[one.priority] == 0) for one in found)


def test_the_reference_order() -> None:
    """The duties of the spec's section 6 are shed first to last as it lists them, whatever order they are declared in."""
    names = ["property-search", "autostudy", "proactive-e-mail-and-calendar", "entity-extraction"]
    jobs = [Duty(name, "P2" if name in {"autostudy", "property-search"} else "P3", "job") for name in names]
    told = [one.name for one in shed("emergency", [*jobs, *DUTIES])]
    assert told == [
        "entity-extraction",
        "proactive-e-mail-and-calendar",
        "memory compaction",
        "autostudy",
        "property-search",
        "heartbeat monitoring",
        "sub-agent oversight",
        "work handed over by peers",
    ]
    assert [one.how for one in shed("degraded", jobs) if one.priority == "P2"] == ["less often"] * 2
    assert shed("normal", jobs) == []
