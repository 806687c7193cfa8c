"""What node.yml may say of probes, and what is refused with the mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.probed import configured

from outlast.config import load_config
from outlast.errors import ConfigError
from outlast.work.declared import declared, url_parts

URL = "http://127.0.0.1:18789/healthz"


def service(**probe: Any) -> dict[str, Any]:
    """A gateway with one probe."""
    return {"services": {"gateway": {"command": ["/bin/true"], "probes": {"one": probe}}}}


@pytest.mark.parametrize(
    ("sections", "field", "mend"),
    [
        (service(), "services.gateway.probes.one", "write one of http, command, file, artifacts"),
        (service(http=URL, file="x"), "services.gateway.probes.one", "write one of http, command, file, artifacts"),
        (service(http="https://example.org/"), "services.gateway.probes.one.http", "curl --fail"),
        (service(http="http://host:99999/"), "services.gateway.probes.one.http", "http://HOST:PORT/PATH"),
        (service(http="http://user:word@host/"), "services.gateway.probes.one.http", "http://HOST:PORT/PATH"),
        (
            service(command=["/bin/true"], contains="x"),
            "services.gateway.probes.one.contains",
            "remove it, or write http",
        ),
        (service(file="../../etc/passwd"), "services.gateway.probes.one.file", "without / before and .. in it"),
        (service(file="/etc/passwd"), "services.gateway.probes.one.file", "without / before and .. in it"),
        (service(artifacts=["/bin/true"], every="5m"), "services.gateway.probes.one.every", "remove it"),
        (service(artifacts=["/bin/true"], level=2), "services.gateway.probes.one.level", "remove it"),
        (service(http=URL, tineout="5s"), "services.gateway.probes.one.tineout", "did you mean timeout?"),
        (service(http=URL, timeout="5"), "services.gateway.probes.one.timeout", "such as 30s"),
        (service(http=URL, then="reboot"), "services.gateway.probes.one.then", "write one of restart"),
        (
            {
                "services": {
                    "gateway": {
                        "command": ["/bin/true"],
                        "priority": "P3",
                        "probes": {"one": {"http": URL, "then": "degrade"}},
                    }
                }
            },
            "services.gateway.probes.one.then",
            "another priority",
        ),
        ({"probes": {"one": {"http": URL, "then": "restart"}}}, "probes.one.then", "services.NAME.probes"),
        ({"probes": {"node": {"http": URL}}}, "probes.node", "give it another one"),
        (
            {**service(http=URL), "probes": {"gateway": {"http": URL}}},
            "probes.gateway",
            "under services.gateway.probes",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, sections: dict[str, Any], field: str, mend: str) -> None:
    """One error that names the field, what is wrong, and the mend; a secret in a URL is not repeated."""
    with pytest.raises(ConfigError) as caught:
        load_config(configured(tmp_path, **sections))
    assert caught.value.field == field and mend in caught.value.mend
    assert "word" not in str(caught.value)


def test_every_default_is_the_spec_s_and_can_be_set(tmp_path: Path) -> None:
    """The way says the level, the level says how often; a probe's own word, or the section health, says otherwise."""
    probes = {
        "web": {"http": URL},
        "pulse": {"command": ["/bin/true"], "level": 1},
        "study": {"file": "study.md"},
        "reports": {"artifacts": ["/bin/true"]},
        "own": {"http": URL, "every": "7s", "failures": 9, "level": 1},
    }

    def told(**health: Any) -> dict[str, tuple[int, float | None, int]]:
        found = declared(load_config(configured(tmp_path, probes=probes, health=health)))
        return {one.name: (one.rule.level, one.rule.every, one.rule.failures) for one in found}

    assert told() == {
        "web": (2, 60.0, 3),
        "pulse": (1, 30.0, 3),
        "study": (3, 1800.0, 3),
        "reports": (4, None, 1),
        "own": (1, 7.0, 9),
        "progress": (3, 1800.0, 2),
    }
    assert told(responding="5s", alive="1s", progress="1h")["web"] == (2, 5.0, 3)
    assert told(alive="1s")["pulse"] == (1, 1.0, 3)
    assert told(progress="1h")["progress"] == (3, 3600.0, 2)


def test_a_probe_of_progress_md_replaces_the_node_s_own(tmp_path: Path) -> None:
    """Who says how PROGRESS.md is to move is not told twice."""
    config = load_config(configured(tmp_path, probes={"mine": {"file": "PROGRESS.md"}}))
    assert [one.name for one in declared(config)] == ["mine"]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://127.0.0.1:18789/healthz?full=1", ("http://127.0.0.1:18789", "/healthz?full=1")),
        ("http://localhost", ("http://localhost:80", "/")),
        ("http://[::1]:8888/", ("http://[::1]:8888", "/")),
        ("http://host:0/", None),
        ("ftp://host/", None),
    ],
)
def test_where_a_url_is_asked(url: str, parts: tuple[str, str] | None) -> None:
    """Host, port 80 where none is named, and the path with its query."""
    assert url_parts(url) == parts
