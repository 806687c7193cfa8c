"""What a node tells of its keys: ids and states, never a secret; and which of its processes hold an old one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outlast.core import keys
from outlast.core.ringtext import Outside, outside_text, ring_text

LOOK = Path(__file__).resolve().parents[2] / "plugins/plugin_utils/look_keys.py"
OLD, NEW = keys.Secret(b"o" * 32), keys.Secret(b"n" * 32)
PAIR = keys.Secret(b"s" * 32, b"p" * 32)


def look(home: Path, *more: str) -> tuple[dict[str, Any], str]:
    """Run it as Ansible does; what it told, and all of it as text."""
    command = [sys.executable, "-I", "-S", "-", str(home), *more]
    done = subprocess.run(command, input=LOOK.read_text(), capture_output=True, text=True, check=True)
    return json.loads(done.stdout), done.stdout + done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A ring of two with the older one retired, a peer's of Ed25519, one from before there were rings, and an outside one."""
    folder = tmp_path / "etc/keys"
    (folder / "outside").mkdir(parents=True)
    ring = keys.use(keys.prepare((), OLD, 1e9, ""))
    ring = keys.retire(keys.use(keys.prepare(ring, NEW, 2e9, "r1")))
    (folder / "coz.key").write_text(ring_text(ring))
    (folder / "axiom.key").write_text(ring_text(keys.shared(keys.use(keys.prepare((), PAIR, 1e9, "")))))
    (folder / "witness.key").write_text(f"{NEW.text}\n{OLD.text}\n")
    (folder / "outside/ci.key").write_text(outside_text(Outside(("note",), 5, ring)))
    (folder / "broken.key").write_bytes(b"\xff\xfe what is this\n")
    (folder / "link.key").symlink_to(folder / "coz.key")
    return tmp_path


def test_ids_and_states_are_told_as_the_runtime_has_them(home: Path) -> None:
    """Every ring is told newest first, by the ids that the runtime gives; what is no ring is left out, and no link followed."""
    told, _ = look(home)
    found = {agent: [] for agent in ("coz", "axiom", "witness", "ci")}
    for key in told["keys"]:
        found[key["agent"]].append((key["id"], key["state"], key["kind"]))
    assert found == {
        "coz": [(NEW.id, "active", "hmac"), (OLD.id, "retired", "")],
        "axiom": [(PAIR.id, "active", "ed25519")],
        "witness": [(NEW.id, "active", "hmac"), (OLD.id, "accepted", "hmac")],
        "ci": [(NEW.id, "active", "hmac"), (OLD.id, "retired", "")],
    }
    assert {key["rotation"] for key in told["keys"]} == {"r1", "-"}
    assert {key["agent"] for key in told["keys"] if key["outside"]} == {"ci"}


def test_no_secret_is_told(home: Path) -> None:
    """Nothing of what signs is in what is printed: Ansible's debug log holds that."""
    _, text = look(home, "processes")
    assert not [one for one in (OLD, NEW, PAIR) if one.text.partition("_")[2] in text]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
@pytest.mark.parametrize("form", ["environment", "command line", "bare"])
def test_who_holds_an_old_secret_is_found(home: Path, form: str) -> None:
    """In the environment, on the command line, with what it starts with or without; who holds the one in use is left alone."""
    text = OLD.text.partition("_")[2] if form == "bare" else OLD.text
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)", *([text] if form == "command line" else [])]
    environment = {} if form == "command line" else {"A": "b", "TOKEN": text}
    with (
        subprocess.Popen(sleeper, env=environment) as thief,
        subprocess.Popen([*sleeper[:3], NEW.text], env={}) as honest,
    ):
        try:
            told, _ = look(home, "processes")
        finally:
            thief.kill()
            honest.kill()
    where = "command line" if form == "command line" else "environment"
    found = {int(one["pid"]): (one["where"], one["id"]) for one in told["held"]}
    assert found[thief.pid] == (where, OLD.id)
    assert honest.pid not in found
