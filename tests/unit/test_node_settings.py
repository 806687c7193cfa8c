"""Preflight's judgement of what the runtime would refuse, without a node."""

from __future__ import annotations

import sys
import zoneinfo
from pathlib import Path
from typing import Any

import pytest

COLLECTIONS = Path(__file__).resolve().parents[2] / "collections"
sys.path.insert(0, str(COLLECTIONS))

from ansible_collections.outlast.agents.plugins.plugin_utils import node_settings  # noqa: E402

SERVICE = {"command": ["/bin/true"]}
JOB = {"schedule": "30 3 * * *", "command": ["/bin/true"]}


def found(values: dict[str, Any], skip: frozenset[str] = frozenset()) -> dict[str, str]:
    """Each finding's field, and what is said of it."""
    said = node_settings.check("axiom", {"outlast_port": 18802, **values}, ["coz"], skip)
    assert all(one["mend"] for one in said), said
    return {one["field"]: one["wrong"] for one in said}


def test_what_is_right_has_no_findings() -> None:
    """Services, jobs of peers, probes, numbers in commands: what a node takes is not complained about."""
    values = {
        "outlast_services": {
            "web": {**SERVICE, "environment": {"PORT": 8080}, "probes": {"up": {"command": ["x", 1]}}}
        },
        "outlast_jobs": {"theirs": {**JOB, "owner": "coz"}},
        "outlast_probes": {"gateway": {"http": "http://127.0.0.1:1/"}},
        "outlast_agent": {"environment": {"HOME": "/x"}},
        "outlast_home": "relative",
        "outlast_alerts": {},
    }
    assert found(values) == {}


def test_every_mistake_is_found_in_one_run() -> None:
    """A wrong name, duration, cron line, kind of probe and owner, in different entries: each with its whole path."""
    values = {
        "outlast_services": {"a": {"comand": ["x"]}, "b": {**SERVICE, "grace": "10 parsecs"}, "c": SERVICE},
        "outlast_jobs": {"j": {**JOB, "schedule": "61 * * * *"}, "k": {**JOB, "owner": "nobody"}},
        "outlast_probes": {"p": {"htp": "http://127.0.0.1/"}, "c": {"command": ["x"]}},
        "outlast_agent": {"timeout": "soon"},
        "outlast_retry": {"attempts": "5"},
    }
    assert set(found(values)) == {
        "outlast_services.a.comand",
        "outlast_services.b.grace",
        "outlast_jobs.j.schedule",
        "outlast_jobs.k.owner",
        "outlast_probes.p.htp",
        "outlast_probes.c",
        "outlast_agent.timeout",
        "outlast_retry.attempts",
    }


def test_a_variable_with_a_finding_has_no_second_one() -> None:
    """What the argument specs complained about is not complained about again."""
    values = {"outlast_retry": {"attempts": "many"}, "outlast_services": {"a": {"comand": ["x"]}}}
    assert set(found(values, frozenset({"outlast_retry"}))) == {"outlast_services.a.comand"}


def test_time_zones_are_the_node_s_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without zones runs the playbooks for nodes that have them."""
    monkeypatch.setattr(zoneinfo, "TZPATH", ())
    assert found({"outlast_jobs": {"j": {**JOB, "zone": "Europe/Nowhere"}}}) == {}


@pytest.mark.parametrize("missing", ["outlast.config", "outlast.work.timetable"])
def test_without_the_runtime_s_libraries_it_is_left_to_the_node(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Ansible alone, installed without what the runtime needs, provisions as well."""
    monkeypatch.setitem(sys.modules, missing, None)
    assert found({"outlast_jobs": {"j": {**JOB, "schedule": "61 * * * *"}}}) == {}


@pytest.mark.parametrize(
    ("said", "places"),
    [
        ([], []),
        (["ntfys://ntfy.example/topic", "46elks://a:b@c/d", "# a comment"], ["entry 3"]),
        ("ntfys://ntfy.example/topic", []),
        ("canary", ["entry 1"]),
        (["mailto:canary@example.org", "", None, {"ntfys": "//canary"}], ["entry 1", "entry 2", "entry 3", "entry 4"]),
    ],
)
def test_an_alert_s_url_is_judged_and_never_repeated(said: Any, places: list[str]) -> None:
    """Each is called by its place in the list, because it holds secrets."""
    findings = node_settings.alert_urls(said)
    assert [" ".join(one["wrong"].split()[:2]) for one in findings] == places
    assert "canary" not in str(findings)
