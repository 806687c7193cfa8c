"""kill -9 of either node at every step of a rotation, under traffic both ways: no message is refused, none is lost.

The steps are those of rotate-keys.yml, by its own plan (plugin_utils/rotation.py); what carries them out here is this file, so
that a node can be killed while it is at any of them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault.scenes import CountingAgent, events, running_pair, settled
from support.live import LiveNode, until

from outlast.core.ids import new_unit
from outlast.errors import OutlastError
from plugins.plugin_utils import rotation

pytestmark = pytest.mark.timeout(180)

_PHASES = ("prepare", "accept", "use", "retire", "accept")
_AT_ONCE = 3
Nodes = dict[str, LiveNode]
Step = Callable[[str, LiveNode], None]


class Ended(Exception):
    """The play came to its end before the rotation did."""


def carry_out(node: LiveNode, order: rotation.Order) -> None:
    """One of the plan's orders, as ``outlast`` would give it to the running node."""
    assert order.words[0] == "keys"
    bodies: dict[str, Any] = {
        "prepare": lambda: {"rotation": order.words[-1]},
        "accept": lambda: {"agent": order.words[2], "ring": order.reads},
    }
    make = bodies.get(order.words[1], lambda: None)
    answer = node.order(f"keys/{order.words[1]}", make())
    assert answer.get("drained", True)


def look(nodes: Nodes, label: str = "") -> rotation.Run:
    """What all nodes say of their keys."""
    answers = {
        name: {"keys": node.order("keys/list")["keys"], "own": (node.home.keys / f"{name}.key").read_text()}
        for name, node in nodes.items()
    }
    talks = {name: tuple(peer for peer in nodes if peer != name) for name in nodes}
    return rotation.gathered(answers, members=tuple(nodes), talks=talks, asked=tuple(nodes), label=label)


def play(nodes: Nodes, stamp: str, before: Step) -> None:
    """One run of the play; ``before`` is told of each order's phase and node. Raises Ended."""
    try:
        label = rotation.resumable(look(nodes)) or stamp
        for number, phase in enumerate(_PHASES):
            for name, node in nodes.items():
                for order in rotation.orders(phase, name, look(nodes, label)):
                    before(f"{number} {phase}", node)
                    carry_out(node, order)
    except OutlastError as error:
        raise Ended(str(error)) from error


def keys_of(node: LiveNode) -> dict[str, list[tuple[str, str]]]:
    """The keys that verify, by agent."""
    found: dict[str, list[tuple[str, str]]] = {}
    for key in node.order("keys/list")["keys"]:
        if key["state"] in {"active", "accepted"}:
            found.setdefault(key["agent"], []).append((key["id"], key["state"]))
    return found


class Traffic:
    """Each node hands the other tasks, all the while; ``units`` were acknowledged, by who handed them over."""

    def __init__(self, nodes: Nodes) -> None:
        self.units: dict[str, list[str]] = {name: [] for name in nodes}
        self._nodes = nodes
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._hand_over, args=(name,)) for name in nodes]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _hand_over(self, name: str) -> None:
        node, number = self._nodes[name], 0
        peer = next(other for other in self._nodes if other != name)
        while not self._over.wait(0.01):
            # A message is always on its way, and what waits stays little.
            if (found := node.status()) and found["handoffs"]["open"] >= _AT_ONCE:
                continue
            number += 1
            unit = new_unit(name, time.time(), number)
            try:
                node.order("handoff", {"unit": unit, "peer": peer, "task": f"unit {number}"})
            except OutlastError:
                continue
            self.units[name].append(unit)


def nothing_was_refused(node: LiveNode) -> None:
    """By its events, which outlive its runtime: the node refused nobody, and nobody refused it or was not believed."""
    assert events(node, "message.refused") == []
    trouble = [entry["reason"] for entry in events(node, "message.undelivered") + events(node, "share.undelivered")]
    assert not [line for line in trouble if "signature" in line or "signed" in line], trouble


def test_no_message_is_refused_wherever_a_node_is_killed(tmp_path: Path) -> None:
    """Rotation after rotation, in each one of the nodes killed in another phase, and the play started again until it is through:
    nothing was refused on either side, every hand-off was done once, and all agree on one new key each."""
    dice = random.Random(8)
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path, agent={"after_crash": "rerun", "attempts": 1000}) as (coz, axiom):
        nodes = {"coz": coz, "axiom": axiom}
        used = {name: [node.order("keys/list")["keys"][0]["id"]] for name, node in nodes.items()}
        steps: list[tuple[str, str]] = []
        play(nodes, "r0", lambda phase, node: steps.append((phase, node.name)))
        assert len(steps) == 10
        kills = 0
        with Traffic(nodes) as traffic:
            phases = sorted({phase for phase, _ in steps})
            scenes = [((phase, dice.choice([*nodes])), victim) for phase in phases for victim in nodes]
            for number, (step, victim) in enumerate(scenes, 1):
                killed: list[threading.Thread] = []

                def before(
                    phase: str, node: LiveNode, step: Any = step, victim: str = victim, killed: Any = killed
                ) -> None:
                    if (phase, node.name) != step or killed:
                        return
                    # While it is at the order, or a moment before or after; and, as a service manager does, started again.
                    thread = threading.Timer(dice.uniform(0.0, 0.01), kill, (nodes[victim],))
                    killed.append(thread)
                    thread.start()

                until(lambda: _through(nodes, f"r{number}", before), limit=60, what="the rotation is through")  # noqa: B023
                kills += len(killed)
                for thread in killed:
                    thread.join()
                until(lambda: all(node.status() for node in nodes.values()), what="both nodes answer")
                for name, node in nodes.items():
                    ((key, state),) = keys_of(node)[name]
                    assert state == "active" and key not in used[name]
                    assert all([key] == [known for known, _ in keys_of(other)[name]] for other in nodes.values())
                    used[name].append(key)
        assert kills == len(scenes) == 2 * len(_PHASES)
        settled(coz, axiom)
        for node in nodes.values():
            nothing_was_refused(node)
        journals = [node.journal() for node in nodes.values()]
        for unit in (*traffic.units["coz"], *traffic.units["axiom"]):
            # In the journal, because STATE.json keeps the newest only.
            assert [text.count(f" CONFIRM {unit} done") for text in journals] == [1, 1]
        assert min(map(len, traffic.units.values())) > 15


def kill(node: LiveNode) -> None:
    """kill -9, and the start that follows."""
    node.kill()
    node.start(wait=False)


def _through(nodes: Nodes, stamp: str, before: Step) -> bool:
    try:
        play(nodes, stamp, before)
    except Ended:
        return False
    return True
