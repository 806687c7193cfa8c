"""A ledger that is lost: it lets no old message in, and costs neither a hand-off nor a result."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from fault.scenes import CountingAgent, assert_once, capture, envelope, hand_over, key, running_pair, settled
from support.live import LiveNode, until

from outlast.core.ids import new_unit

pytestmark = pytest.mark.timeout(120)


def test_a_corrupt_ledger_is_begun_anew_and_lets_no_old_message_in(tmp_path: Path) -> None:
    """outlast.db that is garbage is set aside and said; a message that was captured before is refused from then on, although
    its signature is right and its id is forgotten; new work goes on."""
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        unit = hand_over(coz)
        settled(coz, axiom)
        captured = capture(key(axiom, "coz"), "task_captured", envelope("coz-d1zjz7qv76sw"))
        axiom.kill()
        for path in axiom.home.ledger.parent.glob("outlast.db*"):
            path.write_bytes(b"no database at all" * 100)
        axiom.start()
        assert captured.send(axiom)[0] == 401
        told = [entry["what"] for entry in axiom.json("status")["recovered"]]
        assert any("ledger was damaged" in what for what in told), told
        assert [path for path in axiom.home.trash.iterdir() if path.name.endswith("outlast.db")]
        axiom.kill()
        axiom.start()
        assert captured.send(axiom)[0] == 401, "a second start has forgotten since when ids are remembered"
        other = hand_over(coz)
        settled(coz, axiom)
        assert_once(coz, axiom, [unit, other])


@pytest.mark.parametrize("text", ["host report", "a task of several lines,\n" + 20 * "so that no record holds it\n"])
def test_a_lost_ledger_of_the_sender_loses_no_hand_off(tmp_path: Path, text: str) -> None:
    """The ledger that held an open hand-off is corrupt: it is queued again under the same id, with its whole text, and done
    once, whether the peer had it already or not."""
    agent = CountingAgent(tmp_path / "agent", work=f"cat > {tmp_path}/$OUTLAST_UNIT")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        axiom.kill()
        units = [new_unit("coz", time.time(), number) for number in range(2)]
        for unit in units:
            coz.order("handoff", {"unit": unit, "peer": "axiom", "task": text})
        kept = list(coz.home.handoffs.glob("*.json"))
        assert len(kept) == (2 if "\n" in text else 0)
        coz.kill()
        for path in coz.home.ledger.parent.glob("outlast.db*"):
            path.write_bytes(b"no database at all" * 100)
        coz.start()
        axiom.start()
        settled(coz, axiom)
        assert_once(coz, axiom, units)
        assert all(agent.runs(unit) == 1 for unit in units)
        assert all(json.loads((tmp_path / unit).read_text())["task"] == text for unit in units)
        assert not list(coz.home.handoffs.glob("*.json"))


def test_a_lost_ledger_of_the_worker_loses_no_result(tmp_path: Path) -> None:
    """The ledger that held the result of a task is corrupt: the result is queued again, and told."""
    agent = CountingAgent(tmp_path / "agent", work="sleep 0.3")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        unit = hand_over(coz)
        until(lambda: agent.runs(unit), what="the agent runs")
        coz.kill()
        until(lambda: axiom.status()["channels"]["coz"]["queued"] == 1 and _left(axiom) == [], what="the result waits")
        axiom.kill()
        for path in axiom.home.ledger.parent.glob("outlast.db*"):
            path.write_bytes(b"no database at all" * 100)
        axiom.start()
        coz.start()
        settled(coz, axiom)
        assert_once(coz, axiom, [unit])
        assert agent.runs(unit) == 1


def _left(node: LiveNode) -> list[str]:
    return [path.name for path in node.home.tasks.iterdir()]
