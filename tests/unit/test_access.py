"""Access lists: readers see what is there and what will be, and nothing else changes."""

from __future__ import annotations

import errno
import os
import pwd
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.clock import FixedClock

from outlast.core.record import Step
from outlast.core.state import State
from outlast.store import durable, heartbeat
from outlast.store.events import EventLog
from outlast.store.journal import Journal
from outlast.store.statefile import write_state
from outlast.work.capture import keep_file
from plugins.module_utils import acl
from plugins.plugin_utils import look_host

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="POSIX access lists are Linux's; macOS keeps others")
READER, OTHER = "daemon", "nobody"
R, RX = 4, 5


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A workspace as a runtime left it before there were readers, and as restrictive a umask as the runtime's."""
    umask = os.umask(0o077)
    root = tmp_path / "workspace"
    (root / "memory").mkdir(parents=True)
    (root / "memory/day.md").write_text("- noted\n")
    (root / "run.sh").touch(0o700)
    (root / "out").symlink_to("/etc/passwd")
    root.chmod(0o750)
    yield root
    os.umask(umask)


def grant(root: Path, *readers: str, what: str = acl.READ) -> list[str]:
    return acl.ensure("Linux", [str(root)], readers, what, check_mode=False)


def allowed(path: Path, name: str = READER) -> int:
    """What a list lets an account do, its mask applied; 0 where it is not named."""
    try:
        data = os.getxattr(path, "system.posix_acl_access")
    except OSError:
        return 0
    entries = {(tag, number): bits for tag, bits, number in struct.iter_unpack("<HHI", data[4:])}
    mask = next((bits for (tag, _), bits in entries.items() if tag == 16), 7)
    return entries.get((2, pwd.getpwnam(name).pw_uid), 0) & mask


def modes(root: Path) -> dict[str, int]:
    return {str(path): stat.S_IMODE(path.lstat().st_mode) for path in [root, *root.rglob("*")]}


def seen_as_right(root: Path, *readers: str) -> bool:
    """What the cheap look says, of the folder that holds root as a home."""
    # What is not there yet has nobody in it to be taken out, and is made once there are readers.
    shared = [root.name] if readers else [root.name, "not/made"]
    want = {"home": str(root.parent), "readers": readers, "shared": shared}
    return not look_host.access(want)


@linux_only
def test_readers_see_all_that_is_there(root: Path) -> None:
    """Files become readable, folders and programs passable as well, and a second time there is nothing to do."""
    assert grant(root, READER)
    assert [allowed(root / path) for path in (".", "memory", "memory/day.md", "run.sh")] == [RX, RX, R, RX]
    assert grant(root, READER) == []


@linux_only
def test_readers_see_all_that_will_be(root: Path) -> None:
    """What programs make in the usual way is readable, in new folders too; what they make private is not."""
    grant(root, READER)
    (root / "new/deep").mkdir(parents=True)
    (root / "new/deep/result.txt").write_text("found")
    (root / "new/secret").touch(0o600)
    assert [allowed(root / path) for path in ("new/deep", "new/deep/result.txt", "new/secret")] == [RX, R, 0]
    grant(root, READER, OTHER)
    assert [allowed(root / "new/deep/result.txt", name) for name in (READER, OTHER)] == [R, R]
    assert allowed(root / "new/secret") == allowed(root / "new/secret", OTHER) == 0


@linux_only
def test_the_runtime_writes_for_readers_where_there_are_any(root: Path) -> None:
    """All that the runtime writes for others to read is readable below an access list; what is its own is not."""
    grant(root, READER)
    written = write_all(root)
    assert {path.name: allowed(path) for path in written if path.is_file()} == dict.fromkeys(
        ("2001-09-09.md", "2001-09-09.jsonl", "STATE.json", "HEARTBEAT.md"), R
    )
    keep_file(root / "stdout.txt", b"its own")
    assert allowed(root / "stdout.txt") == 0


@linux_only
def test_without_readers_all_stays_the_owners(root: Path) -> None:
    """Where no list is, nothing that the runtime writes is open to group or others."""
    assert [oct(path.stat().st_mode & 0o077) for path in write_all(root)] == ["0o0"] * 5


def write_all(root: Path) -> list[Path]:
    """Write everything that the runtime writes into a workspace; return where it is."""
    clock = FixedClock(1_000_030_000.0)
    folder = root / "logs"
    durable.make_dir(folder, mode=durable.SHARED_FOLDER)
    journal = Journal(folder, "coz", clock)
    journal.append(Step.NOTE, "unit", "noted")
    journal.close()
    EventLog(folder, "coz", clock).emit("tried")
    write_state(folder / "STATE.json", State(node="coz"))
    heartbeat.show(folder / "HEARTBEAT.md", "degraded")
    return [folder, *sorted(folder.iterdir())]


@linux_only
def test_who_is_taken_out_of_the_list_sees_nothing_any_more(root: Path) -> None:
    """Without readers every mode is what it was, and no list is left."""
    before = modes(root)
    grant(root, READER, OTHER)
    grant(root, OTHER)
    assert allowed(root / "memory/day.md") == 0
    grant(root)
    assert modes(root) == before
    assert not any("acl" in name for path in [root, root / "memory"] for name in os.listxattr(path))


@linux_only
def test_passing_through_is_not_reading(root: Path) -> None:
    """A home lets its readers through, shows them no names, and what lies in it stays closed."""
    grant(root, READER, what=acl.TRAVERSE)
    assert (allowed(root), allowed(root / "memory")) == (1, 0)


@linux_only
def test_what_others_granted_stays(root: Path) -> None:
    """An entry with other permissions is an operator's own: it survives readers that come and go."""
    uid = pwd.getpwnam(OTHER).pw_uid
    entries = [(1, 6, 2**32 - 1), (2, 6, uid), (4, 0, 2**32 - 1), (16, 6, 2**32 - 1), (32, 0, 2**32 - 1)]
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(root / "memory/day.md", "system.posix_acl_access", data)
    grant(root, READER)
    grant(root)
    assert os.getxattr(root / "memory/day.md", "system.posix_acl_access") == data


@linux_only
def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    """What an agent's link leads to, a file or a folder, is not opened to anybody."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "diary").touch()
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "diary")
    grant(root, READER)
    assert (allowed(outside), allowed(outside / "diary")) == (0, 0)


@linux_only
@pytest.mark.parametrize("spoil", ["chmod", "moved", "another", "gone"])
def test_the_look_sees_what_is_wrong(root: Path, spoil: str) -> None:
    """The cheap look asks for the module exactly where a reader is kept out or somebody else is let in."""
    assert seen_as_right(root)
    assert not seen_as_right(root, READER)
    grant(root, READER)
    grant(root.parent, READER, what=acl.TRAVERSE)
    (root / "memory/private").touch(0o600)
    assert seen_as_right(root, READER)
    assert not seen_as_right(root)
    if spoil == "chmod":
        root.chmod(0o700)
    elif spoil == "moved":
        (root.parent / "elsewhere").touch(0o600)
        (root.parent / "elsewhere").rename(root / "memory/moved")
    elif spoil == "another":
        grant(root / "memory", READER, OTHER)
    else:
        os.removexattr(root / "memory", "system.posix_acl_default")
    assert not seen_as_right(root, READER)
    grant(root, READER)
    assert seen_as_right(root, READER)


@linux_only
def test_what_cannot_keep_lists_is_said_in_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without access lists, and an account that is not there, are findings with a mend."""

    def refuse(path: str, *_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported", path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "setxattr", refuse)
        with pytest.raises(
            acl.AclTrouble, match="^outlast_readers: the file system of .* keeps no access lists; mend: "
        ):
            grant(root, READER)
    with pytest.raises(acl.AclTrouble, match="^outlast_readers: there is no account no-such-reader; mend: "):
        grant(root, READER, "no-such-reader")


@linux_only
def test_check_mode_counts_and_touches_nothing(root: Path) -> None:
    """What would be opened is told, and is not."""
    before = modes(root)
    assert len(acl.ensure("Linux", [str(root)], [READER], acl.READ, check_mode=True)) == 4
    assert acl.ensure("Linux", [str(root)], ["made-by-this-run"], acl.READ, check_mode=True) == [str(root)]
    assert modes(root) == before


def shell(held: str) -> tuple[list[list[str]], Callable[[list[str]], str]]:
    """What stands for a Mac's ls and chmod: the commands that were run, and what runs them."""
    ran: list[list[str]] = []

    def run(argv: list[str]) -> str:
        ran.append(argv)
        return held if argv[0] == "/bin/ls" else ""

    return ran, run


def test_a_mac_gets_entries_that_are_inherited(root: Path) -> None:
    """Folders hand their entries on, files have none to hand on, links get none, and who is gone loses his."""
    ran, run = shell(f"drwx------+ 3 o o 96 Nov 21 09:00 {root}\n 0: user:old inherited allow read,execute\n")
    assert acl.ensure_mac(str(root), ["dash"], acl.READ, False, run) == [str(root)]
    told = [(argv[1], argv[2].split()[0], "directory_inherit" in argv[2], len(argv) - 3) for argv in ran[1:]]
    assert told == [("-a", "user:old", False, 2), ("+a", "user:dash", False, 2), ("-a", "user:old", True, 2), ("+a", "user:dash", True, 2)]  # fmt: skip
    assert not any(str(root / "out") in argv for argv in ran)


def test_a_mac_whose_readers_are_right_is_left_alone(root: Path) -> None:
    """One look, and nothing else."""
    ran, run = shell(f"drwx------+ 3 o o 96 Nov 21 09:00 {root}\n 0: user:dash allow list,search,readattr\n")
    assert acl.ensure_mac(str(root), ["dash"], acl.READ, False, run) == []
    assert len(ran) == 1
