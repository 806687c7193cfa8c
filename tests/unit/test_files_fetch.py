"""`outlast fetch`: an artifact of a peer's comes whole and proved, or not at all, and every failure is one line."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from support.artifacts import UNIT, answering, fake_ssh, leave, make_home
from support.live import until

from outlast.config import load_config
from outlast.files.fetch import fetch
from outlast.store import durable

FILES = {"report.md": b"all well\n", "data/é a.bin": bytes(range(256)) * 2000, "empty": b"", f"{'n' * 120}/x": b"x"}
SSH = {"host": "axiom.local", "port": 2222, "user": "outlast"}
PEERS = {"axiom": {"url": "http://127.0.0.1:18802", "ssh": SSH}, "witness": {"url": "http://127.0.0.1:18803"}}


class Pair:
    """coz, who fetches, and axiom, who has an artifact; ``way`` is the script of the ssh between them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.coz, self.axiom = make_home(root, "coz", peers=PEERS), make_home(root, "axiom")
        self.theirs = leave(self.axiom, FILES)
        self.ours = self.coz.artifacts / UNIT
        self.bin = root / "bin"
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")
        self.way(answering(self.axiom))

    def way(self, script: str) -> None:
        """Replace ssh by another script."""
        subprocess.run(["rm", "-rf", self.bin], check=True)
        fake_ssh(self.bin, script)

    def command(self, *words: str) -> list[str]:
        code = "from outlast.cli import main; main()"
        return [sys.executable, "-c", code, "--home", str(self.coz.root), "fetch", *words]

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type ``outlast fetch …``."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=60, check=False)

    def nothing_half_done(self) -> None:
        """No artifact, and nothing left of one."""
        assert not self.ours.exists()
        assert not list(self.coz.fetching.glob("*"))


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    return Pair(tmp_path, monkeypatch)


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_artifact_comes_as_it_is(pair: Pair) -> None:
    """Every file and the manifest, byte by byte; what is said names where it is; nobody else may read it; an event tells."""
    done = pair.type("axiom", UNIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{UNIT} came from axiom: 4 files, 512010 bytes" in done.stdout
    assert f"workspace/artifacts/{UNIT}/" in done.stdout
    assert tree(pair.ours) == tree(pair.theirs)
    assert not any(path.stat().st_mode & 0o077 for path in [pair.ours, *pair.ours.rglob("*")])
    assert not list(pair.coz.fetching.glob("*"))
    log = "".join(path.read_text() for path in pair.coz.logs.glob("*.jsonl"))
    assert json.loads(log)["event"] == "files.fetched"


def test_ssh_is_told_everything_and_reads_no_configuration(pair: Pair) -> None:
    """The host key is looked up under the node's name and must be there; only the node's own key is offered; nobody is asked."""
    assert pair.type("axiom", UNIT).returncode == 0
    told = (pair.bin / "argv").read_text().splitlines()
    assert told[:3] == ["-F", "none", "-T"]
    assert told[-3:] == ["--", "axiom.local", f"get artifacts {UNIT}"]
    for wanted in [
        "StrictHostKeyChecking=yes", "HostKeyAlias=axiom", "IdentitiesOnly=yes", "BatchMode=yes", "Port=2222", "User=outlast",
        f'UserKnownHostsFile="{pair.coz.known_hosts}"', f'IdentityFile="{pair.coz.ssh_key}"',
    ]:  # fmt: skip
        assert wanted in told


def test_asked_again_it_is_there_already(pair: Pair) -> None:
    """The second time changes nothing and is fine, also as JSON."""
    first = json.loads(pair.type("axiom", UNIT, "--json").stdout)
    before = pair.ours.stat().st_mtime_ns
    second = json.loads(pair.type("axiom", UNIT, "--json").stdout)
    assert first == {
        "peer": "axiom",
        "unit": UNIT,
        "path": str(pair.ours),
        "files": 4,
        "bytes": 512010,
        "already": False,
    }
    assert second == {**first, "already": True}
    assert pair.ours.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("echo changed > report.md", "the one here is damaged (report.md has other content)"),
        ("rm report.md", "the one here is damaged (report.md: No such file"),
        ("rm .outlast.json", "another one without a manifest is here"),
        ("sed -i.old s/healthy/ill/ .outlast.json", "another one is here"),
    ],
)
def test_one_that_differs_stays_as_it_is(pair: Pair, damage: str, says: str) -> None:
    """Theirs and ours are both kept; the line says how to have theirs."""
    assert pair.type("axiom", UNIT).returncode == 0
    subprocess.run(["/bin/sh", "-c", damage], cwd=pair.ours, check=True)
    before = tree(pair.ours)
    done = pair.type("axiom", UNIT)
    assert done.returncode == 1
    assert says in done.stderr
    assert f"move {pair.ours} away" in done.stderr
    assert done.stderr.count("\n") == 1
    assert tree(pair.ours) == before


def test_the_list_shows_what_a_peer_has(pair: Pair) -> None:
    """Without a unit the peer's artifacts are listed, and nothing in them can drive the terminal."""
    leave(pair.axiom, {"x": b"x"}, "axiom-222222222222", detail="\x1b[2Jgone\nforged", ended="\x07never")
    done = pair.type("axiom")
    assert done.returncode == 0
    assert UNIT in done.stdout
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
    assert done.stdout.count("\n") == 3
    assert len(json.loads(pair.type("axiom", "--json").stdout)["artifacts"]) == 2


CHANGED = "@@@@@\\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\\nHost key verification failed.\\n"
TROUBLE = {
    "no such unit": (["axiom", "coz-000000000000"], "", 1, "there is no artifact coz-000000000000"),
    "no unit's name": (["axiom", "../../etc"], "", 2, "is no unit's name"),
    "no such peer": (["standby", UNIT], "", 2, "coz has no peer 'standby'; one of: axiom, witness"),
    "no ssh for it": (["witness", UNIT], "", 2, "peers.witness.ssh: it is not set"),
    "host key changed": (["axiom", UNIT], f"printf '{CHANGED}' >&2; exit 255", 3, "set up anew"),
    "host key unknown": (["axiom", UNIT], "echo Host key verification failed. >&2; exit 255", 3, "is not known here"),
    "key refused": (
        ["axiom", UNIT],
        "echo 'Permission denied (publickey).' >&2; exit 255",
        3,
        "does not take this node",
    ),
    "asleep": (
        ["axiom", UNIT],
        "echo 'connect: timed out' >&2; exit 255",
        3,
        "not reachable over SSH at axiom.local, port 2222",
    ),
    "no release there": (["axiom", UNIT], "echo 'sh: not found' >&2; exit 127", 3, "does not answer"),
    "broken connection": (["axiom", UNIT], "exit 255", 3, "the connection broke"),
    "hung up": (["axiom", UNIT], "exit 0", 1, "ended too early"),
    "it shouts": (["axiom", UNIT], "printf 'one\\n\\033[2Jtwo\\n' >&2; exit 1", 1, "axiom: [2Jtwo"),
    "a list cut off": (["axiom"], "printf '[{\"unit\":'", 1, "ended too early"),
    "a list that is none": (["axiom"], "echo '{}'", 1, "no list"),
    "a stream that is none": (["axiom", UNIT], "head -c 9999 /dev/zero", 1, "damaged"),
}


@pytest.mark.parametrize(("words", "script", "code", "says"), TROUBLE.values(), ids=TROUBLE)
def test_trouble_is_one_line(pair: Pair, words: list[str], script: str, code: int, says: str) -> None:
    """Each failure has its exit code and one line that says what to do, and leaves nothing behind."""
    if script:
        pair.way(script)
    done = pair.type(*words)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    pair.nothing_half_done()


def test_without_ssh_or_a_key_it_says_so(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ssh client, and no key of the node's: one line each."""
    monkeypatch.setenv("PATH", str(pair.coz.root))
    assert "ssh: it is not installed" in pair.type("axiom", UNIT).stderr
    pair.coz.ssh_key.unlink()
    done = pair.type("axiom", UNIT)
    assert done.returncode == 2
    assert "the node has no SSH key" in done.stderr


def test_it_is_for_the_nodes_own_user(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else, root too, is told whom to be: what they made there the node could not read."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Exception, match="sudo -u"):
        fetch(pair.coz, load_config(pair.coz.config), "axiom", UNIT)


@pytest.mark.parametrize("at", ["report.md", "data/é a.bin"])
def test_a_stream_that_was_tampered_with_is_not_taken(pair: Pair, at: str) -> None:
    """Content that differs from the manifest's SHA-256 by one bit: refused, and nothing is kept of it."""
    data = bytearray((pair.theirs / at).read_bytes())
    data[0] ^= 1
    (pair.theirs / at).write_bytes(data)
    done = pair.type("axiom", UNIT)
    assert done.returncode == 1
    assert f"{at} has other content than its manifest says" in done.stderr
    pair.nothing_half_done()


def test_more_than_is_allowed_is_not_taken(pair: Pair) -> None:
    """files.size_limit holds on this side too, whatever the peer thinks of it."""
    with open(pair.coz.config, "a") as config:
        config.write("files: {size_limit: 1KiB}\n")
    assert "512010 bytes, 1024 are allowed (files.size_limit)" in pair.type("axiom", UNIT).stderr
    pair.nothing_half_done()


@pytest.mark.parametrize("size", [0, 10, 600, 3000, 9000, 200_000, 514_000])
def test_a_connection_that_breaks_leaves_nothing(pair: Pair, size: int) -> None:
    """Cut off anywhere: one line, nothing half-done, and the next fetch is right."""
    pair.way(f"({answering(pair.axiom)}) | head -c {size}; exit 255")
    done = pair.type("axiom", UNIT)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    pair.nothing_half_done()
    pair.way(answering(pair.axiom))
    assert pair.type("axiom", UNIT).returncode == 0


def test_a_peer_that_says_nothing_is_left_in_time(pair: Pair) -> None:
    """files.timeout bounds the whole of it."""
    with open(pair.coz.config, "a") as config:
        config.write("files: {timeout: 200ms}\n")
    pair.way("exec sleep 60")
    done = pair.type("axiom", UNIT)
    assert done.returncode == 3
    assert "not done in 200ms" in done.stderr
    pair.nothing_half_done()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_is_done_again(pair: Pair, sign: signal.Signals) -> None:
    """Ctrl-C leaves nothing; what a kill leaves is outside the workspace, and the next fetch clears it away."""
    pair.way(f"({answering(pair.axiom)}) | head -c 200000; exec sleep 60")
    with subprocess.Popen(pair.command("axiom", UNIT), stderr=subprocess.PIPE) as asked:
        until(lambda: list(pair.coz.fetching.glob(f"{UNIT}/*")), what="a first file")
        assert not pair.ours.exists()
        asked.send_signal(sign)
        assert asked.wait(30) in (130, -9)
    assert not pair.ours.exists()
    if sign == signal.SIGINT:
        pair.nothing_half_done()
    pair.way(answering(pair.axiom))
    assert pair.type("axiom", UNIT).returncode == 0
    assert tree(pair.ours) == tree(pair.theirs)
    assert not list(pair.coz.fetching.glob("*"))


def test_two_at_once_bring_it_once(pair: Pair) -> None:
    """The second waits for the first, and finds it there."""
    pair.way(f"sleep 0.3; {answering(pair.axiom)}")
    both = [subprocess.Popen([*pair.command("axiom", UNIT), "--json"], stdout=subprocess.PIPE) for _ in range(2)]
    answers = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    assert sorted(answer["already"] for answer in answers) == [False, True]
    assert tree(pair.ours) == tree(pair.theirs)


def test_a_full_disk_is_said_and_left_as_it_was(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space for a file's content: one line, and what had been written is gone again."""

    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, "write_all", full)
    with pytest.raises(Exception, match="disk: full at .*; make room there and fetch again"):
        fetch(pair.coz, load_config(pair.coz.config), "axiom", UNIT)
    pair.nothing_half_done()


def test_every_file_and_folder_is_on_the_disk_before_it_is_seen(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after the rename must not find an artifact without its content."""
    synced: list[str] = []
    honest, honest_dir, move = durable.fsync_file, durable.fsync_dir, durable.move

    def sync(fd: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        honest(fd)

    def sync_dir(path: Path | str) -> None:
        synced.append(os.path.basename(path))
        honest_dir(path)

    def moved(source: Path, target: Path) -> None:
        synced.append("moved")
        move(source, target)

    if sys.platform != "linux":
        pytest.skip("names of open files are read from /proc")
    monkeypatch.setattr(durable, "fsync_file", sync)
    monkeypatch.setattr(durable, "fsync_dir", sync_dir)
    monkeypatch.setattr(durable, "move", moved)
    fetch(pair.coz, load_config(pair.coz.config), "axiom", UNIT)
    before = synced[: synced.index("moved")]
    assert {"report.md", "é a.bin", "empty", "x", "data", "n" * 120, UNIT} <= set(before)
    assert "artifacts" in synced[synced.index("moved") :]
