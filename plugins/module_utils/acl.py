"""Access lists: named accounts may read a folder, all that is in it, and all that will be; or merely pass through one.

Keeps: standard library only; links are never followed; an entry that grants exactly what is granted here counts as Outlast's,
others' stay; what its writer made private (0600) where a list already was stays private. Leaves to others: who runs this
(whoever owns what is shared, never root below a folder of agents), and whether it has to run at all (look_host.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence

__all__ = ["READ", "TRAVERSE", "AclTrouble", "ensure", "ensure_mac", "ensure_posix", "walk"]

READ, TRAVERSE = "read", "traverse"

# Linux keeps a list in an attribute: a version, then tag, permissions and id of each entry (linux/posix_acl_xattr.h).
_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_OWNER, _USER, _GROUP, _MASK, _OTHER = 1, 2, 4, 16, 32
_NAMED = {_USER, 8}
_NO_ID = 0xFFFFFFFF
_POSIX = {READ: 0b101, TRAVERSE: 0b001}
_R = 0b100

# What chmod(1) of macOS calls the same. Only directories hand their entries on.
_MAC_FILE = "allow read,execute,readattr,readextattr,readsecurity"
_MAC = {READ: f"{_MAC_FILE},file_inherit,directory_inherit", TRAVERSE: "allow execute"}
_MAC_ENTRY = re.compile(r"\s*\d+: user:(\S+) (?:inherited )?allow .*")
_BATCH = 400

List = dict[tuple[int, int], int]


class AclTrouble(Exception):
    """One line that says what is wrong with an access list and the mend."""


def ensure(system: str, roots: Sequence[str], readers: Sequence[str], grant: str, check_mode: bool) -> list[str]:
    """Let exactly these readers at what is below each root (READ) or through each root (TRAVERSE).

    Return what was or would be changed; raises AclTrouble, OSError.
    """
    for name in readers:
        try:
            pwd.getpwnam(name)
        except KeyError as error:
            if check_mode:
                # A package or a task that check mode left out may make it.
                return list(roots)
            mend = "make it there, or take it out of the list"
            raise AclTrouble(f"outlast_readers: there is no account {name}; mend: {mend}") from error
    work = {"Linux": ensure_posix, "Darwin": ensure_mac}[system]
    return [path for root in roots for path in work(root, readers, grant, check_mode)]


def walk(root: str) -> Iterator[str]:
    """Every regular file and directory at or below root, root last: its list tells that all below it was done."""
    for folder, _, files in os.walk(root, topdown=False):
        for path in (os.path.join(folder, name) for name in files):
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(os.lstat(path).st_mode):
                    yield path
        yield folder


def ensure_posix(root: str, readers: Sequence[str], grant: str, check_mode: bool) -> list[str]:
    """See ensure; for Linux."""
    uids, bits = {pwd.getpwnam(name).pw_uid for name in readers}, _POSIX[grant]
    changed = []
    for path in walk(root) if grant == READ else [root]:
        try:
            if _put(path, uids, bits, whole=path == root, inherit=grant == READ, check_mode=check_mode):
                changed.append(path)
        except FileNotFoundError:
            # Agents are at work: what is gone needs no list.
            continue
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                wrong = f"the file system of {path} keeps no access lists"
                raise AclTrouble(f"outlast_readers: {wrong}; mend: use one that does, or empty the list") from error
            if error.errno != errno.EPERM or path == root:
                raise
            # Somebody else's file in a folder of agents is not ours to open.
    return changed


def _put(path: str, uids: set[int], bits: int, *, whole: bool, inherit: bool, check_mode: bool) -> bool:
    status = os.lstat(path)
    is_folder = stat.S_ISDIR(status.st_mode)
    mode = stat.S_IMODE(status.st_mode)
    bare = {(_OWNER, _NO_ID): mode >> 6, (_GROUP, _NO_ID): mode >> 3 & 7, (_OTHER, _NO_ID): mode & 7}
    runs = is_folder or bool(mode & stat.S_IXUSR)
    lists = [(_ACCESS, _read(path, _ACCESS) or bare, bits if runs else _R, whole)]
    if is_folder and inherit:
        empty = {(_OWNER, _NO_ID): 7, (_GROUP, _NO_ID): 0, (_OTHER, _NO_ID): 0}
        lists.append((_DEFAULT, _read(path, _DEFAULT) or empty, bits, True))
    changed = False
    for attribute, now, mask, widen in lists:
        wanted = merged(now, uids, bits, mask, widen)
        if wanted == now:
            continue
        changed = True
        if check_mode:
            continue
        if attribute == _DEFAULT and not _has_names(wanted):
            os.removexattr(path, attribute, follow_symlinks=False)
        else:
            # One without names in it is turned into the plain mode by the kernel.
            os.setxattr(path, attribute, _bytes(wanted), follow_symlinks=False)
    return changed


def merged(now: List, uids: set[int], bits: int, mask: int, widen: bool) -> List:
    """A list with these users in it and no others that have exactly these permissions.

    mask is what the list lets through where it had no names yet, and (widen) where it had.
    """
    kept = {entry: held for entry, held in now.items() if entry[0] != _USER or held != bits or entry[1] in uids}
    wanted = {**kept, **{(_USER, uid): kept.get((_USER, uid), 0) | bits for uid in uids}}
    limit = wanted.pop((_MASK, _NO_ID), None)
    group = wanted[_GROUP, _NO_ID]
    if not _has_names(wanted):
        wanted[_GROUP, _NO_ID] = group if limit is None else group & limit
        return wanted
    wanted[_MASK, _NO_ID] = (group | mask) if limit is None else limit | mask if widen else limit
    return wanted


def _has_names(entries: List) -> bool:
    return any(tag in _NAMED for tag, _ in entries)


def _read(path: str, attribute: str) -> List:
    """A list as it is kept, empty where there is none; raises OSError."""
    try:
        data = os.getxattr(path, attribute, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return {}
        raise
    return {(tag, number): bits for tag, bits, number in struct.iter_unpack("<HHI", data[4:])}


def _bytes(entries: List) -> bytes:
    packed = (struct.pack("<HHI", tag, bits, number) for (tag, number), bits in sorted(entries.items()))
    return struct.pack("<I", 2) + b"".join(packed)


def ensure_mac(
    root: str,
    readers: Sequence[str],
    grant: str,
    check_mode: bool,
    run: Callable[[list[str]], str] | None = None,
) -> list[str]:
    """See ensure; for macOS, whose new files inherit entries whatever their mode is. run executes a command."""
    run = run or _run
    held = {match[1] for line in run(["/bin/ls", "-lde", root]).splitlines() if (match := _MAC_ENTRY.fullmatch(line))}
    gone = held - set(readers)
    if held == set(readers) or check_mode:
        return [] if held == set(readers) else [root]
    paths = list(walk(root)) if grant == READ else [root]
    for folders in (False, True):
        chosen = [path for path in paths if os.path.isdir(path) == folders]
        rule = _MAC[grant] if folders else _MAC_FILE
        for batch in (chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)):
            for name in sorted(gone):
                run(["/bin/chmod", "-a", f"user:{name} {rule}", *batch])
            for name in sorted(readers):
                run(["/bin/chmod", "+a", f"user:{name} {rule}", *batch])
    return [root]


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    # Taking an entry away where there is none is no error to anybody.
    if done.returncode and "-a" not in argv:
        said = (done.stderr.strip().splitlines() or [f"{argv[0]} ended with {done.returncode}"])[-1]
        raise AclTrouble(f"outlast_readers: {said}; mend: see that the volume keeps access lists")
    return done.stdout
