"""An OpenClaw as a person has it, without OpenClaw: for tests of adopting one. Its databases have what is looked at, no more."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from outlast.home import Home
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw

from .live import free_port

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.modules import openclaw_adopt  # noqa: E402

__all__ = ["CONFIG", "filed", "installed", "lay_out", "listed", "node", "wished"]

# As a person writes it.
CONFIG = """// mine
{
  agents: { entries: { main: { name: 'Axiom', workspace: "~WS~", identity: {emoji: "x"} } } },
  channels: { telegram: { botToken: "123456:hush-hush" } },
  meta: { lastTouchedVersion: "2026.9.6" },
}
"""
_SCHEDULE = (
    "CREATE TABLE cron_jobs (store_key TEXT NOT NULL, job_id TEXT NOT NULL, PRIMARY KEY (store_key, job_id)) STRICT"
)


def installed(folder: Path, agents: tuple[str, ...] = ("main",), config: str = CONFIG) -> Path:
    """The state directory of one, with a workspace that it names."""
    space = folder / "workspace"
    for name in ("state", "cache", "tmp/openclaw-0", "media", "workspace/memory", "workspace/skills/tea"):
        (folder / name).mkdir(parents=True, mode=0o700)
    (folder / "openclaw.json").write_text(config.replace("~WS~", str(space)))
    (folder / "openclaw.json.bak").write_text("{gateway: {auth: {token: 'hush-hush'}}}")
    (folder / ".env").write_text("# mine\nexport ANTHROPIC_API_KEY=sk-hush\nTELEGRAM_BOT_TOKEN=hush\n")
    (folder / "cache" / "big").write_bytes(bytes(1 << 16))
    (folder / "media" / "sent.bin").write_bytes(b"\0\1")
    (folder / "media" / "link").symlink_to("sent.bin")
    os.mkfifo(folder / "tmp" / "pipe")
    for name, text in (
        ("AGENTS.md", "be kind\n"),
        ("MEMORY.md", "- likes tea\n"),
        ("memory/2026-11-20.md", "- the word is LANTERN\n"),
        ("memory/2026-11-22.md", "- met Pat\n"),
        ("skills/tea/run", "#!/bin/sh\n"),
        ("STATE.json", "{}"),
    ):
        (space / name).write_text(text)
    (space / "skills/tea/run").chmod(0o755)
    with contextlib.closing(_database(folder / "state/openclaw.sqlite")) as db, db:
        db.execute(_SCHEDULE)
        db.execute("CREATE TABLE config_machine_state (state_key TEXT PRIMARY KEY, value_json TEXT NOT NULL)")
        db.execute("INSERT INTO cron_jobs VALUES (?, 'water')", (f"{folder}/cron/jobs.json",))
        db.execute("INSERT INTO config_machine_state VALUES (?, '[]')", (f"cron.quarantine:{folder}/cron/jobs.json",))
    for name in agents:
        path = folder / "agents" / name / "agent" / "openclaw-agent.sqlite"
        path.parent.mkdir(parents=True)
        with contextlib.closing(_database(path)) as db, db:
            db.execute("CREATE TABLE sessions (key TEXT)")
            db.execute("INSERT INTO sessions VALUES (?)", (f"agent:{name}:main",))
    return folder


def _database(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    return db


def node(root: Path) -> Place:
    """A node that has had an OpenClaw of its own for a while."""
    home = Home(root)
    place = Place(home, OpenClaw(release="/nowhere", port=free_port(), agent="main"))
    for folder in (place.folder, home.memory, place.state / "state", home.workspace / "skills" / "outlast"):
        folder.mkdir(parents=True, mode=0o700)
    for path, text in (
        (place.state / "state" / "openclaw.sqlite", "the node's own"),
        (home.workspace / "AGENTS.md", "be quick\n"),
        (home.memory_file, "- the node knows\n"),
        (home.memory / "2026-11-22.md", "# 2026-11-22\n\n- of the node\n"),
        (home.workspace / "skills" / "outlast" / "SKILL.md", "outlast\n"),
        (home.state_file, '{"mine": 1}'),
    ):
        path.write_text(text)
    return place


def wished(place: Place, folder: Path, **more: Any) -> dict[str, Any]:
    """What the module is told."""
    told = {"home": str(place.home.root), "user": "", "from": str(folder), "operator": "", "version": "2026.9.6"}
    return {**told, "agents": {"main": ""}, "agent": "main", **more}


def lay_out(place: Place, folder: Path, **more: Any) -> dict[str, Any]:
    """Have the module lay out a copy."""
    found: dict[str, Any] = openclaw_adopt.adopt(wished(place, folder, **more), False)
    return found


def filed(place: Place) -> list[tuple[str, str]]:
    """The schedule, and what it is filed under."""
    with contextlib.closing(sqlite3.connect(place.state / "state" / "openclaw.sqlite")) as db:
        return [(str(key), str(job)) for key, job in db.execute("SELECT store_key, job_id FROM cron_jobs")]


def listed(folder: Path) -> dict[str, tuple[int, str]]:
    """All that is below a folder: its mode, and what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            holds = os.readlink(path)
        else:
            holds = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(status.st_mtime_ns)
        found[path.relative_to(folder).as_posix()] = (status.st_mode, holds)
    return found
