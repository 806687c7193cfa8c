"""A glance at a node: what differs is seen, what is secret is not shown, and whatever cannot be seen is left to the modules."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plugins.plugin_utils import glance

MINE = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\n"


class Local:
    """An action whose node is this machine; keeps what was asked and said."""

    said = ""

    def _low_level_execute_command(self, command: str, in_data: bytes | None = None) -> dict[str, Any]:
        text = in_data.decode() if in_data else None
        done = subprocess.run(["/bin/sh", "-c", command], input=text, capture_output=True, text=True, check=False)
        self.said += command + done.stdout + done.stderr
        return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a space in its name, a release's Python, a key, a directory and a link that leads nowhere."""
    home = tmp_path / "a home"
    (home / "current/bin").mkdir(parents=True)
    (home / "current/bin/python").symlink_to(sys.executable)
    (home / "etc/keys").mkdir(parents=True, mode=0o700)
    (home / "etc/keys/coz.key").write_text(SECRET)
    (home / "etc/keys/coz.key").chmod(0o600)
    (home / "nowhere").symlink_to("gone")
    return home


def test_kinds_modes_targets_and_digests_are_seen(home: Path) -> None:
    """Directories, links and files are told as they are, with their owners, patterns are followed, and what is not there is left out."""
    home.chmod(0o755)
    paths = [".", "etc/keys/*.key", "nowhere", "missing"]
    assert glance.glance(Local(), str(home), paths) == {
        ".": {"kind": "directory", "mode": "0755", **MINE},
        "etc/keys/coz.key": {
            "kind": "file",
            "mode": "0600",
            "sha256": hashlib.sha256(SECRET.encode()).hexdigest(),
            **MINE,
        },
        "nowhere": {"kind": "link", "target": "gone"},
    }


def test_a_secret_is_neither_asked_nor_shown(home: Path) -> None:
    """Nothing of a key stands in the command or in what it prints: both end up in Ansible's debug log."""
    action = Local()
    assert "etc/keys/coz.key" in glance.glance(action, str(home), ["etc/keys/*.key"])
    assert "whsec_" not in action.said


def test_a_pipe_in_place_of_a_file_stops_nobody(home: Path) -> None:
    """What is no file is told as such, and not waited for."""
    os.mkfifo(home / "etc/keys/axiom.key", 0o600)
    seen = glance.glance(Local(), str(home), ["etc/keys/axiom.key"])
    assert seen == {"etc/keys/axiom.key": {"kind": "other", "mode": "0600", **MINE}}


@pytest.mark.timeout(20)
def test_a_file_without_an_end_is_not_read(home: Path) -> None:
    """An agent may write there: what is too large to be anything of ours is told without a digest."""
    with open(home / "etc/keys/axiom.key", "wb") as file:
        file.truncate(1 << 40)
    assert "sha256" not in glance.glance(Local(), str(home), ["etc/keys/*.key"])["etc/keys/axiom.key"]


def test_without_a_release_nothing_is_seen(tmp_path: Path) -> None:
    """Before the first run there is nothing to compare, and that is no error."""
    assert glance.glance(Local(), str(tmp_path), ["."]) == {}


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ("echo Welcome; echo '{\"a\": 1}'; echo Bye", ({"a": 1}, "")),
        ("echo '{half'; echo trouble >&2; exit 3", ({}, "trouble")),
        ("exit 3", ({}, "ended with 3")),
        ("exit 127", ({}, "not installed")),
    ],
)
def test_an_answer_is_found_among_noise(script: str, answer: tuple[dict[str, Any], str]) -> None:
    """Lines around the answer do no harm; without an answer it is said why."""
    assert glance.ask(Local(), shlex.split(f"sh -c {shlex.quote(script)}")) == answer
