"""Shared state between real nodes whose wire is cut and which are killed: equal states at the end, and nothing acknowledged lost."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault.scenes import capture, envelope, key
from standardwebhooks import Webhook
from support.live import LiveNode, pair, until
from support.proxy import Wire, wire

from outlast.errors import OutlastError

pytestmark = pytest.mark.timeout(120)

_IMPATIENT: dict[str, Any] = {
    "retry": {"base": "10ms", "max": "50ms", "attempts": 100_000},
    "breaker": {"failures": 100_000, "cooldown": "1s"},
    "health": {"interval": "1s"},
    "shared": {"rate": 100_000, "priority": ["axiom"]},
}


class Load:
    """Random operations on one node, from a thread, until it is told to stop; what was acknowledged, for the end."""

    def __init__(self, node: LiveNode, seed: int) -> None:
        self.facts: set[str] = set()
        self.kept: set[str] = set()
        self._node = node
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def enough(self) -> bool:
        """Has so much been done that losing some of it would show?"""
        return len(self.facts) > 20 and len(self.kept) > 10

    def _run(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            name = f"{self._node.name}-{number}"
            with contextlib.suppress(OutlastError):
                self._one(name)
            self._over.wait(self._dice.uniform(0.0, 0.01))

    def _one(self, name: str) -> None:
        match self._dice.randrange(6):
            case 0 | 1:
                self._do("facts/add", entity="load", attribute=name, value="x" * self._dice.randrange(800))
                self.facts.add(name)
            case 2 | 3:
                self._do("state/add", key="mine", value=name)
                # Taken out again now and then, by one who knows it: us.
                if self._dice.random() < 0.3:
                    self._do("state/discard", key="mine", value=name)
                else:
                    self.kept.add(name)
            case 4:
                self._do("state/set", key=f"key/{self._dice.randrange(5)}", value=name)
            case _:
                order = self._dice.choice(["state/add", "state/discard"])
                self._do(order, key="contested", value=str(self._dice.randrange(4)))

    def _do(self, order: str, **body: object) -> None:
        self._node.order(order, body)


@contextlib.contextmanager
def _wired(root: Path) -> Iterator[tuple[LiveNode, LiveNode, tuple[Wire, Wire]]]:
    """coz and axiom, each of which reaches the other through a wire of its own."""
    with contextlib.ExitStack() as stack:
        coz, axiom = stack.enter_context(pair(root, _IMPATIENT, _IMPATIENT))
        wires = []
        for node, other in ((coz, axiom), (axiom, coz)):
            wires.append(stack.enter_context(wire(other.port)))
            node.config["peers"][other.name]["url"] = f"http://127.0.0.1:{wires[-1].port}"
            node.configure()
            node.start()
        yield coz, axiom, (wires[0], wires[1])


def _held(node: LiveNode) -> dict[str, Any]:
    try:
        return {
            "facts": node.order("facts/query", {"history": True})["facts"],
            "keys": node.order("state/ls", {})["keys"],
            "sets": [node.order("state/get", {"key": key}) for key in ("mine", "contested")],
        }
    except OutlastError:
        return {}


def _agree(coz: LiveNode, axiom: LiveNode) -> dict[str, Any]:
    """Wait until both hold the same, and return it."""
    held: dict[str, Any] = {}

    def same() -> bool:
        held.update(_held(coz))
        return bool(held) and held == _held(axiom)

    try:
        until(same, limit=30, what="both hold the same")
    except AssertionError:
        raise AssertionError(f"{_held(coz)}\n{_held(axiom)}\n{coz.log()}{axiom.log()}") from None
    return held


def _assert_nothing_lost(held: dict[str, Any], *loads: Load) -> None:
    facts = {fact["attribute"] for fact in held["facts"]}
    mine = set(held["sets"][0]["elements"])
    for load in loads:
        assert load.enough(), "too little was done for this to show anything"
        assert load.facts <= facts, f"acknowledged facts are lost: {load.facts - facts}"
        assert load.kept <= mine, f"elements that nobody removed are lost: {load.kept - mine}"


def test_two_nodes_that_write_while_their_wire_is_cut_end_up_equal(tmp_path: Path) -> None:
    """Both sides write at random while the wires are cut and mended at random, in the middle of messages, in one direction or
    both: equal states once they are whole, every acknowledged fact and every element that nobody removed among them."""
    dice = random.Random(1)
    with _wired(tmp_path) as (coz, axiom, wires):
        with Load(coz, 2) as one, Load(axiom, 3) as other:
            until(lambda: all(load.enough() for load in (one, other)), what="both have written")
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                dice.choice(wires).cut()
                time.sleep(dice.uniform(0.0, 0.3))  # the moment is what is random here, nothing is waited for
                dice.choice(wires).mend()
                time.sleep(dice.uniform(0.0, 0.1))
        for each in wires:
            each.mend()
        held = _agree(coz, axiom)
        _assert_nothing_lost(held, one, other)
        # And it is on the disk.
        for node in (coz, axiom):
            node.kill()
            node.start()
        assert _agree(coz, axiom) == held


def test_nodes_that_are_killed_while_they_exchange_lose_nothing(tmp_path: Path) -> None:
    """kill -9 of either node at random moments while both write and exchange: equal states once both run, and everything that
    was acknowledged is there."""
    dice = random.Random(4)
    with _wired(tmp_path) as (coz, axiom, _):
        with Load(coz, 5) as one, Load(axiom, 6) as other:
            for _ in range(4):
                node = dice.choice([coz, axiom])
                time.sleep(dice.uniform(0.1, 0.4))  # the moment is what is random here, nothing is waited for
                node.kill()
                node.start()
            until(lambda: all(load.enough() for load in (one, other)), what="both have written")
        _assert_nothing_lost(_agree(coz, axiom), one, other)


def test_state_can_be_read_and_written_with_the_runtime_dead(tmp_path: Path) -> None:
    """`outlast state` and `outlast facts` work where no runtime runs; what was written then reaches the sibling when it does.
    An unknown key is exit code 1 and one line."""
    with pair(tmp_path, _IMPATIENT, _IMPATIENT) as (coz, axiom):
        assert coz.cli("state", "set", "lead", "axiom").returncode == 0
        assert coz.cli("facts", "add", "pi", "battery", "82 %").returncode == 0
        missing = coz.cli("state", "get", "nobody")
        assert (missing.returncode, missing.stdout, missing.stderr) == (1, "", "nobody holds nothing\n")
        coz.start()
        axiom.start()
        until(lambda: axiom.order("state/get", {"key": "lead"})["found"], what="it has arrived")
        assert axiom.cli("state", "get", "lead").stdout == "axiom\n"
        assert "82 %" in axiom.cli("facts", "query", "pi").stdout
        assert len(coz.records("NOTE", "fact")) == 1


def _share(node: LiveNode, number: int, *entries: dict[str, Any], **fields: Any) -> tuple[int, dict[str, Any]]:
    """What axiom says to a Share that coz's key signed: status and signed answer."""
    message = {"type": "share", "holding": {"have": {}, "sums": {}}, "entries": list(entries), **fields}
    body = envelope("share", seq=0, channel="control", message=message)
    status, headers, data = capture(key(node, "coz"), f"share_{number}", body).send(node)
    return status, Webhook(key(node, "axiom")).verify(data, headers)


def test_what_a_peer_shares_is_checked_answered_and_limited(tmp_path: Path) -> None:
    """Seen from the wire, signed by a client that is not ours: a Share is taken and answered with what is held then; one that
    breaks the rules is a 422, leaves nothing and counts; above ``shared.rate`` it is a 429, and a ping still passes."""
    good = {"agent": "witness", "seq": 1, "kind": "set", "key": "a", "value": "1"}
    with pair(tmp_path, None, {"shared": {"rate": 10}}) as (_, axiom):
        axiom.start()
        wrong: list[dict[str, Any]] = [
            {**good, "agent": "../../x"},
            {**good, "seq": 0},
            {**good, "seq": 1 << 53},
            {**good, "key": "a b"},
            {**good, "kind": "add", "value": None},
            {**good, "kind": "counter"},
            {**good, "value": "x" * 16_385},
            {**good, "surprise": 1},
        ]
        for number, entry in enumerate(wrong):
            assert _share(axiom, number, entry)[0] == 422, entry
        assert axiom.order("state/ls", {})["keys"] == []
        status, answer = _share(axiom, 100, good)
        assert status == 202 and answer["holding"]["have"] == {"witness": 1} and answer["holding"]["sums"]["witness"]
        assert axiom.order("state/get", {"key": "a"})["agent"] == "witness"
        assert _share(axiom, 101, {**good, "seq": 3}, {**good, "seq": 2})[0] == 422
        status, answer = _share(axiom, 102, {**good, "seq": 2})
        assert status == 429 and answer["retry_after"] > 0 and "holding" not in answer
        ping = envelope("ping", seq=0, channel="control", message={"type": "ping"})
        assert capture(key(axiom, "coz"), "ping_1", ping).send(axiom)[0] == 200
