"""Jobs and external services in node.yml: what is refused, and in which words."""

from __future__ import annotations

import subprocess
import sys
import zoneinfo
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import yaml

from outlast.config import load_config
from outlast.errors import ConfigError
from outlast.work import timetable

GOOD: dict[str, Any] = {
    "node": "coz",
    "listen": {"host": "127.0.0.1", "port": 18801},
    "peers": {"axiom": {"url": "http://127.0.0.1:18802"}},
    "agent": {"command": ["/bin/true"]},
}
JOB = {"schedule": "30 3 * * 1-5", "command": ["/bin/true"]}


def _load(path: Path, **sections: Any) -> Any:
    path.write_text(yaml.safe_dump({**GOOD, **sections}))
    return load_config(path)


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"schedule": "30 3 * *"}, "schedule", "has 4 fields, not 5; write minute hour"),
        ({"schedule": "61 3 * * *"}, "schedule", "its minute is wrong; write minute hour"),
        ({"schedule": "0 24 * * *"}, "schedule", "its hour is wrong"),
        ({"schedule": "0 0 30 2 *"}, "schedule", "its day-of-month is wrong"),
        ({"schedule": "0 0 * * MO"}, "schedule", "its day-of-week is wrong"),
        ({"schedule": "@reboot"}, "schedule", "such as 30 3 * * 1-5"),
        ({"schedule": "every; day"}, "schedule", "has 2 fields"),
        ({"zone": "Europe/Berln"}, "zone", "did you mean Europe/Berlin?"),
        ({"zone": "Berlin"}, "zone", "did you mean Europe/Berlin?"),
        ({"zone": "new york"}, "zone", "did you mean America/New_York?"),
        ({"zone": "xyz; rm"}, "zone", "'xyz; rm' is not a time zone known here; write one as IANA has it"),
        ({"zone": "../../etc/passwd"}, "zone", "not a time zone"),
        ({"directory": "/tmp"}, "directory", "not below the workspace"),
        ({"directory": "a/../../b"}, "directory", "not below the workspace"),
        ({"command": []}, "command", "length >= 1"),
        ({"command": [""]}, "command", "it names no program"),
        ({"timeout": "soon"}, "timeout", "such as 30s"),
        ({"priority": "P4"}, "priority", "P4"),
        ({"owner": "pi"}, "owner", "not a node known here; one of: coz, axiom"),
        ({"owner": "axiom", "takeover": True}, "zone", "that of axiom may be another one"),
        ({"failures": 0}, "failures", ">= 1"),
        ({"shcedule": "x"}, "shcedule", "did you mean schedule?"),
    ],
)
def test_a_wrong_job_names_its_field_and_the_mend(
    tmp_path: Path, change: dict[str, Any], field: str, said: str
) -> None:
    """One line: jobs.NAME.FIELD, what is wrong, and what to do about it."""
    with pytest.raises(ConfigError) as error:
        _load(tmp_path / "node.yml", jobs={"nightly": {**JOB, **change}})
    assert error.value.field in {f"jobs.nightly.{field}", f"jobs.{field}"}
    assert said in str(error.value) and "\n" not in str(error.value)


def test_the_command_says_so(tmp_path: Path) -> None:
    """`outlast config check`: exit code 78, one line, no traceback."""
    path = tmp_path / "node.yml"
    path.write_text(yaml.safe_dump({**GOOD, "jobs": {"nightly": {**JOB, "zone": "Europe/Belin"}}}))
    command = [str(Path(sys.executable).parent / "outlast"), "config", "check", "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    said = "outlast: jobs.nightly.zone: 'Europe/Belin' is not a time zone known here; did you mean Europe/Berlin?\n"
    assert done.stderr == said


def test_a_job_is_not_called_as_a_service_is(tmp_path: Path) -> None:
    """Both would write to one file, and be restarted by one name."""
    with pytest.raises(ConfigError, match=r"jobs\.web: a service has that name"):
        _load(tmp_path / "node.yml", jobs={"web": JOB}, services={"web": {"command": ["/bin/true"]}})


@pytest.mark.parametrize("url", ["ftp://example.org/", "http://user:hunter2@example.org/", "example.org", ""])
def test_a_url_that_is_not_asked_is_refused(tmp_path: Path, url: str) -> None:
    """With the mend, and without a password that may stand in it."""
    with pytest.raises(ConfigError) as error:
        _load(tmp_path / "node.yml", external={"models": {"url": url}})
    assert error.value.field == "external.models.url"
    assert "write http" in error.value.mend and "hunter2" not in str(error.value)


def test_what_is_right_is_taken(tmp_path: Path) -> None:
    """Zones of this machine and named ones, seconds, names for lines, jobs of peers, and what has its defaults."""
    jobs = {
        "nightly": JOB,
        "often": {**JOB, "schedule": "*/10 * * * * *", "zone": "UTC"},
        "daily": {**JOB, "schedule": "@daily", "zone": "Australia/Lord_Howe"},
        "theirs": {**JOB, "owner": "axiom"},
        "shared": {**JOB, "owner": "axiom", "zone": "Europe/Berlin", "takeover": True},
        "mine": {**JOB, "owner": "coz", "takeover": True},
    }
    config = _load(tmp_path / "node.yml", jobs=jobs, external={"models": {"url": "https://example.org/v1"}})
    found = config.jobs["nightly"]
    assert (found.priority, found.timeout, found.failures, found.takeover) == ("P2", "30m", 3, False)
    assert (config.external["models"].every, config.external["models"].failures) == ("5m", 3)


def test_a_machine_without_zones_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No zone database: what to install; UTC is there without one."""
    monkeypatch.setattr(zoneinfo, "TZPATH", ())
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    monkeypatch.setattr(zoneinfo, "ZoneInfo", _none)
    with pytest.raises(ValueError, match="apt-get install tzdata"):
        timetable.zone_of("Europe/Berlin")
    assert timetable.zone_of("UTC") is UTC


def _none(name: str) -> None:
    raise zoneinfo.ZoneInfoNotFoundError(name)


def test_a_job_without_a_zone_goes_by_this_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """As TZ says, where it names one; else by /etc/localtime."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert str(timetable.zone_of("")) == "Asia/Tokyo"
    monkeypatch.setenv("TZ", "nonsense")
    assert timetable.zone_of("") is UTC
    monkeypatch.delenv("TZ")
    assert timetable.zone_of("") is not None
