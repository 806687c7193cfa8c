"""What is in a backup, and that one that is not whole is never taken for one that is."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.backups import MARKED, copy_of_openclaw, laid_out, place_of

from outlast.backup import archive, collect
from outlast.backup.archive import Manifest, read
from outlast.backup.make import Made, make
from outlast.clock import SystemClock
from outlast.errors import CorruptError
from outlast.home import Home


def made_of(home: Home, **more: Any) -> Made:
    """A backup of it."""
    given = {"to": None, "keys": True, "progress": lambda *_: None, **more}
    return make(home, "axiom", None, SystemClock(), **given)


def typed(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    """Type ``outlast backup …`` at a node that is down."""
    command = [str(Path(sys.executable).parent / "outlast"), "--home", str(home.root), "backup", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def names(manifest: Manifest) -> set[str]:
    """Its members' paths."""
    return {member.path for member in manifest.members}


def test_a_backup_holds_what_makes_it_the_same_node_again(tmp_path: Path) -> None:
    """Memory, artifacts, configuration, keys and the ledger are in it, each with its mode; nothing that a start makes anew is.
    The file is its owner's alone, and typing the commands says so."""
    home = laid_out(tmp_path / "axiom", "mine")
    (home.root / "releases/x").mkdir(parents=True)
    (home.root / "releases/x/python").write_text("large")
    (home.workspace / "run.sh").write_text("#!/bin/sh\n")
    (home.workspace / "run.sh").chmod(0o750)
    (home.workspace / ".STATE.json.0123abcd.tmp").write_text("half-written")
    done = typed(home, "now", "--json")
    assert done.returncode == 0, done.stderr
    file = Path(json.loads(done.stdout)["file"])
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent == home.backups
    manifest = read(file)
    wanted = {"etc/node.yml", "etc/keys/axiom.key", "var/outlast.db", "workspace/STATE.json", "var/node", *MARKED}
    assert wanted - {name for name in MARKED if "sqlite" in name} <= names(manifest)
    assert not [name for name in names(manifest) if name.startswith(("releases", "run", "var/trash", "var/backups"))]
    assert not [name for name in names(manifest) if name.endswith(".tmp")]
    assert {member.mode for member in manifest.members if member.path == "workspace/run.sh"} == {0o750}
    told = typed(home, "verify", str(file))
    assert told.returncode == 0 and "whole: axiom" in told.stdout
    assert file.name in typed(home, "list").stdout
    assert "keep it as a secret" in typed(home, "now").stdout


def test_keys_are_left_out_when_that_is_asked_for(tmp_path: Path) -> None:
    """No key, token or secret is in a backup without keys, and its manifest says so."""
    home = laid_out(tmp_path / "axiom", "mine")
    openclaw = home.root / "etc/openclaw"
    openclaw.mkdir(mode=0o700)
    for name in ("openclaw.json", "tokens.json", "hooks.json", "secrets.json"):
        (openclaw / name).write_text("{}")
    manifest = read(Path(made_of(home, keys=False).file))
    assert not manifest.keys
    assert {name for name in names(manifest) if name.startswith("etc/")} == {
        "etc/node.yml",
        "etc/openclaw/openclaw.json",
    }
    assert {"etc/keys/axiom.key", "etc/openclaw/tokens.json"} <= names(read(Path(made_of(home).file)))
    assert "it holds no keys\n" in typed(home, "now", "--without-keys").stdout
    with home.config.open("a") as file:
        file.write("openclaw: {release: /nowhere, port: 18789}\n")
    copy_of_openclaw(place_of(home), "sign-in")
    assert "but OpenClaw's state with its sign-ins: keep it as a secret" in typed(home, "now", "--without-keys").stdout


def test_what_cannot_be_taken_in_is_said(tmp_path: Path) -> None:
    """A FIFO and a name that is no UTF-8 are left out, by name, with exit code 1; a link is kept as a link, whatever it leads
    to; nothing is waited for."""
    home = laid_out(tmp_path / "axiom", "mine")
    os.mkfifo(home.workspace / "fifo")
    (home.workspace / "link").symlink_to("/etc/passwd")
    (home.workspace / "loop").symlink_to(home.workspace)
    Path(os.fsdecode(os.fsencode(home.workspace) + b"/\xff\xfe")).write_text("odd")
    done = typed(home, "now")
    assert done.returncode == 1
    assert "left out: workspace/fifo: it is neither file, folder nor link" in done.stderr
    assert "not UTF-8" in done.stderr
    manifest = read(next(home.backups.glob("outlast-*.gz")))
    links = {member.path: member.target for member in manifest.members if member.kind == "link"}
    assert links == {"workspace/link": "/etc/passwd", "workspace/loop": str(home.workspace)}


def test_what_is_written_meanwhile_is_whole_or_not_in_it(tmp_path: Path) -> None:
    """While records are appended and a file is replaced, every file in the backup is one that was there: daily files end with a
    whole line, the replaced file is one of its versions, and the ledger opens and is whole."""
    home = laid_out(tmp_path / "axiom", "mine")
    day, state, going = home.memory / "2026-11-21.md", home.workspace / "big.json", threading.Event()
    day.write_text("# day\n")

    def write() -> None:
        number = 0
        with day.open("ab", buffering=0) as file, sqlite3.connect(home.ledger) as db:
            while not going.is_set():
                number += 1
                file.write(f"- {number} ".encode() + b"x" * 5000)
                file.write(b" end\n")
                beside = state.with_name(".big.json.00000000.tmp")
                beside.write_bytes(bytes([number % 256]) * 300_000)
                beside.rename(state)
                db.execute("INSERT INTO sent VALUES (?, 0, 0)", (f"id{number}",))
                db.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            into = tmp_path / f"out{number}"
            into.mkdir()
            read(Path(made_of(home).file), into)
            lines = (into / "workspace/memory/2026-11-21.md").read_bytes().split(b"\n")
            assert lines[-1] == b"" and all(line.endswith(b" end") for line in lines[1:-1])
            assert len(set((into / "workspace/big.json").read_bytes())) == 1
            with sqlite3.connect(into / "var/outlast.db") as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        going.set()
        writer.join()


def test_every_other_byte_is_found(tmp_path: Path) -> None:
    """Whichever byte of a backup is another, wherever it ends early, and whatever follows it: reading it fails."""
    home = laid_out(tmp_path / "axiom", "mine", records=1)
    whole = Path(made_of(home).file).read_bytes()
    file = tmp_path / "odd.tar.gz"
    file.write_bytes(whole)
    read(file)
    assert subprocess.run(["tar", "tzf", file], capture_output=True, check=True).stderr == b""
    assert subprocess.run(["gzip", "-t", file], capture_output=True, check=True).stderr == b""
    for position in range(len(whole)):
        odd = bytearray(whole)
        odd[position] ^= 1 << position % 8
        file.write_bytes(odd)
        with pytest.raises(CorruptError):
            read(file)
    for odd_one in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"\0", whole + whole):
        file.write_bytes(odd_one)
        with pytest.raises(CorruptError):
            read(file)
    file.write_bytes(whole[: len(whole) // 2])
    told = typed(home, "verify", str(file))
    assert told.returncode == 1 and told.stderr.startswith(f"outlast: {file}: ") and "Traceback" not in told.stderr
    assert typed(home, "verify", str(tmp_path / "none")).returncode == 2


@pytest.mark.parametrize(
    "name", ["../out", "/etc/out", "workspace/../../out", "workspace//out", "./out", "workspace/link/out"]
)
def test_nothing_is_unpacked_elsewhere(tmp_path: Path, name: str) -> None:
    """A backup that somebody made to write elsewhere, by a name or through a link, is refused, and nothing is there."""
    link = tarfile.TarInfo("workspace/link")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    entry = tarfile.TarInfo(name)
    entry.size = 4
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        tar.addfile(link)
        tar.addfile(entry, io.BytesIO(b"evil"))
        manifest = b"{}"
        about = tarfile.TarInfo(archive.MANIFEST)
        about.size = len(manifest)
        tar.addfile(about, io.BytesIO(manifest))
    packed = gzip.compress(raw.getvalue(), 6, mtime=0)
    (tmp_path / "evil.tar.gz").write_bytes(packed + archive.seal(sha256(packed)))
    into = tmp_path / "in" / "to"
    into.mkdir(parents=True)
    with pytest.raises((CorruptError, FileExistsError)):
        read(tmp_path / "evil.tar.gz", into)
    assert not list(tmp_path.rglob("out")) or list(tmp_path.rglob("out")) == [into / "workspace/link/out"]


def test_a_backup_that_was_cut_off_leaves_nothing(tmp_path: Path) -> None:
    """What a crash left half-written is swept away by the next one; where no more can be written it is one line, and nothing of
    it is left."""
    home = laid_out(tmp_path / "axiom", "mine")
    home.backups.mkdir(parents=True)
    (home.backups / ".outlast-axiom.0123abcd.tmp").write_text("half")
    made_of(home)
    (home.workspace / "random").write_bytes(os.urandom(1 << 20))
    command = [Path(sys.executable).parent / "outlast", "--home", home.root, "backup", "now"]
    limited = ["bash", "-c", 'ulimit -f 256; exec "$@"', "bash", *map(str, command)]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        r"outlast: /.*/var/backups: the backup could not be written: File too large; make room.*\n", done.stderr
    )
    assert [path.name for path in home.backups.iterdir() if path.name.endswith(".tmp")] == []
    assert len(list(home.backups.glob("outlast-*"))) == 1


def test_a_folder_that_others_write_to_as_well(tmp_path: Path) -> None:
    """Of what is half-written there only this node's own is swept away."""
    home = laid_out(tmp_path / "axiom", "mine")
    names = (".outlast-axiom.0123abcd.tmp", ".outlast-coz.0123abcd.tmp", ".photo.deadbeef.tmp")
    for name in names:
        (tmp_path / name).write_text("half")
    made_of(home, to=tmp_path)
    assert [name for name in names if (tmp_path / name).exists()] == list(names[1:])


def rewritten(file: Path, into: Path, *, links: dict[str, str], mtime: str = "") -> None:
    """A backup that somebody made of these links, and of a file with this time; its seal and its manifest are right."""
    members = [archive.Member(name, "link", 0o777, target=target) for name, target in links.items()]
    raw = io.BytesIO()
    with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for one in members:
            entry = tarfile.TarInfo(one.path)
            entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, one.target
            tar.addfile(entry)
        if mtime:
            entry = tarfile.TarInfo("workspace/x")
            entry.mode, entry.pax_headers = 0o600, {"mtime": mtime}
            tar.addfile(entry)
            members.append(archive.Member("workspace/x", "file", 0o600, 0, sha256().hexdigest()))
        about = Manifest(archive.VERSION, "1", "axiom", "/h", "2026-11-21T22:07:03+00:00", True, "", (), tuple(members))
        data = msgspec.json.encode(about)
        entry = tarfile.TarInfo(archive.MANIFEST)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    file.write_bytes(raw.getvalue() + archive.seal(sha256(raw.getvalue())))
    into.mkdir()


def test_no_link_is_made_through_a_link(tmp_path: Path) -> None:
    """A backup with a link below another one is refused when it is verified, and when it is unpacked nothing is elsewhere."""
    (tmp_path / "victim").mkdir()
    links = {"workspace/a": str(tmp_path / "victim"), "workspace/a/sub/planted": "/etc/passwd"}
    rewritten(tmp_path / "evil.tar.gz", tmp_path / "in", links=links)
    for into in (None, tmp_path / "in"):
        with pytest.raises(CorruptError, match="below a link"):
            read(tmp_path / "evil.tar.gz", into)
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.parametrize("mtime", ["nan", "inf", "1e300"])
def test_a_time_that_is_none_is_one_line(tmp_path: Path, mtime: str) -> None:
    """A member whose time no file can have: the command says that it is damaged."""
    home = laid_out(tmp_path / "axiom", "mine")
    rewritten(tmp_path / "odd.tar.gz", tmp_path / "in", links={}, mtime=mtime)
    done = typed(home, "restore", str(tmp_path / "odd.tar.gz"), "--sure")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "nothing was changed" in done.stderr


def test_a_damaged_ledger_is_left_out_and_said(tmp_path: Path) -> None:
    """Garbage in place of the ledger: everything else is in the backup, and what is missing is named."""
    home = laid_out(tmp_path / "axiom", "mine")
    home.ledger.write_bytes(b"no database at all" * 100)
    made = made_of(home)
    assert [one.path for one in made.left] == ["var/outlast.db"]
    assert "var/outlast.db" not in names(read(Path(made.file)))
    assert not [path for path in home.ledger.parent.iterdir() if path.name.endswith(".tmp")]


def test_a_ledger_with_a_damaged_page_is_left_out_and_said(tmp_path: Path) -> None:
    """Its first page is whole, so that it opens and is copied; the copy is looked at before it is called good."""
    home = laid_out(tmp_path / "axiom", "mine")
    with contextlib.closing(sqlite3.connect(home.ledger)) as db, db:
        db.execute("CREATE TABLE filler (text)")
        db.executemany("INSERT INTO filler VALUES (?)", [("x" * 500,)] * 200)
    with contextlib.closing(sqlite3.connect(home.ledger)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with home.ledger.open("r+b") as file:
        file.seek(-3 * 4096, os.SEEK_END)
        file.write(b"\xff" * 4096)
    made = made_of(home)
    assert [one.path for one in made.left] == ["var/outlast.db"]


def test_nothing_twice(tmp_path: Path) -> None:
    """Each path is looked at once, although some come before their folders."""
    home = laid_out(tmp_path / "axiom", "mine")
    found = [one.path for one in collect.things(home, keys=True) if isinstance(one, collect.Thing)]
    assert len(found) == len(set(found)) and found[0] == "workspace/STATE.json"


def test_the_newest_stay(tmp_path: Path) -> None:
    """With a number to keep: older ones in the node's own folder go to the part of the trash that empties itself, and are named;
    what lies elsewhere is nobody's to move."""
    home = laid_out(tmp_path / "axiom", "x")
    made = [made_of(home, keep=2) for _ in range(3)]
    assert [one.aside for one in made] == [(), (), (Path(made[0].file).name,)]
    assert {path.name for path in home.backups.glob("outlast-*")} == {Path(one.file).name for one in made[1:]}
    assert [path.name.endswith(Path(made[0].file).name) for path in home.old_logs.iterdir()] == [True]
    ahead = home.backups / "outlast-axiom-20990101T000000Z-9.tar.gz"
    ahead.touch()
    later = made_of(home, keep=2)
    # Whatever the clock says now.
    assert later.file == f"{home.backups}/outlast-axiom-20990101T000000Z-10.tar.gz" and Path(later.file).is_file()
    assert {path.name for path in home.backups.glob("outlast-*")} == {ahead.name, Path(later.file).name}
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    for _ in range(3):
        assert made_of(home, keep=1, to=elsewhere).aside == ()
    assert len(list(elsewhere.iterdir())) == 3 and len(list(home.backups.glob("outlast-*"))) == 2
