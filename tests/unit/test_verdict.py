"""The ending report: whose fault it is that a node cannot be reached, and when it is nobody's."""

from __future__ import annotations

from typing import Any

from plugins.plugin_utils import table, verdict

CHANNEL = {"sent": 1, "received": 1, "last_sent": "2026-01-01T06:50:32Z", "last_received": None}
GOOD, BAD = {"ok": True, "ms": 2.5, "skew_s": 0.0}, {"ok": False, "error": "no route"}


def answer(peer: str, ping: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What survey says of a node on a real host that is well."""
    status = {"ready": True, "mode": "normal", "services": {}, "channels": {peer: CHANNEL}, "recovered": []}
    findings = [] if ping["ok"] else [{"field": f"peers.{peer}", "wrong": "no route", "mend": "see that it runs"}]
    node = {"status": status, "findings": findings, "pings": {peer: ping}}
    return {"health": "ok", "open": True, "local": False, "away": {}, "node": node, **changes}


CLOSED = {"health": "no answer (timed out)", "open": False}
AWAY = {"away": {"field": "ansible_host", "wrong": "cannot be reached", "mend": "wake it"}, "node": {}, **CLOSED}


def test_a_port_that_only_peers_reach_is_no_failure() -> None:
    """A firewall that keeps this machine out is told, not complained about: a peer's signed message was answered."""
    seen = {"coz": answer("axiom", GOOD, **CLOSED), "axiom": answer("coz", GOOD)}
    assert verdict.problems("coz", seen) == []
    assert verdict.row("coz", seen)[1] == "ready"
    assert verdict.remarks("coz", seen) == ["coz: its port is closed to this machine; axiom reached it"]


def test_a_port_that_nobody_could_try_is_no_failure() -> None:
    """With its peer away, the node's own word counts."""
    seen = {"coz": answer("axiom", BAD, **CLOSED), "axiom": {**answer("coz", GOOD), **AWAY}}
    assert verdict.problems("coz", seen) == []
    assert "no peer was asked" in verdict.remarks("coz", seen)[0]
    assert [one["field"] for one in verdict.problems("axiom", seen)] == ["ansible_host"]
    assert verdict.row("axiom", seen)[:2] == ("axiom", "unreachable")


def test_a_port_that_peers_do_not_reach_either_is_a_failure() -> None:
    """Where a peer tried and failed, both say so."""
    seen = {"coz": answer("axiom", GOOD, **CLOSED), "axiom": answer("coz", BAD)}
    assert [one["field"] for one in verdict.problems("coz", seen)] == ["/healthz"]
    assert [one["field"] for one in verdict.problems("axiom", seen)] == ["peers.coz"]
    assert verdict.row("coz", seen)[1] == "unreachable"


def test_a_node_on_this_machine_has_no_such_excuse() -> None:
    """Nothing stands between this machine and itself."""
    seen = {"coz": answer("axiom", GOOD, local=True, **CLOSED), "axiom": answer("coz", GOOD, local=True)}
    assert [one["field"] for one in verdict.problems("coz", seen)] == ["/healthz"]


def test_who_was_left_out() -> None:
    """A host that is away is unreachable, one where something failed is left out; both learn how to go on."""
    gone = verdict.missed("axiom", {"ansible_facts": {"outlast_away": AWAY["away"]}})
    assert (gone["health"], gone["mend"]) == ("unreachable", "wake it; when it is back, run the same command again")
    failed = verdict.missed("axiom", {})
    assert (failed["health"], failed["mend"]) == ("left out", "put that right and run the same command again")


def test_trouble_that_the_node_told_of_has_one_mend() -> None:
    """What `outlast` says ends with a mend, which is not said twice; a node that was never there is provisioned with all."""
    told = {"node": {"error": "coz is not running; wait a few seconds"}, "away": {}, "local": False}
    found = verdict.problems("coz", {"coz": told})[0]
    assert (found["wrong"], found["mend"]) == ("coz is not running", "wait a few seconds")
    new = {"node": {"error": "not installed"}, "away": {}, "local": False}
    assert verdict.problems("coz", {"coz": new})[0]["mend"] == "ansible-playbook site.yml"


def test_what_hosts_have_in_common_is_said_once() -> None:
    """The same finding of two hosts is one, with both names; each other one stands alone."""
    typo = {"field": "outlast_prot", "wrong": "unknown variable", "mend": "did you mean outlast_port?"}
    found = [{"host": "coz", **typo}, {"host": "axiom", **typo}, {"host": "coz", **typo, "wrong": "is not set"}]
    assert table.findings(found)[::2] == [
        "  coz, axiom: outlast_prot: unknown variable",
        "  coz: outlast_prot: is not set",
    ]
    assert table.counted(found) == "2 findings"


def test_what_a_node_says_drives_nobodys_terminal() -> None:
    """Agents can answer in their node's place: control characters and line breaks of theirs are spaces."""
    found = {"host": "axiom", "field": "x", "wrong": "\x1b]52;c;eA==\x07", "mend": "a\nb"}
    assert all(line.isprintable() for line in table.findings([found]))
    assert all(line.isprintable() for line in table.table(["node"], [["\x1b[2J"]]))


def test_one_node_that_is_down_does_not_spoil_the_other() -> None:
    """A peer that this run knows to be down, or did not ask, is a remark on who is well, and the finding of that peer alone."""
    down = {**answer("axiom", GOOD, local=True, **CLOSED), "node": {"error": "coz is not running; make up"}}
    seen = {"coz": down, "axiom": answer("coz", BAD, local=True)}
    assert [one["field"] for one in verdict.problems("coz", seen)] == ["node"]
    assert verdict.problems("axiom", seen) == []
    assert verdict.remarks("axiom", seen) == ["axiom: coz does not answer it; what it has for coz waits"]
    assert verdict.remarks("axiom", {"axiom": seen["axiom"]}) == verdict.remarks("axiom", seen)
