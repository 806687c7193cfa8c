"""The orders of a rotation, as they are typed: on a running node, which goes by them at once, and with the runtime dead."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.live import LiveNode, pair

from outlast.errors import BadInput

OUTLAST = str(Path(sys.executable).parent / "outlast")


def typed(node: LiveNode, *words: str, reads: str = "") -> subprocess.CompletedProcess[str]:
    command = [OUTLAST, "--home", str(node.home.root), *words]
    return subprocess.run(command, input=reads, capture_output=True, text=True, timeout=60, check=False)


def keys(node: LiveNode, *words: str, reads: str = "") -> Any:
    """What `outlast keys … --json` says."""
    done = typed(node, "keys", *words, "--json", reads=reads)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def states(node: LiveNode, agent: str) -> list[str]:
    return [key["state"] for key in keys(node, "list")["keys"] if key["agent"] == agent]


def tell(node: LiveNode, peer: LiveNode) -> Any:
    """A peer is told a node's ring, as the play does it."""
    return keys(peer, "accept", node.name, reads=typed(node, "keys", "show").stdout)


@contextmanager
def both(root: Path, *, alive: bool) -> Iterator[tuple[LiveNode, LiveNode]]:
    with pair(root) as nodes:
        if alive:
            for node in nodes:
                node.start()
        yield nodes


def greets(node: LiveNode, peer: LiveNode) -> bool:
    return typed(node, "ping", peer.name).returncode == 0


@pytest.mark.parametrize("alive", [True, False], ids=["running", "dead"])
def test_a_rotation_step_by_step(tmp_path: Path, alive: bool) -> None:
    """Prepare, accept, use, retire and accept again: each may be typed twice, the key that signs is one that the peer accepts
    at every moment, and the running nodes go by it without a restart."""
    with both(tmp_path, alive=alive) as (coz, axiom):
        old = keys(coz, "list")["keys"][0]["id"]
        new = keys(coz, "prepare", "--rotation", "r1")["id"]
        assert keys(coz, "prepare", "--rotation", "r2")["id"] == new
        assert states(coz, "coz") == ["accepted", "active"]
        assert tell(coz, axiom)["accepted"] == [new, old]
        assert not alive or greets(coz, axiom)
        used = keys(coz, "use")
        assert (used["id"], used["changed"], used["drained"], used["rotation"]) == (new, True, True, "r1")
        assert not keys(coz, "use")["changed"]
        assert not alive or (greets(coz, axiom) and greets(axiom, coz))
        assert keys(coz, "retire")["ended"] == [old] and keys(coz, "retire")["ended"] == []
        assert tell(coz, axiom)["ended"] == [old] and not tell(coz, axiom)["changed"]
        assert states(axiom, "coz") == states(coz, "coz") == ["active", "retired"]
        assert not alive or (greets(coz, axiom) and greets(axiom, coz))
        if not alive:
            coz.start()
            axiom.start()
            assert greets(coz, axiom) and greets(axiom, coz)


def test_no_restart_is_asked_for(tmp_path: Path) -> None:
    """run/loaded follows what the running node writes itself: what lies there is what it goes by."""
    with both(tmp_path, alive=True) as (coz, axiom):
        keys(coz, "prepare")
        keys(coz, "add", "home", "--allow", "note")
        tell(axiom, coz)
        assert coz.process is not None
        read = json.loads(coz.home.loaded.read_text())
        assert read["pid"] == coz.process.pid
        for path in ("etc/keys/coz.key", "etc/keys/axiom.key", "etc/keys/outside/home.key"):
            assert read["files"][path] == hashlib.sha256((coz.home.root / path).read_bytes()).hexdigest()


def test_a_leaked_key_is_refused_at_once_and_for_good(tmp_path: Path) -> None:
    """Revoked on a peer, nothing signed with it is taken from then on, over a restart and whatever ring comes; the owner goes
    on with a new key once that is told."""
    with both(tmp_path, alive=True) as (coz, axiom):
        leaked = typed(coz, "keys", "show").stdout
        assert len(keys(axiom, "revoke", "coz")["ended"]) == 1
        assert not greets(coz, axiom)
        keys(axiom, "accept", "coz", reads=leaked)
        axiom.stop()
        axiom.start()
        assert not greets(coz, axiom) and states(axiom, "coz") == ["revoked"]
        assert keys(coz, "revoke", "coz")["signs"] is False
        done = typed(coz, "ping", "axiom")
        assert done.returncode == 3 and "rotate-keys.yml" in done.stderr
        assert not greets(axiom, coz)
        coz.stop()
        coz.start()
        assert any(alert["name"] == "keys" for alert in coz.status()["alerts"])
        keys(coz, "prepare", "--rotation", "r1-leak")
        keys(coz, "use")
        tell(coz, axiom)
        assert greets(coz, axiom) and greets(axiom, coz)
        assert leaked.split()[0] not in "".join(path.read_text() for path in coz.home.root.rglob("*.key"))


def test_a_key_that_is_yet_to_come_can_be_revoked(tmp_path: Path) -> None:
    """Named by its id, it is refused when it arrives; the others are not."""
    with both(tmp_path, alive=False) as (coz, axiom):
        new = keys(coz, "prepare")["id"]
        assert keys(axiom, "revoke", "coz", "--id", new)["unknown"] == [new]
        assert len(tell(coz, axiom)["accepted"]) == 1
        assert sorted(states(axiom, "coz")) == ["active", "revoked"]


def test_an_outside_service_has_a_key_until_it_is_removed(tmp_path: Path) -> None:
    """The secret is printed once; the list names the service; what is removed has no secret left, and is still listed."""
    with both(tmp_path, alive=True) as (coz, _):
        done = typed(coz, "keys", "add", "home-assistant", "--allow", "note", "--rate", "5")
        secret = done.stdout.strip()
        path = coz.home.keys / "outside/home-assistant.key"
        assert secret.startswith("whsec_") and done.stdout.count("\n") == 1 and "/inbox/home-assistant" in done.stderr
        assert (
            path.read_text().startswith(f"# allow: note; rate: 5\n{secret} ") and path.stat().st_mode & 0o777 == 0o600
        )
        listed = typed(coz, "keys", "list")
        assert secret[6:] not in listed.stdout and "home-assistant" in listed.stdout
        for words in (["add", "home-assistant", "--allow", "note"], ["add", "axiom", "--allow", "note"]):
            assert typed(coz, "keys", *words).returncode == 2
        assert keys(coz, "remove", "home-assistant")["changed"]
        assert secret[6:] not in path.read_text() and states(coz, "home-assistant") == ["revoked"]
        assert typed(coz, "keys", "add", "home-assistant", "--allow", "note").returncode == 0
        assert states(coz, "home-assistant") == ["active", "revoked"]


@pytest.mark.parametrize(
    ("words", "reads", "said"),
    [
        (["accept", "axiom"], "whsec_AAAA", "not what a node's key file holds"),
        (["accept", "axiom"], "", "it is empty"),
        (["accept", "axiom"], "whsec_é", "not what a node's key file holds"),
        (["accept", "coz"], "x", "has no peer 'coz'"),
        (["accept", "nobody"], "x", "one of: axiom"),
        (["accept", "axiom"], "x" * 70_000, "keys/accept"),
        (["revoke", "nobody"], "", "one of: coz, axiom"),
        (["revoke", "axiom", "--id", "zz"], "", "--id"),
        (["remove", "nobody"], "", "there are none"),
        (["add", "home", "--allow", "task"], "", "one of: note"),
        (["add", "Home", "--allow", "note"], "", "NAME: 'Home' is not a name"),
        (["prepare", "--rotation", "a b"], "", "--rotation: 'a b' is not a label"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, words: list[str], reads: str, said: str) -> None:
    """Field, what is wrong, the mend; nothing is changed, and what was read is not shown."""
    with both(tmp_path, alive=False) as (coz, _):
        before = {path: path.read_bytes() for path in coz.home.keys.rglob("*.key")}
        done = typed(coz, "keys", *words, reads=reads)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done
        assert "AAAA" not in done.stderr and "Traceback" not in done.stderr
        assert {path: path.read_bytes() for path in coz.home.keys.rglob("*.key")} == before


def test_a_terminal_is_shown_no_secret(tmp_path: Path) -> None:
    """`keys show` prints to a pipe only."""
    with both(tmp_path, alive=False) as (coz, _):
        first, second = pty.openpty()
        command = [OUTLAST, "--home", str(coz.home.root), "keys", "show"]
        done = subprocess.run(command, stdout=second, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        os.close(second)
        os.close(first)
        assert done.returncode == 2 and "terminal" in done.stderr and "whsec_" not in done.stderr


def test_an_ed25519_node_hands_out_the_public_half(tmp_path: Path) -> None:
    """After keys.kind was changed the next rotation makes a pair; peers hold what verifies and cannot sign."""
    pytest.importorskip("cryptography")
    with both(tmp_path, alive=False) as (coz, axiom):
        coz.config["keys"] = {"kind": "ed25519"}
        coz.configure()
        coz.start()
        axiom.start()
        keys(coz, "prepare")
        tell(coz, axiom)
        keys(coz, "use")
        assert greets(coz, axiom) and greets(axiom, coz)
        assert "whsk_" in (coz.home.keys / "coz.key").read_text()
        assert "whsk_" not in (axiom.home.keys / "coz.key").read_text()


@pytest.mark.parametrize("alive", [True, False], ids=["running", "dead"])
def test_an_emergency_lasts_until_a_person_ends_it(tmp_path: Path, alive: bool) -> None:
    """At once on the running node, from the next start on otherwise, and over restarts."""
    with both(tmp_path, alive=alive) as (coz, _):
        done = typed(coz, "emergency", "--reason", "the key of coz leaked")
        assert done.returncode == 0, done
        for _ in range(2):
            if not alive:
                coz.start()
            status = coz.status()
            assert (status["mode"], status["ready"]) == ("emergency", False)
            assert status["mode_reasons"] == ["the key of coz leaked"]
            coz.stop()
            alive = False
        coz.start()
        assert typed(coz, "emergency", "--reason", "and it goes on").returncode == 0
        assert coz.status()["mode_reasons"] == ["the key of coz leaked", "and it goes on"]
        assert coz.journal().count("emergency: the key of coz leaked") == 1
        assert typed(coz, "resume", "--reason", "all keys are new").returncode == 0
        assert coz.status()["mode"] != "emergency"


def test_an_emergency_and_its_end_have_a_reason_that_can_be_read(tmp_path: Path) -> None:
    """One of control characters alone is refused: the journal would not show what was declared, and a start not know it."""
    with both(tmp_path, alive=False) as (coz, _):
        for command in ("emergency", "resume"):
            assert (done := typed(coz, command, "--reason", "\x01\u202e")).returncode == 2 and "--reason" in done.stderr
        coz.start()
        for name in ("emergency", "resume"):
            with pytest.raises(BadInput, match="reason"):
                coz.order(name, {"reason": "\x01"})
        assert coz.status()["mode"] == "normal"


def test_an_old_key_is_an_alert(tmp_path: Path) -> None:
    """A key older than keys.rotate_after is said by `status`, `keys list` and the doctor, with the command."""
    with both(tmp_path, alive=False) as (coz, _):
        path = coz.home.keys / "coz.key"
        secret, name, *_ = path.read_text().split()
        old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 91 * 86_400))
        path.write_text(f"{secret} {name} active {old} -\n")
        coz.start()
        (alert,) = [one for one in coz.status()["alerts"] if one["name"] == "keys"]
        assert alert["urgency"] == "soon" and "90d" in alert["text"] and "rotate-keys.yml" in alert["text"]
        assert keys(coz, "list")["overdue"] and "91 d" in typed(coz, "keys", "list").stdout
        assert "rotate-keys.yml" in typed(coz, "doctor").stderr


def test_the_doctor_sees_what_is_wrong_with_key_files(tmp_path: Path) -> None:
    """A file that somebody changed under the running node, and one that is none, are said; no secret is."""
    with both(tmp_path, alive=True) as (coz, axiom):
        path = coz.home.keys / "axiom.key"
        path.write_bytes((axiom.home.keys / "coz.key").read_bytes())
        assert "keys of axiom" in typed(coz, "doctor").stderr
        path.write_text("whsec_AAAA")
        assert "axiom.key" in (said := typed(coz, "doctor").stderr) and "AAAA" not in said
