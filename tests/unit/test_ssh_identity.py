"""A node's SSH identity: made once, told only as far as it is public, and nothing but keys ever reach another machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils import ssh_key
from plugins.plugin_utils import ssh_public

LOOK = Path(ssh_public.__file__).with_name("look_ssh.py")
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIBttBvM73XMYErzIkkgcO6dVkq9XWPivxNQJcqzVqLX2"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose etc/ssh belongs to the node's user, and is empty."""
    (tmp_path / "etc/ssh").mkdir(parents=True, mode=0o700)
    (tmp_path / "var").mkdir()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "host.pub").write_text(f"ssh-ed25519 {KEY} root@axiom\n")
    return tmp_path


def look(home: Path) -> dict[str, Any]:
    """What the look prints; nothing else may stand beside it."""
    command = [sys.executable, "-I", "-S", LOOK, home, home / "host.pub"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return dict(json.loads(done.stdout))


def test_a_key_is_made_once(home: Path) -> None:
    """Ed25519, named after the node, for its user's eyes only; the second time changes nothing; ssh's own view of it agrees."""
    made = ssh_key.ensure(str(home), "axiom")
    key = home / "etc/ssh/id_ed25519"
    before = key.read_bytes()
    assert made["changed"]
    assert key.stat().st_mode & 0o777 == 0o600
    assert (home / "etc/ssh/id_ed25519.pub").read_text().split() == ["ssh-ed25519", made["own"], "axiom"]
    assert ssh_key.ensure(str(home), "axiom") == {"changed": False, "own": made["own"]}
    assert key.read_bytes() == before
    assert sorted(path.name for path in key.parent.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    assert look(home)["own"] == made["own"]


def test_the_look_tells_nothing_private(home: Path) -> None:
    """Of the key file only the public half is printed: not one line of it is in what Ansible may log."""
    ssh_key.ensure(str(home), "axiom")
    told = json.dumps(look(home))
    body = base64.b64decode("".join((home / "etc/ssh/id_ed25519").read_text().split("\n")[1:-2]))
    public = base64.b64decode(look(home)["own"])[-32:]
    private = body[body.rindex(public) - 32 : body.rindex(public)]
    assert base64.b64encode(private).decode()[2:20] not in told
    assert set(look(home)) == {"own", "host", "let_in", "known", "account_home"}


@pytest.mark.parametrize(
    "damage",
    [
        "rm etc/ssh/id_ed25519",
        ": > etc/ssh/id_ed25519",
        "head -c 100 etc/ssh/id_ed25519 > x; mv x etc/ssh/id_ed25519",
        "echo nonsense > etc/ssh/id_ed25519",
        "mv etc/ssh/id_ed25519 x; ln -s ../../x etc/ssh/id_ed25519",
        "rm etc/ssh/id_ed25519; mkdir etc/ssh/id_ed25519",
        "rm etc/ssh/id_ed25519; mkfifo etc/ssh/id_ed25519",
        "rm etc/ssh/id_ed25519*; ssh-keygen -q -t ecdsa -N '' -f etc/ssh/id_ed25519",
        "ssh-keygen -q -p -N secret -P '' -f etc/ssh/id_ed25519",
    ],
)
def test_what_is_no_key_is_kept_and_replaced(home: Path, damage: str) -> None:
    """Whatever lies there that ssh could not use by itself: seen as none, a new key is made, and the old thing is in the trash."""
    first = ssh_key.ensure(str(home), "axiom")["own"]
    subprocess.run(["/bin/sh", "-c", damage], cwd=home, check=True, stdout=subprocess.DEVNULL)
    there = os.path.lexists(home / "etc/ssh/id_ed25519")
    assert look(home)["own"] == ""
    again = ssh_key.ensure(str(home), "axiom")
    assert again["changed"]
    assert again["own"] not in {"", first}
    assert len(list(home.glob("var/trash/*-id_ed25519"))) == there
    assert look(home)["own"] == again["own"]


def test_a_key_that_others_could_read_is_made_private(home: Path) -> None:
    """Seen as none, so the module is sent; it closes the file and keeps the key."""
    first = ssh_key.ensure(str(home), "axiom")["own"]
    (home / "etc/ssh/id_ed25519").chmod(0o644)
    assert look(home)["own"] == ""
    assert ssh_key.ensure(str(home), "axiom") == {"changed": True, "own": first}
    assert look(home)["own"] == first


def test_trouble_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory, and no ssh-keygen."""
    with pytest.raises(ssh_key.KeyTrouble, match="etc/ssh: it is not there"):
        ssh_key.ensure(str(home / "elsewhere"), "axiom")
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(ssh_key.KeyTrouble, match="ssh-keygen: it is not installed"):
        ssh_key.ensure(str(home), "axiom")


def test_what_is_known_is_read_back(home: Path) -> None:
    """Of the files that Ansible wrote, each peer's key; a line that somebody added is not taken for one."""
    allowed = f'restrict,command="/h/current/bin/outlast-files --home /h --peer coz" ssh-ed25519 {KEY} coz'
    (home / ".ssh/authorized_keys").write_text(f"# Written\n{allowed}\nssh-ed25519 {KEY} evil\n")
    (home / ".ssh/known_hosts").write_text(f"# Written\ncoz ssh-ed25519 {KEY}\n@cert-authority * ssh-ed25519 {KEY}\n")
    told = look(home)
    assert (told["let_in"], told["known"]) == ({"coz": KEY}, {"coz": KEY})
    assert told["host"] == KEY


@pytest.mark.parametrize(
    "said",
    [
        f"{KEY}\nssh-ed25519 {KEY} evil",
        f'{KEY}" ssh-ed25519 {KEY}',
        f"{KEY} {KEY}",
        f"{KEY}\n",
        KEY[:-1],
        KEY.replace("ssh", "rsa")[:20],
        "{{ lookup('file', '/etc/passwd') }}",
        7,
        None,
        [KEY],
    ],
)
def test_a_node_that_lies_gets_nothing_into_another_machines_files(said: object) -> None:
    """What is not exactly a key counts as none, whoever it is said to be of."""
    told = ssh_public.believed({"own": said, "host": said, "let_in": {"coz": said}, "known": {"coz": said}})
    assert told == {"own": "", "host": "", "let_in": {}, "known": {}}
    assert ssh_public.believed({"own": KEY, "let_in": {"coz": KEY}})["let_in"] == {"coz": KEY}
