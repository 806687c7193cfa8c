"""The real OpenClaw, as a person runs it, becomes a node's: the same sessions, memory and schedule, and the person's untouched."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.live import free_port, until
from support.oldclaw import lay_out, listed, openclaw_adopt, wished
from support.openclaw import Gateway, release
from support.provider import Provider

from outlast.home import Home
from outlast.openclaw import rpc
from outlast.openclaw.adopting import adopt
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw

TOKEN = "a-token-of-the-person-0123456789"
SYSTEM = ("system", "developer")


class Person:
    """Somebody with an OpenClaw in their home, its gateway run by hand, and a workspace of their own choice."""

    def __init__(self, home: Path, provider: Provider) -> None:
        self.home, self.state, self.port = home, home / ".openclaw", free_port()
        self.state.mkdir(parents=True, mode=0o700)
        (home / "clawd/memory").mkdir(parents=True)
        (home / "clawd/MEMORY.md").write_text("- Pat likes tea\n")
        (home / "clawd/memory/2026-11-20.md").write_text("- met at the lighthouse\n")
        providers = json.dumps({"one": provider.settings("sk-of-pat")})
        (self.state / "openclaw.json").write_text(
            f"""// mine
{{
  gateway: {{ mode: 'local', port: {self.port}, bind: 'loopback', auth: {{ mode: 'token', token: '{TOKEN}' }},
             controlUi: {{ enabled: false }} }},
  agents: {{ defaults: {{ model: {{ primary: 'one/fake-1' }}, skipBootstrap: true, heartbeat: {{ every: '0m' }} }},
            entries: {{ main: {{ workspace: '~/clawd' }} }} }},
  models: {{ mode: 'replace', catalogRefresh: {{ enabled: false }}, providers: {providers} }},
  update: {{ checkOnStart: false }}, discovery: {{ mdns: {{ mode: 'off' }} }},
}}
"""
        )
        place = Place(Home(home / "asked"), OpenClaw(str(release()), self.port, "main"))
        place.folder.mkdir(parents=True)
        place.tokens.touch(mode=0o600)
        place.tokens.write_text(json.dumps({"gateway": {"token": TOKEN}}))
        self.place = place

    def command(self, *words: str) -> dict[str, Any]:
        """How one of their programs is started."""
        folder = release()
        environment = {
            "HOME": str(self.home), "PATH": f"{folder}/node/bin:/usr/bin:/bin", "TMPDIR": str(self.home),
            "OPENCLAW_DISABLE_BONJOUR": "1", "NO_COLOR": "1",
        }  # fmt: skip
        return {
            "args": [*self.place.command, *words],
            "env": environment,
            "cwd": self.home,
            "stdin": subprocess.DEVNULL,
        }

    @contextmanager
    def running(self) -> Iterator[int]:
        """Its gateway runs; the process."""
        with (self.home / "printed").open("wb") as out:
            process = subprocess.Popen(**self.command("gateway", "run"), stdout=out, stderr=out, start_new_session=True)
        try:
            until(lambda: process.poll() is not None or self.ready(), limit=240, what="a gateway that is ready")
            assert process.poll() is None, (self.home / "printed").read_text()[-2000:]
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)

    def ready(self) -> bool:
        """Is a call answered from its database?"""
        try:
            return isinstance(asyncio.run(rpc.call(self.place, "status")), dict)
        except Exception:  # noqa: BLE001 (it starts)
            return False

    def turn(self, text: str) -> None:
        """Let its agent take a turn."""
        words = self.command("agent", "--agent", "main", "--message", text, "--json")
        done = subprocess.run(**words, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr[-1000:]


def said(provider: Provider, *roles: str) -> str:
    """What the model was told last."""
    messages = provider.asked[-1]["messages"]
    return json.dumps([one["content"] for one in messages if not roles or one["role"] in roles])


def test_an_openclaw_that_a_person_ran_goes_on_as_the_nodes(tmp_path: Path) -> None:
    """It is refused while its gateway runs, which is named. Then the node's gateway has the same sessions, the same schedule
    and the same memory, and its agent goes on in the middle of the conversation; the person's files are what they were."""
    with Provider() as provider:
        pat = Person(tmp_path / "pat", provider)
        mine = Gateway(tmp_path, node="axiom", agent="main", providers={"one": provider.port})
        (mine.home.workspace / "AGENTS.md").write_text("of the node\n")
        with pat.running() as pid:
            pat.turn("the word is LANTERN")
            job = {
                "name": "water", "enabled": True, "agentId": "main", "schedule": {"kind": "cron", "expr": "0 9 * * *", "tz": "UTC"},
                "sessionTarget": "isolated", "wakeMode": "now", "payload": {"kind": "agentTurn", "message": "water the plants"},
                "delivery": {"mode": "none"},
            }  # fmt: skip
            job = asyncio.run(rpc.call(pat.place, "cron.add", job, scopes=rpc.ADMIN))
            with pytest.raises(Exception, match=f"runs \\(process {pid}, openclaw-gateway\\); mend: as "):
                openclaw_adopt.adopt(wished(mine.place, pat.state), True)
        before = listed(pat.state) | listed(pat.home / "clawd")
        lay_out(mine.place, pat.state)
        assert adopt(mine.place)["changed"]
        assert listed(pat.state) | listed(pat.home / "clawd") == before
        assert (mine.home.memory / "2026-11-20.md").read_text() == "- met at the lighthouse\n"
        with mine:
            sessions = asyncio.run(rpc.call(mine.place, "sessions.list"))["sessions"]
            assert "agent:main:main" in [one["key"] for one in sessions]
            jobs = asyncio.run(rpc.call(mine.place, "cron.list", {"includeDisabled": True}))["jobs"]
            assert job["id"] in [one["id"] for one in jobs]
            assert "ECHO one:" in mine.turn("what was the word?")
            assert "LANTERN" in said(provider) and "Pat likes tea" in said(provider, *SYSTEM)
            assert str(mine.home.workspace) in said(provider, *SYSTEM) and "clawd" not in said(provider, *SYSTEM)
        assert listed(pat.state) | listed(pat.home / "clawd") == before
