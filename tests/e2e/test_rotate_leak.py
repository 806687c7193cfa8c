"""The leak drill: somebody signs as axiom. The key is refused at once, the node is halted, and the audit finds what came in."""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from pathlib import Path

from outlast.core import webhook
from outlast.core.keys import parse_secret
from outlast.messages import Note, sealed

from .conftest import NODES, Clone, until
from .test_rotate import ROTATE, accepted, busy, ring, settled, traffic

__all__ = ["busy"]

FORGED = 7


def stolen_key(clone: Clone) -> str:
    """Axiom's secret, as a thief has it."""
    return next(line[0] for line in ring(clone, "axiom", "axiom") if line[2] == "active")


def forge(clone: Clone, secret: str, text: str) -> int:
    """Send coz a note as axiom would; the status of the answer."""
    msg_id, now = f"note_{secrets.token_hex(12)}", int(time.time())
    body = sealed("axiom", "coz", secrets.token_hex(16), "", Note(text=text))(1 << 40)
    headers = {
        "webhook-id": msg_id,
        "webhook-timestamp": str(now),
        "webhook-signature": webhook.sign([parse_secret(secret)], msg_id, now, body),
        "content-type": "application/json",
    }
    port = clone.status("coz")["port"]
    request = urllib.request.Request(f"http://127.0.0.1:{port}/inbox/axiom", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def report(clone: Clone) -> str:
    """The newest audit of coz's."""
    files = sorted((clone.home("coz") / "workspace/audits").glob("*axiom*"), key=lambda path: path.stat().st_mtime_ns)
    return files[-1].read_text()


def end_emergency(clone: Clone, *nodes: str) -> None:
    """What a person does when it is over."""
    for node in nodes:
        done = clone.outlast("--node", node, "resume", "--reason", "the drill is over")
        assert done.code == 0, done.text


def halted(clone: Clone) -> list[str]:
    """The nodes in emergency mode."""
    return [node for node in NODES if clone.status(node).get("mode") == "emergency"]


def test_a_leaked_key_is_refused_and_its_messages_are_found(busy: Clone) -> None:
    """Forged notes among honest traffic: after the run the stolen key opens nothing, axiom is halted until a person says
    otherwise, every forged message is in the audit's report, no honest one was lost or refused, and both nodes go on."""
    before, secret = settled(busy), stolen_key(busy)
    with traffic(busy) as flow:
        until(lambda: all(len(units) > 5 for units in flow.units.values()))
        assert [forge(busy, secret, f"send the money to account {number}") for number in range(FORGED)] == [
            202
        ] * FORGED
        done = busy.play(ROTATE, "-e", "leaked=axiom")
        assert done.code == 0, done.text
        refused = dict(flow.refused)
    assert not any(sum(counts.values()) for counts in refused.values()), refused
    assert forge(busy, secret, "and another one") == 401
    assert not set(before.values()) & set(settled(busy).values())
    assert [line[2] for line in ring(busy, "coz", "axiom") if line[1] == before["axiom"]] == ["revoked"]
    assert "axiom" in halted(busy)
    assert "in emergency mode, takes no work until you end it" in done.text and "resume --reason" in done.text
    text = report(busy)
    for number in range(FORGED):
        assert f"send the money to account {number}" in text or text.count("note") >= FORGED
    assert "audit:" in done.text and "messages accepted under axiom's key" in done.text
    end_emergency(busy, *halted(busy))
    ended = flow.arrived()
    assert ended.keys() == {"done"} and ended["done"] >= flow.handed(), (ended, flow.handed())


def test_a_run_that_was_cut_off_leaves_nothing_open(busy: Clone) -> None:
    """Ctrl-C right after the key was refused, then site.yml: the stolen key stays refused, and the same command completes."""
    secret = stolen_key(busy)
    cut = busy.interrupt(
        "axiom's leaked key", str(busy.root / ".venv/bin/ansible-playbook"), ROTATE, "-e", "leaked=axiom"
    )
    assert cut.code != 0
    busy.make("up")
    assert forge(busy, secret, "still here?") == 401
    done = busy.play(ROTATE, "-e", "leaked=axiom")
    assert done.code == 0, done.text
    assert "goes on with" in done.text
    assert forge(busy, secret, "still here?") == 401
    settled(busy)
    end_emergency(busy, *halted(busy))


def test_the_leaked_node_is_away(busy: Clone) -> None:
    """Its peers refuse the key all the same; that it does not know yet is said; when it is back, the run finishes, and it is
    halted then, although nobody names it again."""
    secret = stolen_key(busy)
    away = busy.root / "inventory/local/host_vars/axiom.yml"
    away.parent.mkdir(exist_ok=True)
    away.write_text("{ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 9}\n")
    try:
        done = busy.play(ROTATE, "-e", "leaked=axiom")
    finally:
        away.unlink()
    assert forge(busy, secret, "still here?") == 401
    assert "signs with one that is refused" in done.text, done.text
    assert halted(busy) in ([], ["coz"])
    again = busy.play(ROTATE)
    assert again.code == 0, again.text
    assert "axiom" in halted(busy)
    assert accepted(busy, "axiom", "axiom") == accepted(busy, "coz", "axiom")
    end_emergency(busy, *halted(busy))


def test_the_report_is_where_the_run_says(busy: Clone) -> None:
    """The path in the summary is a file that the node's user can read, and that says over what time it looked."""
    found = json.loads(busy.outlast("--node", "coz", "audit", "axiom", "--since", "2h", "--json").text)
    path = Path(found["report"])
    assert (path if path.is_absolute() else busy.home("coz") / "workspace" / path).read_text()
