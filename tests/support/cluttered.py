"""The home of a node that does not run, with things in it that can be cleaned, and a repository that backs them up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from outlast.cli.talk import do
from outlast.clock import SystemClock
from outlast.home import Home
from outlast.store.memory import Memory

__all__ = [
    "OLD", "TODAY", "artifact", "clean", "configure", "count", "full", "git", "home", "journal", "log", "names", "open_step",
    "push",
]  # fmt: skip

OLD = (date.today() - timedelta(days=30)).isoformat()
TODAY = date.today().isoformat()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The home of a node that does not run."""
    made = Home(tmp_path / "coz")
    for folder in (made.config.parent, made.keys, made.lock.parent, made.logs, made.artifacts, made.trash):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    configure(made)
    return made


def configure(home: Home, **clean: Any) -> None:
    """Write node.yml."""
    content = {"node": "coz", "listen": {"host": "127.0.0.1", "port": 1}, "agent": {"command": ["/bin/true"]}}
    # The disk of whoever runs the tests may be as full as it likes.
    health = {"disk_degraded": 99, "disk_emergency": 100}
    home.config.write_text(yaml.safe_dump({**content, "health": health, "clean": {"least_free": 1, **clean}}))


def clean(home: Home, **asked: bool) -> dict[str, Any]:
    """What the command does where no node runs."""
    return do(home, "clean", {"dry_run": False, "empty_trash": False, **asked})


def log(home: Home, name: str, lines: int = 200) -> bytes:
    """Write a log; return what is in it."""
    data = b"".join(b'{"at":"%d","event":"something"}\n' % number for number in range(lines))
    (home.logs / name).write_bytes(data)
    return data


def artifact(home: Home, name: str, days: int = 100) -> Path:
    """Leave a result that is so many days old."""
    folder = home.artifacts / name
    (folder / "sub").mkdir(parents=True)
    (folder / "report.md").write_text("the same line\n" * 500)
    (folder / "sub/data.bin").write_bytes(bytes(range(256)))
    for path in (*folder.rglob("*"), folder):
        moment = path.stat().st_mtime - days * 86400
        os.utime(path, (moment, moment))
    return folder


def git(where: Path, *words: str) -> None:
    """Run git with somebody's name."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, "-C", str(where), *words], check=True, capture_output=True)


@pytest.fixture
def push(home: Home, tmp_path: Path) -> Callable[[], None]:
    """Commit the workspace and push it elsewhere."""
    git(tmp_path, "init", "--bare", "elsewhere.git")
    git(home.workspace, "init")
    git(home.workspace, "remote", "add", "origin", str(tmp_path / "elsewhere.git"))

    def do_it() -> None:
        git(home.workspace, "add", "-A", "artifacts")
        git(home.workspace, "commit", "-m", "work")
        git(home.workspace, "push", "origin", "HEAD:main")

    return do_it


def journal(home: Home) -> str:
    """All records."""
    return "".join(path.read_text() for path in home.memory.glob("*.md"))


def names(folder: Path) -> list[str]:
    """What is in it."""
    return sorted(path.name for path in folder.iterdir())


def full(monkeypatch: pytest.MonkeyPatch, percent: float) -> None:
    """Have the disk be so full."""

    class Usage:
        total, used, free = 10**9, int(10**7 * percent), int(10**7 * (100 - percent))

    Usage.percent = percent  # type: ignore[attr-defined]
    monkeypatch.setattr("outlast.store.disk.usage", lambda _: Usage)


def open_step(home: Home, unit: str, name: str) -> None:
    """Have the memory know of a step that is open and makes this artifact."""
    memory = Memory(home, "coz", SystemClock())
    memory.intent(unit, "step", "", "write it", (name,))
    memory.flush()
    memory.close()


def count(home: Home) -> None:
    """Have STATE reflect what lies in artifacts/, as after a start."""
    memory = Memory(home, "coz", SystemClock())
    memory.check()
    memory.flush()
    memory.close()
