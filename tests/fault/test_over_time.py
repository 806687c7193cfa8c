"""What happens to a node over months: clocks that jump, peers that go, stops at bad moments, orders of its owner."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from scenes import CountingAgent, capture, closed_on, envelope, events, extras, hand_over, key, running_pair, script
from support.live import LiveNode, pair, until


@pytest.fixture
def agent(tmp_path: Path) -> CountingAgent:
    return CountingAgent(tmp_path / "agent")


def _record(node: LiveNode, unit: str) -> dict[str, Any]:
    found: dict[str, Any] = node.json("show", unit)
    return found


def test_a_machine_that_travels_west_forgets_nothing(tmp_path: Path, agent: CountingAgent) -> None:
    """Open hand-offs survive a day that comes twice: the zone goes back, the node is killed, all of them are done."""
    with pair(tmp_path, extras(agent.path), extras(agent.path)) as (coz, axiom):
        coz.start(env={"TZ": "Pacific/Kiritimati"})
        units = [hand_over(coz)]
        coz.stop()
        coz.start(env={"TZ": "Pacific/Pago_Pago"})
        units.append(hand_over(coz))
        coz.kill()
        coz.home.state_file.unlink()
        coz.start(env={"TZ": "Pacific/Pago_Pago"})
        assert [unit["unit"] for unit in coz.status()["open"]] == units
        axiom.start()
        until(lambda: all(closed_on(coz, unit) == "done" for unit in units), what="both are done")


def test_a_stop_ends_while_the_sender_is_away(tmp_path: Path) -> None:
    """SIGTERM during a long agent whose sender is unreachable: the node ends, and the hand-back waits for the sender."""
    slow = script(tmp_path / "slow.sh", "sleep 600")
    brief: dict[str, Any] = {"stop": {"grace": "200ms"}}
    with running_pair(tmp_path, slow, **brief) as (coz, axiom):
        unit = hand_over(coz)
        until(lambda: axiom.status()["services"]["agent"] == "working", what="the agent works")
        coz.kill()
        axiom.order("handoff", {"unit": "axiom-000000000001", "peer": "coz", "task": "x"})
        until(lambda: axiom.status()["channels"]["coz"]["last_error"], what="coz is missed")
        assert axiom.stop() == 0
        coz.start()
        axiom.start()
        until(lambda: closed_on(coz, unit) == "returned", what="it is handed back")


def test_a_stop_does_not_call_a_begun_task_untouched(tmp_path: Path) -> None:
    """Where an agent may not run twice, a stop that cuts it off says in doubt, as a crash would, and not returned."""
    slow = script(tmp_path / "slow.sh", "sleep 600")
    with running_pair(tmp_path, slow, agent={"after_crash": "report"}, stop={"grace": "200ms"}) as (coz, axiom):
        unit = hand_over(coz)
        until(lambda: axiom.status()["services"]["agent"] == "working", what="the agent works")
        assert axiom.stop() == 0
        axiom.start()
        until(lambda: closed_on(coz, unit) == "in doubt", what="the doubt is told")


def test_a_peer_that_is_out_of_node_yml_for_a_while_is_told_later(tmp_path: Path, agent: CountingAgent) -> None:
    """A result for a peer that is not configured now waits until it is configured again."""
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        axiom.stop()
        unit = hand_over(coz)
        script(agent.path, "while [ ! -e go ] && [ ! -e ../../../../go ]; do sleep 0.05; done; echo x > result.md")
        axiom.start()
        until(lambda: axiom.status()["services"]["agent"] == "working", what="the agent works")
        axiom.kill()
        peers, axiom.config["peers"] = axiom.config["peers"], {}
        axiom.configure()
        (axiom.home.root / "go").touch()
        axiom.start()
        until(lambda: closed_on(axiom, unit) == "done", what="it is done without its sender")
        axiom.stop()
        axiom.config["peers"] = peers
        axiom.configure()
        axiom.start()
        until(lambda: closed_on(coz, unit) == "done", what="the sender is told")


def test_orders_in_heartbeat_md_hold_from_the_start(tmp_path: Path, agent: CountingAgent) -> None:
    """MAINTENANCE_MODE holds before the first message; what the node wrote goes when the order does, people's lines stay."""
    with pair(tmp_path, extras(agent.path), extras(agent.path)) as (coz, _):
        coz.home.workspace.mkdir()
        coz.home.heartbeat.write_text("- feed the cat\n- MAINTENANCE_MODE\n")
        coz.start()
        assert coz.status()["mode"] == "maintenance"
        assert "outlast: begin" in coz.home.heartbeat.read_text()
        assert coz.cli("status").returncode == 1
        coz.stop()
        coz.home.heartbeat.write_text(coz.home.heartbeat.read_text().replace("- MAINTENANCE_MODE\n", ""))
        coz.start()
        assert coz.status()["mode"] == "normal"
        assert coz.home.heartbeat.read_text() == "- feed the cat\n"


def test_an_emergency_lasts_until_a_person_ends_it(tmp_path: Path, agent: CountingAgent) -> None:
    """A disk over its limit is an emergency, also after a kill -9 and once there is room, until `outlast resume`."""
    with pair(tmp_path, extras(agent.path), extras(agent.path)) as (coz, _):
        coz.config["health"] |= {"disk_degraded": 1, "disk_emergency": 2}
        coz.configure()
        coz.start()
        if coz.status()["disk_percent"] <= 2:
            pytest.skip("this disk is too empty to play a full one")
        assert coz.status()["mode"] == "emergency"
        coz.kill()
        coz.config["health"] |= {"disk_degraded": 99, "disk_emergency": 100}
        coz.configure()
        coz.start()
        assert coz.status()["mode"] == "emergency"
        assert coz.cli("resume", "--reason", " ").returncode == 2
        assert coz.cli("resume", "--reason", "made room").returncode == 0
        assert coz.status()["mode"] == "normal"
        again = coz.cli("resume", "--reason", "once more")
        assert again.returncode == 2
        assert "no emergency" in again.stderr
        coz.kill()
        coz.start()
        assert coz.status()["mode"] == "normal"


def test_nobody_speaks_of_anothers_work(tmp_path: Path, agent: CountingAgent) -> None:
    """A task must be named by its sender, and an id that one peer used says nothing of another's message."""
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        foreign = capture(key(axiom, "coz"), "task_x", envelope("bob-d1zjz7qv76sw")).send(axiom)
        assert foreign[0] == 422
        status, _, _ = capture(key(axiom, "coz"), "i" * 61, envelope("coz-d1zjz7qv76sw")).send(axiom)
        assert status == 401
        assert not axiom.state()["units"]
        assert coz.status()["ready"]


def test_what_a_peer_says_cannot_steer_a_terminal(tmp_path: Path) -> None:
    """Escape sequences and line breaks in an agent's words reach neither the terminal, nor the journal, nor STATE.json."""
    rude = script(tmp_path / "rude.sh", r"printf 'x' > r.md; printf '\033]0;owned\007\033[2J all\rwell\n'")
    with running_pair(tmp_path, rude) as (coz, _):
        done = coz.cli("handoff", "axiom", "host report")
        assert done.returncode == 0
        told = [done.stdout, coz.cli("tail", "--no-follow").stdout, coz.cli("status").stdout, coz.journal()]
        assert not any("\x1b" in text or "\r" in text or "\x07" in text for text in told)


def test_what_became_of_a_unit_can_be_asked(tmp_path: Path, agent: CountingAgent) -> None:
    """`outlast show` says 4 while a unit is open, 0 when it is done, 2 for one that nobody knows; status lists the open."""
    with pair(tmp_path, extras(agent.path), extras(agent.path)) as (coz, axiom):
        coz.start()
        unit = hand_over(coz)
        assert coz.cli("show", unit).returncode == 4
        assert unit in coz.cli("status").stdout
        axiom.start()
        until(lambda: closed_on(coz, unit) == "done", what="it is done")
        assert coz.cli("show", unit).returncode == 0
        assert coz.cli("show", "coz-000000000000").returncode == 2
        assert events(coz, "handoff.closed", unit)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["ping", "a b"], "PEER"),
        (["ping", ""], "PEER"),
        (["ping", "a/b"], "PEER"),
        (["handoff", "bob", "x"], "PEER"),
        (["handoff", "axiom", " "], "TASK"),
        (["handoff", "axiom", "x" * 16_385], "TASK"),
        (["handoff", "axiom", os.fsdecode(b"\xff")], "TASK"),
        (["handoff", "axiom", "x", "--wait", "10 minutes"], "--wait"),
    ],
    ids=str,
)
def test_a_wrong_word_is_one_line(tmp_path: Path, agent: CountingAgent, words: list[str], field: str) -> None:
    """Whatever is typed wrong: exit code 2 and one line that names the field, what is wrong and the mend."""
    with pair(tmp_path, extras(agent.path)) as (coz, _):
        coz.start()
        said = coz.cli(*words)
        assert said.returncode == 2
        assert said.stderr.startswith(f"outlast: {field}: ")
        assert said.stderr.count("\n") == 1
        assert not coz.status()["open"]


def test_another_nodes_home_is_refused(tmp_path: Path, agent: CountingAgent) -> None:
    """A node that is renamed in place ends with 78 and one line, and forgets nothing of the old one."""
    with pair(tmp_path, extras(agent.path)) as (coz, _):
        coz.start()
        hand_over(coz)
        coz.stop()
        before = coz.home.state_file.read_bytes()
        coz.config |= {"node": "axiom", "peers": {}}
        coz.configure()
        coz.start(wait=False)
        assert coz.process is not None
        assert coz.process.wait(30) == 78
        assert "this home is coz's" in coz.log()
        assert coz.home.state_file.read_bytes() == before
