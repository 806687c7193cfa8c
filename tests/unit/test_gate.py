"""The sub-agents' door without a node: every call is checked, and what is not allowed reaches no order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from support.clock import FixedClock

from outlast.core.capability import ACTIONS, mint
from outlast.errors import KeyFileError
from outlast.home import Home
from outlast.net.http import Request
from outlast.settings import Messages
from outlast.store.events import EventLog
from outlast.work.gate import ORDERS, Gate, root_key

AGENT = "subd1zkffdmvrmx"


class SetClock(FixedClock):
    """A clock whose wall time was set ``away`` seconds."""

    away = 0.0

    def time(self) -> float:
        """Seconds since 1970, as it was set."""
        return self.now + self.away


class Door:
    """A gate whose orders are counted."""

    def __init__(self, root: Path) -> None:
        self.home, self.clock = Home(root), SetClock(1_795_000_000.0)
        self.home.logs.mkdir(parents=True)
        self.done: list[str] = []
        self.heard: list[str] = []

        def order(name: str) -> Any:
            return lambda body: self.done.append(name) or {"did": name, "with": body.decode()}

        every = {name: order(name) for name in (*ORDERS, "resume", "subagents/spawn", "keys/use", "feature/on")}
        config = SimpleNamespace(messages=Messages())
        events = EventLog(self.home.logs, "coz", self.clock)
        around: Any = SimpleNamespace(home=self.home, clock=self.clock, events=events, config=config, orders=every)
        self.gate = Gate(around, self.heard.append)
        self.gate._root = root_key(self.home.capability_key)

    def token(self, *actions: str, run: int = 1) -> str:
        """A token of a run that begins now, for a minute."""
        return self.gate.token(AGENT, run, frozenset(actions), 60.0)

    def ask(self, name: str, token: str | None, *, method: str = "POST") -> tuple[int, Any]:
        """Status and answer."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        answer = asyncio.run(self.gate(Request(method, f"/{name}", headers, b"{}", "unix")))
        return answer.status, msgspec.json.decode(answer.body)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """One."""
    return Door(tmp_path)


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_each_order_is_done_for_its_action_and_for_no_other(door: Door, name: str) -> None:
    """All other actions together do not open it."""
    status, told = door.ask(name, door.token(*(set(ACTIONS) - {ORDERS[name]})))
    assert (status, door.done) == (400, []) and told["wrong"] == f"it does not allow {ORDERS[name]}"
    assert door.ask(name, door.token(ORDERS[name])) == (200, {"did": name, "with": "{}"})
    assert door.done == [name] and door.heard == [AGENT]


@pytest.mark.parametrize(
    "name", ["resume", "subagents/spawn", "keys/use", "feature/on", "nosuch", "", "note/", "../note", "/note?a"]
)
def test_what_is_not_for_sub_agents_is_not_to_be_had_with_any_token(door: Door, name: str) -> None:
    """A token that allows everything allows what stands in the table, by exactly its name."""
    status, _ = door.ask(name, door.token(*ACTIONS))
    assert (status == 200) == (name == "note/") and door.done == (["note"] if name == "note/" else [])


def test_no_token_an_old_one_and_a_strangers_are_refused(door: Door) -> None:
    """Without one, of another node, mere words, of a run that is over: nothing is done, nobody is heard."""
    good = door.token("read:status")
    other = mint(bytes(32), AGENT, 1, ["read:status"], int(door.clock.now) + 60)
    for token in (None, "", "x", other):
        assert door.ask("status", token)[0] == 400
    again = door.token("read:status", run=2)
    assert door.ask("status", good)[1]["wrong"] == f"its run of {AGENT} is over"
    door.gate.forget(AGENT)
    assert door.ask("status", again)[0] == 400
    assert door.done == door.heard == []


def test_time_is_that_of_the_run(door: Door) -> None:
    """Good for its time and no longer; a clock that is set, or a sleep that no clock but the wall's saw, changes nothing."""
    token = door.token("read:status")
    for away, status in ((0.0, 200), (86400.0, 200), (-86400.0, 200)):
        door.clock.away = away
        assert door.ask("status", token)[0] == status
    door.clock.now += 61
    for away in (0.0, 86400.0, -86400.0):
        door.clock.away = away
        assert door.ask("status", token)[1]["wrong"] == "its time is over"


def test_a_read_by_get_is_checked_as_well(door: Door) -> None:
    """The control socket answers a plain GET of the status; here that is no way around the token."""
    assert door.ask("status", None, method="GET")[0] == 400
    assert door.ask("status", door.token("message:note"), method="GET")[0] == 400


def test_a_bearer_may_ask_what_its_token_is_worth(door: Door) -> None:
    """Any token that is good opens this, which is also a sign of life."""
    told = door.ask("token", door.token("read:facts"))[1]
    assert told == {"id": AGENT, "allow": ["read:facts"], "until": int(door.clock.now) + 60} and door.heard == [AGENT]


def test_the_key_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    """The same key at every start; open to others, of another shape, or a link: refused, with the mend."""
    path = Home(tmp_path).capability_key
    key = root_key(path)
    assert root_key(path) == key and len(key) == 32 and path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="others may read or write it"):
        root_key(path)
    path.chmod(0o600)
    path.write_text("short\n")
    with pytest.raises(KeyFileError, match="it does not hold a key; move it away"):
        root_key(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(KeyFileError, match="it cannot be read"):
        root_key(path)
