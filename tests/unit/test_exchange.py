"""The exchange of shared state between nodes: the shipped code from order to file, over a courier that loses what a test wants."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sharing import Net

from outlast.core.crdt import Entry, Holding
from outlast.errors import BadInput


@pytest.fixture
def net(tmp_path: Path) -> Net:
    """coz and axiom, which have greeted each other."""
    made = Net(tmp_path, "coz", "axiom")
    made.settle()
    return made


def _events(net: Net, name: str, event: str) -> list[str]:
    logs = net.nodes[name].home.logs.glob("*.jsonl")
    return [line for path in logs for line in path.read_text().splitlines() if f'"event":"{event}"' in line]


def test_a_write_reaches_the_sibling_and_then_all_is_quiet(net: Net) -> None:
    """What is set on coz is on axiom's disk after one message; from then on neither says anything."""
    coz, axiom = net.nodes["coz"], net.nodes["axiom"]
    coz.shared.set("greeting", "hello")
    assert net.settle() == 1
    axiom.start()
    assert axiom.shared.get("greeting")["value"] == "hello"
    net.settle()
    assert net.settle() == 0
    assert net.agree()


def test_nodes_that_hold_nothing_keep_no_files_and_ask_once(tmp_path: Path) -> None:
    """A start where nothing is shared costs one question and its answer; nothing is written below workspace/shared."""
    net = Net(tmp_path, "coz", "axiom")
    assert net.settle() <= 2
    assert net.settle() == 0
    assert not any(node.home.shared.exists() for node in net.nodes.values())


def test_ten_changes_of_100_000_keys_cost_less_than_10_kb(tmp_path: Path) -> None:
    """Two nodes that hold 100 000 keys each, the same but for ten changes: under 10 000 bytes in both directions make them
    equal, answers and the asking at a start counted."""
    net = Net(tmp_path, "coz", "axiom")
    coz, axiom = net.nodes["coz"], net.nodes["axiom"]
    entries = [
        Entry("coz", n, "set", f"key/{n}", f"value {n}", (), "2026-11-21T05:09:07.123Z") for n in range(1, 100_001)
    ]
    for node in (coz, axiom):
        node.shared.take(Holding({"coz": 100_000}), tuple(entries), whole=True)
    for number in range(5):
        coz.shared.set(f"key/{number * 999 + 1}", "changed by coz")
        axiom.shared.set(f"key/{number * 999 + 7}", "changed by axiom")
    assert net.settle() <= 4
    assert net.agree()
    assert coz.bytes + axiom.bytes < 10_000


def test_a_large_difference_goes_in_bounded_messages(tmp_path: Path) -> None:
    """A new node gets everything, in batches that each stay below the smallest ``messages.body_limit``, the largest values too."""
    net = Net(tmp_path, "coz", "axiom")
    coz = net.nodes["coz"]
    for number in range(4):
        coz.shared.set(f"big/{number}", "\x01" * 16_384)
    members = [Entry("coz", number, "add", "team", f"member {number} {'x' * 100}") for number in range(5, 1505)]
    coz.shared.take(Holding(), tuple(members), whole=False)
    sizes: list[int] = []
    deliver = coz.deliver

    async def weigh(peer: str, msg_id: str, body: bytes):  # type: ignore[no-untyped-def]
        sizes.append(len(body))
        return await deliver(peer, msg_id, body)

    coz.deliver = weigh  # type: ignore[method-assign]
    net.settle()
    assert net.agree() and len(sizes) > 5
    assert max(sizes) < 128 << 10


def test_what_was_superseded_is_not_sent_and_counts_as_known_once_all_is_there(tmp_path: Path) -> None:
    """Of coz's values, which axiom has replaced, a third node gets nothing; it says that it knows them only when it has all that
    axiom holds, and then all is quiet."""
    net = Net(tmp_path, "coz", "axiom", "witness")
    coz, axiom, witness = net.nodes.values()
    for node in (coz, axiom):
        for number in range(9):
            node.shared.set(f"key/{number}", node.name)
        coz.speak("axiom")
    for number in range(9):
        axiom.shared.set(f"big/{number}", "x" * 16_384)
    axiom.speak("coz")
    taken = iter(["taken", "taken"])
    net.fate = lambda: next(taken, "lost")
    axiom.speak("witness")
    assert "axiom" in witness.replica.have and "coz" not in witness.replica.have
    net.settle()
    assert net.agree() and witness.replica.have["coz"] == 9
    assert net.settle() == 0


def test_what_cannot_be_delivered_waits_for_a_sign_of_life(net: Net) -> None:
    """While axiom is away coz tries a few times and then waits; once axiom is heard, what it lacks is sent, at most
    one request a second."""
    coz = net.nodes["coz"]
    net.fate = lambda: "lost"
    coz.shared.set("a", "1")
    for _ in range(10):
        net.clock.now += coz.speak() or 0.0
    pause = coz.speak()
    assert pause is not None and pause > 1000
    net.fate = lambda: "taken"
    assert coz.speak() == pause, "it does not try while it is to wait"
    coz.exchanges["axiom"].heard()
    assert coz.speak() == pytest.approx(1.0)
    net.clock.now += 1.0
    coz.speak()
    assert net.agree()


def test_a_peer_that_asks_for_patience_gets_it(net: Net) -> None:
    """A 429 is waited out, whatever sign of life comes meanwhile; then the entries are sent, none twice."""
    coz = net.nodes["coz"]
    coz.shared.set("a", "1")
    net.fate = lambda: "refused"
    assert coz.speak() == pytest.approx(3.0)
    net.fate = lambda: "taken"
    coz.exchanges["axiom"].heard()
    coz.exchanges["axiom"].told(net.nodes["axiom"].shared.holding())
    assert coz.speak() == pytest.approx(3.0)
    net.clock.now += 3.0
    before = coz.messages
    coz.speak()
    assert net.agree() and coz.messages == before + 1


def test_a_third_node_gets_what_it_cannot_hear_itself(tmp_path: Path) -> None:
    """coz and the witness never reach each other: what either writes comes to the other through axiom."""
    net = Net(tmp_path, "coz", "axiom", "witness")
    net.nodes["coz"].shared.set("a", "from coz")
    net.nodes["witness"].shared.fact("pi", "battery", "82 %")
    for _ in range(4):
        net.nodes["coz"].speak("axiom")
        net.nodes["axiom"].speak("coz", "witness")
        net.nodes["witness"].speak("axiom")
    assert net.agree()
    assert net.nodes["coz"].shared.query("pi")["facts"][0]["value"] == "82 %"  # type: ignore[index]


def test_what_damage_took_comes_back_from_the_sibling(net: Net) -> None:
    """A damaged line in the middle of coz's own file, which no number shows: the sums differ, and axiom's copy brings it back."""
    coz, axiom = net.nodes["coz"], net.nodes["axiom"]
    for number in range(9):
        coz.shared.set(f"key/{number}", str(number))
    net.settle()
    path = coz.home.shared / "coz.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"value":"4"', b'"value":"5"'))
    coz.start()
    assert coz.shared.get("key/4")["found"] is False
    assert "damaged" in coz.shared.check()[0].found
    net.settle()
    assert net.agree()
    assert coz.shared.get("key/4")["value"] == "4" == axiom.shared.get("key/4")["value"]
    coz.start()
    assert coz.shared.check() == ()


def test_a_node_whose_files_are_gone_gets_all_back_and_uses_no_number_twice(net: Net) -> None:
    """coz without its files asks axiom, has its own entries back, and numbers what it writes next above all of them."""
    coz = net.nodes["coz"]
    for number in range(5):
        coz.shared.set(f"key/{number}", str(number))
    net.settle()
    (coz.home.shared / "coz.jsonl").unlink()
    coz.start()
    coz.speak()
    assert coz.replica.top >= 5, "axiom's answer said which numbers were used"
    net.settle()
    assert net.agree() and coz.shared.get("key/0")["value"] == "0"
    assert coz.shared.set("key/9", "9")["seq"] == 6


def test_a_node_put_back_to_an_old_copy_loses_nothing_it_writes_before_it_is_heard(net: Net) -> None:
    """coz is put back to an older copy of itself and writes, under numbers that were used before, more than it had lost. Once
    it meets axiom both hold what was lost and what was written since."""
    coz, axiom = net.nodes["coz"], net.nodes["axiom"]
    coz.shared.set("old", "kept")
    path = coz.home.shared / "coz.jsonl"
    copy = path.read_bytes()
    for number in range(3):
        coz.shared.fact("lost", f"fact-{number}", str(number))
    net.settle()
    path.write_bytes(copy)
    coz.start()
    for number in range(5):
        coz.shared.fact("new", f"fact-{number}", str(number))
    net.settle()
    assert net.agree()
    for node in (coz, axiom):
        assert len(node.shared.query()["facts"]) == 8  # type: ignore[arg-type]
    assert _events(net, "coz", "share.differs") or _events(net, "axiom", "share.differs")


def test_nodes_that_can_never_agree_say_so_and_are_quiet(net: Net) -> None:
    """Two nodes with different priorities keep different winners of a tie: that is an event with the agent's name, and after
    one attempt they leave it at that for the breaker's cooldown."""
    coz, axiom = net.nodes["coz"], net.nodes["axiom"]
    coz.start(priority=["coz"])
    axiom.start(priority=["axiom"])
    coz.shared.set("a", "1")
    axiom.shared.set("a", "2")
    net.settle()
    assert not net.agree()
    assert "coz" in _events(net, "coz", "share.differs")[0]
    assert net.settle() == 0


def test_entries_out_of_order_and_a_flood_of_agents_are_refused(net: Net) -> None:
    """A Share whose entries of one agent descend, or that brings more than 64 agents, is refused whole: nothing is kept of it."""
    axiom = net.nodes["axiom"]
    wrong = (Entry("coz", 2, "set", "a", "1"), Entry("coz", 1, "set", "b", "1"))
    flood = tuple(Entry(f"n{number}", 1, "set", f"k{number}", "1") for number in range(65))
    for entries in (wrong, flood):
        with pytest.raises(BadInput):
            axiom.shared.take(Holding(), entries, whole=False)
    assert axiom.shared.ls()["keys"] == [] and not axiom.home.shared.exists()


@given(st.randoms(use_true_random=False))
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_any_loss_order_and_restart_ends_in_equal_states(dice: random.Random) -> None:
    """Three nodes write at random while messages and answers are lost and nodes start anew from their disks: once they meet,
    all hold the same, and every acknowledged fact is on all of them."""
    with tempfile.TemporaryDirectory() as folder:
        net = Net(Path(folder), "coz", "axiom", "witness")
        acknowledged = []
        net.fate = lambda: dice.choice(["taken", "taken", "lost", "unanswered", "refused"])
        for step in range(dice.randrange(60)):
            node = net.nodes[dice.choice(net.names)]
            match dice.randrange(8):
                case 0 | 1 | 2:
                    node.shared.fact("step", f"n{step}", node.name)
                    acknowledged.append(f"n{step}")
                case 3:
                    node.shared.set(f"key/{dice.randrange(3)}", str(step))
                case 4:
                    (node.shared.add if dice.random() < 0.6 else node.shared.discard)("team", str(dice.randrange(3)))
                case 5:
                    node.start()
                case _:
                    net.clock.now += dice.choice([0.0, 5.0])
                    node.speak(dice.choice(sorted(node.exchanges)))
        net.settle()
        assert net.agree(), json.dumps(
            {name: sorted(map(str, node.replica)) for name, node in net.nodes.items()}, indent=1
        )
        for node in net.nodes.values():
            assert sorted(fact["attribute"] for fact in node.shared.query("step")["facts"]) == sorted(acknowledged)  # type: ignore[attr-defined]
