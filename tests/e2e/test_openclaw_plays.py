"""The real OpenClaw beside a node of the embedded inventory, by what a person types: up, a task, new keys, an upgrade that fails,
a backup put back on a broken node and on an empty one, and off again. One gateway, in this order."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.live import until
from support.openclaw import installed
from support.provider import MODEL, Provider

from outlast.config import load_config
from outlast.errors import GatewayError
from outlast.home import Home
from outlast.openclaw import hooks, rpc, tokens
from outlast.openclaw.place import Place

from .conftest import Clone, is_free

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.action.openclaw_release import digest, sources  # noqa: E402

pytestmark = pytest.mark.timeout(1200)
NEXT = "2026.99.1"
SMALL = {"models": {"mode": "replace", "catalogRefresh": {"enabled": False}}}
# What another release may do to the one before it: its state is nothing that this one reads.
MIGRATES = """
import fs from "node:fs";
if (process.argv[2] === "gateway") {
  const path = process.env.OPENCLAW_STATE_DIR + "/state/openclaw.sqlite";
  for (const end of ["-wal", "-shm"]) fs.rmSync(path + end, { force: true });
  const file = fs.openSync(path, "r+");
  fs.writeSync(file, Buffer.alloc(100, 7), 0, 100, 0);
  fs.closeSync(file);
  console.error("Error: the new schema is not to be had");
  process.exit(1);
}
await import("%s");
"""


class Machine:
    """A clone whose axiom has OpenClaw beside it, and a model provider's double."""

    def __init__(self, clone: Clone, provider: Provider) -> None:
        self.clone, self.provider, self.home = clone, provider, clone.home("axiom")
        self.said = clone.root / "inventory/local/host_vars/axiom.yml"
        self.folder = clone.root / ".openclaw"

    def say(self, **more: Any) -> None:
        """Write what the inventory says of axiom."""
        values = {
            "openclaw_enabled": True,
            "openclaw_dir": str(self.folder),
            "openclaw_keep_releases": 9,
            "openclaw_model": {"primary": f"one/{MODEL}"},
            "openclaw_providers": {"one": self.provider.settings("secret:ONE")},
            "openclaw_secrets": {"ONE": {"value": "sk-of-one"}},
            "openclaw_agents": {"axiom": {}},
            "openclaw_config": SMALL,
            "openclaw_watch": {"alive_every": "2s", "truth_every": "10s", "snapshot_every": "1d"},
            **more,
        }
        self.said.parent.mkdir(exist_ok=True)
        self.said.write_text(yaml.safe_dump(values))

    @property
    def place(self) -> Place:
        """Where its OpenClaw is, as its node.yml says."""
        home = Home(self.home)
        settings = load_config(home.config).openclaw
        assert settings is not None
        return Place(home, settings)

    def asked(self, method: str, **params: Any) -> Any:
        """What the gateway answers."""
        return asyncio.run(rpc.call(self.place, method, params))

    def sessions(self) -> dict[str, Any]:
        """Its sessions: when each was last changed, by key."""
        return {one["key"]: one.get("updatedAt") for one in self.asked("sessions.list")["sessions"]}

    def answers(self) -> dict[str, Any]:
        """Its sessions, or none while it does not answer."""
        try:
            return self.sessions()
        except GatewayError:
            return {}

    def remembers(self, word: str) -> bool:
        """Is it in a conversation of its agent's?"""
        told = [self.asked("chat.history", sessionKey=key) for key in self.sessions()]
        return any(word in json.dumps(one) for one in told)

    def hand(self, task: str) -> None:
        """Hand a task to it, and see it done."""
        done = self.clone.outlast("--node", "coz", "handoff", "axiom", task)
        assert done.code == 0, done.text

    def opens(self, gateway: str, hook: str) -> tuple[bool, bool]:
        """Whether the running gateway, and its hooks, let these in."""

        async def ask() -> tuple[bool, bool]:
            try:
                await rpc.call(self.place, "status", token=gateway)
            except GatewayError as error:
                assert error.kind == "refused", error
                return False, await hooks.opens(self.place, hook)
            return True, await hooks.opens(self.place, hook)

        return asyncio.run(ask())

    def holders(self, *secrets: str) -> list[str]:
        """Processes and files that hold one of these."""
        looked = [path for one in Path("/proc").glob("[0-9]*") for path in (one / "environ", one / "cmdline")]
        found = []
        for path in [*looked, *self.home.rglob("*")]:
            try:
                data = path.read_bytes() if path.is_file() else b""
            except OSError:
                continue
            found += [str(path)] if any(secret.encode() in data for secret in secrets) else []
        return found


@pytest.fixture(scope="module")
def machine(clone: Clone) -> Iterator[Machine]:
    """The machine, with OpenClaw in its inventory; installed once for all tests, and another release that does not work."""
    cached = (installed() / "current").resolve()
    with Provider("one") as provider:
        made = Machine(clone, provider)
        (made.folder / "releases").mkdir(parents=True)
        (made.folder / "releases" / cached.name).symlink_to(cached)
        (made.folder / "current-axiom").symlink_to(f"releases/{cached.name}")
        bad = made.folder / "releases" / f"{NEXT}-{digest(sources(NEXT))}"
        (bad / "node_modules/openclaw").mkdir(parents=True)
        (bad / "node").symlink_to(cached / "node")
        (bad / "node_modules/.package-lock.json").write_text('{"packages": {}}')
        (bad / "node_modules/openclaw/openclaw.mjs").write_text(
            MIGRATES % (cached / "node_modules/openclaw/openclaw.mjs")
        )
        (bad / ".complete").touch()
        made.say()
        try:
            yield made
        finally:
            # Also what `make up` leaves of it: the next file's nodes never had one.
            made.said.unlink(missing_ok=True)
            clone.forget()


def test_up_and_a_task_is_a_turn(machine: Machine) -> None:
    """`make up` with OpenClaw in the inventory, tried before by --check: its gateway works, again nothing changes, and a task that
    coz hands over is a turn of axiom's agent, which uses `outlast`. No secret is where anybody sees it."""
    clone = machine.clone
    tried = clone.make("up", "--check")
    assert tried.code == 0, tried.text
    assert not (machine.home / "etc/openclaw").exists()
    done = clone.make("up")
    assert done.code == 0 and "openclaw:working" in done.text, done.text
    again = clone.make("up")
    assert again.code == 0 and again.changed() == 0, again.text
    machine.hand("RUN: outlast status | head -n 1 # the word is mulberry")
    (answer,) = (machine.home / "workspace/artifacts").glob("coz-*/answer.md")
    assert "axiom: alive, ready" in answer.read_text()
    assert set(machine.provider.keys) == {"sk-of-one"}, "the secret goes to the provider"
    assert machine.holders("sk-of-one") == [str(machine.place.secrets)]
    assert "sk-of-one" not in done.text + again.text


def test_new_keys_also_for_the_gateway(machine: Machine) -> None:
    """rotate-keys.yml, cut off by Ctrl-C while the gateway's tokens are changed, and typed again: the running gateway refuses the
    old ones, and nobody holds them."""
    old = tokens.gateway(machine.place), tokens.hooks(machine.place)
    assert machine.opens(*old) == (True, True)
    play = str(machine.clone.root / ".venv/bin/ansible-playbook")
    cut = machine.clone.interrupt("tasks/openclaw.yml for axiom", play, "rotate-keys.yml")
    assert cut.code != 0 and "both tokens of OpenClaw's gateway are changed as well" in cut.text, cut.text
    done = machine.clone.play("rotate-keys.yml")
    assert done.code == 0, done.text
    assert "axiom: OpenClaw's tokens are new; the gateway refuses the old ones" in done.text
    new = tokens.gateway(machine.place), tokens.hooks(machine.place)
    assert machine.opens(*old) == (False, False) and machine.opens(*new) == (True, True)
    assert machine.holders(*old) == []
    assert not [token for token in (*old, *new) if token in cut.text + done.text]


def test_what_is_new_is_not_proven_where_a_person_stopped_it(machine: Machine) -> None:
    """The gateway stays stopped, nothing says that it works, and what was there before is kept until it was proven."""
    stopped = machine.clone.outlast("--node", "axiom", "openclaw", "stop")
    assert stopped.code == 0, stopped.text
    machine.say(openclaw_config={**SMALL, "logging": {"level": "debug"}})
    done = machine.clone.play("playbooks/upgrade.yml", "-l", "axiom")
    said = " ".join(done.text.split())
    assert "so what is new is not proven; mend: outlast openclaw start" in said and " works; before: " not in said, said
    assert (machine.place.folder / "before").is_dir() and is_free(machine.place.settings.port)
    started = machine.clone.outlast("--node", "axiom", "openclaw", "start")
    assert started.code == 0, started.text


def test_a_release_that_does_not_work_goes_back_whole(machine: Machine) -> None:
    """An upgrade to one that spoils the state and ends, with another port on the command line, while a configuration is not
    proven yet: by itself there is the release of before, the port and the configuration of before, and the state, because the one of
    before takes no other; what happened is one line."""
    known, port = until(machine.answers, limit=120.0, what="a gateway that answers"), machine.place.settings.port
    more = ("-e", f"openclaw_version={NEXT}", "-e", f"openclaw_port={port + 600}")
    done = machine.clone.play("playbooks/upgrade.yml", "-l", "axiom", *more)
    machine.say()
    assert done.code != 0 and "Traceback" not in done.text
    said = " ".join(done.text.split())
    assert "Error: the new schema is not to be had); back to what ran before, which works; its state is that of" in said
    assert (machine.folder / "current-axiom").readlink() == Path("releases") / (installed() / "current").resolve().name
    assert machine.place.settings.port == port and is_free(port + 600)
    assert "debug" not in machine.place.config.read_text()
    assert machine.sessions() == known


def test_a_backup_on_a_broken_node_and_on_an_empty_machine(machine: Machine, tmp_path: Path) -> None:
    """One backup while all runs; the state database's first page is overwritten, and restore.yml brings the node back; its home is
    gone, whole, and it does so again: sessions with what was said, memory and files of the agent are there, and it takes tasks."""
    clone, home = machine.clone, machine.home
    (home / "workspace/MEMORY.md").write_text("The house is red.\n")
    made = clone.outlast("--node", "axiom", "backup", "now", "--to", str(tmp_path), "--json")
    assert made.code == 0, made.text
    file = json.loads(made.text)["file"]
    verified = clone.outlast("--node", "axiom", "backup", "verify", file, "--json")
    assert json.loads(verified.text)["openclaw_verified"] is True
    refused = clone.outlast("--node", "axiom", "backup", "restore", file, "--sure")
    assert refused.code == 2 and "stop it first" in refused.text, refused.text
    known, restore = (
        machine.sessions(),
        ["playbooks/restore.yml", "-l", "axiom", "-e", "sure=yes", "-e", f"from={file}"],
    )

    def is_back(what: str) -> None:
        done = clone.play(*restore)
        assert done.code == 0 and "openclaw:working" in done.text and what in done.text, done.text
        assert machine.sessions() == known
        assert (home / "workspace/MEMORY.md").read_text() == "The house is red.\n"

    database = machine.place.state / "state/openclaw.sqlite"
    with database.open("r+b") as file:
        file.write(os.urandom(8192))
    (home / "etc/keys/axiom.key").write_text("no key\n")
    is_back("what was there is on it in")
    assert clone.play("playbooks/down.yml", "-l", "axiom").code == 0
    home.rename(tmp_path / "lost")
    is_back("there was nothing before")
    assert machine.remembers("mulberry")
    machine.hand("RUN: echo I am back")


def test_off_again(machine: Machine) -> None:
    """Without it in the inventory `make up` takes the gateway away, and leaves its data."""
    place = machine.place
    machine.said.unlink()
    done = machine.clone.make("up")
    assert done.code == 0 and "2 of 2 nodes are well" in done.text and "openclaw:" not in done.text, done.text
    assert is_free(place.settings.port)
    assert not [line for line in machine.clone.processes() if "openclaw" in line]
    assert (place.state / "state/openclaw.sqlite").exists()
