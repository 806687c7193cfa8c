"""What the role service hands to systemd and supervisord: everything that its caller said arrives there, as it was said."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import shlex
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "service"
SERVICE = {
    "outlast_home": "/srv/a home",
    "outlast_port": 18801,
    "service_name": "trial",
    "service_command": ["/srv/a home/run", 'a "b" $c 100% \\ d', "it's"],
    "service_user": "somebody",
}
# Host name to what its caller says of the service.
VARIANTS: dict[str, dict[str, Any]] = {
    "kept": {"service_loaded": "run/loaded", "service_writable": ["/srv/a home/var", "/srv/100%"]},
    "always": {"service_restart": "always", "service_environment": {"TOKEN": "s3cret of 100%, or so"}},
    "never": {"service_restart": "never", "service_sandbox": False, "service_stop_timeout": 7},
    "bounded": {"service_limits": {"open_files": 99, "processes": 9, "memory": "512MiB"}},
    "boot": {"service_schedule": "boot"},
    "often": {"service_schedule": "5m"},
    "daily": {"service_schedule": "04:30"},
}
PLAY = f"""
- hosts: all
  connection: local
  gather_facts: false
  vars_files: ["{ROLE}/vars/main.yml"]
  tasks:
    - ansible.builtin.copy:
        content: >-
          {{{{ {{'units': __service_files, 'gone': __service_unneeded, 'program': lookup('template', 'program.conf.j2')}} | to_json }}}}
        dest: "{{{{ into }}}}/{{{{ inventory_hostname }}}}.json"
        mode: "0600"
"""


def play(book: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook with this checkout's collection."""
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), book, *words],
        cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The role's own files and variables, filled in by Ansible for every variant."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "templates").symlink_to(ROLE / "templates")
    (folder / "play.yml").write_text(PLAY)
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    common = {**defaults, **SERVICE, "into": str(folder), "ansible_python_interpreter": sys.executable}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": VARIANTS, "vars": common}}))
    done = play(folder / "play.yml", "-i", str(folder / "hosts.json"))
    assert done.returncode == 0, done.stdout
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in VARIANTS}


def units(filled: dict[str, dict[str, Any]], variant: str) -> dict[str, str]:
    """The text of each unit file by what follows `outlast-trial` in its name."""
    return {
        file["path"].removeprefix("outlast-trial"): b64decode(file["content"]).decode()
        for file in filled[variant]["units"]
    }


def told(text: str) -> dict[str, str]:
    """The settings of a unit, whatever their section; the last one of a name counts."""
    lines = [line for line in text.splitlines() if line and line[0] not in "#["]
    return dict(line.split("=", 1) for line in lines)


def program(filled: dict[str, dict[str, Any]], variant: str) -> dict[str, str]:
    """What supervisord reads of a program."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read_string(filled[variant]["program"])
    return {name: value.replace("%%", "%") for name, value in parser["program:trial"].items()}


def test_the_program_is_run_as_it_was_said(filled: dict[str, dict[str, Any]]) -> None:
    """Words with spaces, quotes, percent and dollar signs reach it as they are, as its own user, in the node's home."""
    unit = told(units(filled, "kept")[".service"])
    assert unit["ExecStart"] == '"/srv/a home/run" "a \\"b\\" $$c 100%% \\\\ d" "it\'s"'
    assert (unit["User"], unit["WorkingDirectory"]) == ("somebody", "/srv/a home")
    under_supervisord = program(filled, "kept")
    assert shlex.split(under_supervisord["command"]) == SERVICE["service_command"]
    assert (under_supervisord["user"], under_supervisord["directory"]) == ("somebody", "/srv/a home")


@pytest.mark.parametrize(
    ("variant", "systemd", "supervisord"),
    [("always", "always", "true"), ("kept", "on-failure", "unexpected"), ("never", "no", "false")],
)
def test_when_it_is_started_again(
    filled: dict[str, dict[str, Any]], variant: str, systemd: str, supervisord: str
) -> None:
    """Always, after a failure, or never; a wrong configuration (78) is no reason to try again."""
    unit = told(units(filled, variant)[".service"])
    assert (unit["Restart"], unit["RestartPreventExitStatus"]) == (systemd, "78")
    under_supervisord = program(filled, variant)
    assert (under_supervisord["autorestart"], under_supervisord["exitcodes"]) == (supervisord, "0,78")


def test_what_is_kept_running_is_never_given_up_for_good(filled: dict[str, dict[str, Any]]) -> None:
    """A burst of crashes is slowed down, and a timer that comes and goes with the service starts it again."""
    kept = units(filled, "kept")
    assert set(kept) == {".service", "-rearm.service", "-rearm.timer"}
    unit = told(kept[".service"])
    assert (unit["StartLimitIntervalSec"], unit["StartLimitBurst"]) == ("30s", "10")
    assert "outlast-trial-rearm.timer" in kept[".service"]
    timer = told(kept["-rearm.timer"])
    assert timer["PartOf"] == "outlast-trial.service"
    assert timer["OnActiveSec"] == timer["OnUnitInactiveSec"] == "5m"
    assert set(units(filled, "never")) == {".service"}


def test_who_says_that_it_lives_is_watched(filled: dict[str, dict[str, Any]]) -> None:
    """A program that tells what it read tells that it lives as well; no child may say so in its place."""
    unit = told(units(filled, "kept")[".service"])
    assert (unit["Type"], unit["NotifyAccess"], unit["WatchdogSec"]) == ("notify", "main", "60s")
    assert told(units(filled, "always")[".service"])["Type"] == "exec"


def test_limits_are_those_that_were_asked_for(filled: dict[str, dict[str, Any]]) -> None:
    """Memory, processes and open files; supervisord, which cannot bound memory, keeps to the others."""
    names = ("MemoryMax", "TasksMax", "LimitNOFILE", "TimeoutStopSec")
    asked, usual = told(units(filled, "bounded")[".service"]), told(units(filled, "never")[".service"])
    assert [asked[name] for name in names] == ["512M", "9", "99", "30"]
    assert [usual[name] for name in names] == ["75%", "512", "4096", "7"]
    shell, option, script = shlex.split(program(filled, "bounded")["command"])
    assert (shell, option) == ("/bin/sh", "-c")
    assert script.startswith("ulimit -n 99 && ulimit -u 9 && exec ")
    assert shlex.split(script.partition("exec ")[2]) == SERVICE["service_command"]
    assert program(filled, "never")["stopwaitsecs"] == "7"


def test_it_is_shut_in_but_for_where_it_may_write(filled: dict[str, dict[str, Any]]) -> None:
    """Nothing else can be written to; what changes the machine is not shut in."""
    shut = told(units(filled, "kept")[".service"])
    assert (shut["ProtectSystem"], shut["ReadWritePaths"]) == ("strict", '"-/srv/a home/var" "-/srv/100%%"')
    assert not {"ProtectSystem", "SystemCallFilter"} & set(told(units(filled, "never")[".service"]))


def test_no_secret_is_in_a_unit(filled: dict[str, dict[str, Any]]) -> None:
    """Everybody may read a unit: variables are in a file beside it. What supervisord reads is its user's alone."""
    for text in units(filled, "always").values():
        assert "s3cret" not in text
    assert told(units(filled, "always")[".service"])["EnvironmentFile"] == "/srv/a home/etc/trial.env"
    assert program(filled, "always")["environment"] == 'TOKEN="s3cret of 100%, or so"'


@pytest.mark.parametrize(
    ("variant", "needed", "told_by", "expected"),
    [
        ("boot", {".service"}, ".service", {"Type": "oneshot", "RemainAfterExit": "yes", "WantedBy": "multi-user.target"}),
        ("often", {".service", ".timer"}, ".timer", {"OnUnitInactiveSec": "5m", "OnActiveSec": "1s"}),
        ("daily", {".service", ".timer"}, ".timer", {"OnCalendar": "*-*-* 04:30:00", "Persistent": "yes"}),
    ],
)  # fmt: skip
def test_schedules_become_units(
    filled: dict[str, dict[str, Any]], variant: str, needed: set[str], told_by: str, expected: dict[str, str]
) -> None:
    """What runs by the clock has a timer, which starts with the machine; units that are not needed are named to be removed."""
    found = units(filled, variant)
    assert set(found) == needed
    assert expected.items() <= told(found[told_by]).items()
    every = {".service", ".timer", "-rearm.service", "-rearm.timer"}
    assert set(filled[variant]["gone"]) == {f"outlast-trial{end}" for end in every - needed}
    assert "Restart" not in told(found[".service"])


def test_what_somebody_edits_can_be_told(filled: dict[str, dict[str, Any]]) -> None:
    """The first line of each unit holds the digest of the rest, so that an edit by hand is told from a new version."""
    for variant in VARIANTS:
        for text in units(filled, variant).values():
            first, _, rest = text.partition("\n")
            assert hashlib.sha256(rest.encode()).hexdigest() in first


REFUSED: dict[str, dict[str, Any]] = {
    "service_environment: supervisord takes neither quotation marks": {"service_environment": {"A": 'canary "quoted"'}},
    "service_schedule: supervisord starts nothing by the clock": {"service_schedule": "5m"},
    "service_schedule: 25:00 is no time": {"service_schedule": "25:00"},
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_done(tmp_path: Path, said: str) -> None:
    """supervisord knows neither a clock nor a way to write quotation marks: one line with its mend, which shows no value."""
    book, home = tmp_path / "play.yml", tmp_path / "home"
    tasks = [{"ansible.builtin.include_role": {"name": "outlast.agents.service"}}]
    told = {**SERVICE, **REFUSED[said], "outlast_home": str(home), "ansible_python_interpreter": sys.executable}
    book.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": told, "tasks": tasks}]))  # fmt: skip
    done = play(book, "-i", "localhost,")
    printed = " ".join(done.stdout.split())
    assert done.returncode == 2, printed
    assert said in printed and "; mend: " in printed
    assert "canary" not in printed
    assert not home.exists()
