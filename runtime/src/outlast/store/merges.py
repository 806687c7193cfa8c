"""Git merges what two nodes wrote with ``outlast merge-driver``: which file is merged how, and telling git so.

Rules kept here:

* `git pull` between nodes leaves no conflict in the files of ``PATTERNS``; the rules of the merge are core.merging's;
* a side that cannot be read loses to the other one, and is kept, never guessed at;
* a repository learns of the driver in its own ``.git`` only (``info/attributes``, ``config``), never in a tracked file, and
  only where it does not ignore the workspace. Where all is set nothing is written and no program started.

Left to others: the merges themselves (core.merging, core.state), when the driver is installed (the daemon, Ansible).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from outlast.core.merging import merge_heartbeat, merge_lines, merge_numbered, merge_queue, merge_records
from outlast.core.state import join
from outlast.errors import BadInput, CorruptError, OutlastError
from outlast.home import Home
from outlast.store import durable
from outlast.store.statefile import decode, encode

__all__ = ["PATTERNS", "Installed", "Merged", "install", "merge"]

_BEGIN, _END = "# outlast: begin", "# outlast: end"


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged file; ``told`` is what a person should know, and ``aside`` what was not taken into it."""

    data: bytes
    told: tuple[str, ...] = ()
    aside: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Installed:
    """Whether anything was changed, and how it is now, on one line."""

    changed: bool
    told: str
    repository: str = field(default="")


Three = Callable[[str, bytes, bytes, bytes], tuple[bytes, tuple[bytes, ...]]]


def _plain(data: bytes) -> bytes:
    # What a power cut leaves of a file whose data did not reach the disk.
    if b"\0" in data:
        raise CorruptError("it holds zeros, which no text does")
    return data


def _unpacked(data: bytes) -> bytes:
    import gzip
    import zlib

    try:
        return gzip.decompress(data) if data else b""
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptError(f"it does not unpack: {error}") from error


def _checked_state(data: bytes) -> bytes:
    decode(data)
    return data


def _packed(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, mtime=0)


def _text(merge: Callable[[bytes, bytes, bytes], bytes]) -> Three:
    return lambda _, base, ours, theirs: (merge(base, ours, theirs), ())


def _archive(name: str, base: bytes, ours: bytes, theirs: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    return _packed(merge_records(name[:10], base, ours, theirs)), ()


def _zipped_lines(_: str, base: bytes, ours: bytes, theirs: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    return _packed(merge_lines(base, ours, theirs)), ()


# Patterns below the workspace: how a side is read (raises CorruptError), and how two are merged.
_WAYS: dict[str, tuple[Callable[[bytes], bytes], Three]] = {
    "STATE.json": (_checked_state, lambda _, b, x, y: (encode(join(decode(x), decode(y))), ())),
    "QUEUE.md": (_plain, _text(merge_queue)),
    "HEARTBEAT.md": (_plain, _text(merge_heartbeat)),
    "MEMORY.md": (_plain, _text(merge_lines)),
    "memory/*.md": (_plain, lambda name, b, x, y: (merge_records(name[:10], b, x, y), ())),
    "memory/archive/*.md.gz": (_unpacked, _archive),
    "shared/*.jsonl": (_plain, lambda _, b, x, y: merge_numbered(x, y)),
    "logs/*.jsonl": (_plain, _text(merge_lines)),
    "logs/*.jsonl.gz": (_unpacked, _zipped_lines),
}
PATTERNS = tuple(_WAYS)


def merge(path: str, base: bytes, ours: bytes, theirs: bytes) -> Merged:
    """Merge two versions of the file at ``path`` (below the repository) that came from ``base`` (empty: from none).

    Raises BadInput for a file that is none of ours.
    """
    name = PurePosixPath(path)
    found = [pattern for pattern in PATTERNS if name.match(pattern)]
    if not found:
        raise BadInput("PATH", f"{path} is not a file that Outlast merges", f"one of: {', '.join(PATTERNS)}")
    read, three = _WAYS[found[0]]
    sides: list[bytes | None] = []
    told = []
    for whose, data in (("ours", ours), ("theirs", theirs)):
        try:
            sides.append(read(data))
        except CorruptError as error:
            sides.append(None)
            told.append(f"{path}: {whose} was not taken: {error}")
    mine, other = sides
    if mine is None or other is None:
        # Where neither can be read the greater one stays, so that both nodes keep the same; the runtime puts it right.
        kept = ours if mine is not None else theirs if other is not None else max(ours, theirs)
        return Merged(kept, tuple(told), tuple(side for side in (ours, theirs) if side is not kept))
    try:
        before = read(base) if base else b""
    except CorruptError:
        before = b""
    data, torn = three(name.name, before, mine, other)
    return Merged(data, tuple(f"{path}: a line that cannot be read was not taken" for _ in torn), torn)


def install(home: Home) -> Installed:
    """Have the repository that the workspace is in, if any, merge by us. Doing it again changes nothing.

    Raises OutlastError where git or the disk refuses.
    """
    top = _top(home.workspace.resolve())
    if top is None:
        return Installed(False, "the workspace is in no git repository")
    try:
        folder = _common(top)
        config, attributes = folder / "config", folder / "info" / "attributes"
        wanted = {"merge.outlast.name": "Outlast merges what its nodes wrote", "merge.outlast.driver": _driver(home)}
        block = _block(home.workspace.resolve().relative_to(top))
        now = _content(attributes)
        if block in now and all(_setting(name, value) in _content(config) for name, value in wanted.items()):
            return Installed(False, "the merge driver is installed", str(top))
        if _git(top, "check-ignore", "--quiet", str(home.state_file.resolve())) == 0:
            return Installed(False, f"the repository {top} ignores the workspace", str(top))
        for name, value in wanted.items():
            if _git(top, "config", "--file", str(config), "--replace-all", name, value):
                raise OutlastError(f"git could not write {config}; see that it is yours, and not locked")
        if block not in now:
            durable.make_dir(attributes.parent)
            durable.replace(attributes, _with(block, now).encode("utf-8", "surrogateescape"), mode=0o644)
    except OSError as error:
        raise OutlastError(f"{error.filename or top}: {error.strerror or error}; see that it is yours") from error
    return Installed(True, f"the repository {top} merges with Outlast now", str(top))


def _top(folder: Path) -> Path | None:
    return next((above for above in (folder, *folder.parents) if os.path.lexists(above / ".git")), None)


def _common(top: Path) -> Path:
    """The folder of a repository that its worktrees share. Raises OSError."""
    git = top / ".git"
    if git.is_file():
        # A worktree or a submodule: `gitdir: PATH`.
        git = top / git.read_text().removeprefix("gitdir:").strip()
    common = git / "commondir"
    return (git / common.read_text().strip()).resolve() if common.is_file() else git


def _driver(home: Home) -> str:
    """What git is to run. The link to the current release outlives an upgrade."""
    current = home.root / "current" / "bin" / "outlast"
    command = current if current.exists() else Path(sys.prefix) / "bin" / "outlast"
    words = shlex.join([str(command), "--home", str(home.root)]).replace("%", "%%")
    # Git puts file names in the place of these, the last one quoted for the shell.
    return f"{words} merge-driver %O %A %B %P"


def _block(workspace: Path) -> str:
    """Our lines of info/attributes; patterns are relative to the top of the repository."""
    before = "".join(f"\\{c}" if c in "\\*?[" else c for c in f"/{workspace.as_posix()}/".replace("/./", "/"))
    lines = [before + pattern for pattern in PATTERNS]
    if not before.isprintable() or any(c in before for c in ' "'):
        lines = ['"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"' for line in lines]
    return "\n".join([_BEGIN, *(f"{line} merge=outlast" for line in lines), _END, ""])


def _with(block: str, text: str) -> str:
    """``text`` with our lines in the place of former ones, or at its end."""
    before, begin, rest = text.partition(_BEGIN + "\n")
    _, end, after = rest.partition(_END + "\n")
    if begin and end:
        return before + block + after
    return text + ("\n" if text and not text.endswith("\n") else "") + block


def _setting(name: str, value: str) -> str:
    """How git writes a setting into its file."""
    told = value.replace("\\", "\\\\").replace('"', '\\"')
    quoted = f'"{told}"' if any(c in value for c in "#;") else told
    return f"\t{name.rpartition('.')[2]} = {quoted}\n"


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def _git(top: Path, *words: str) -> int:
    import subprocess

    # A hook's GIT_DIR, say, would have git look elsewhere.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(top), *words], env=clean, stdin=subprocess.DEVNULL, capture_output=True, timeout=30
        )
    except FileNotFoundError:
        raise OutlastError("git is not on the PATH; install it") from None
    except subprocess.TimeoutExpired as error:
        raise OutlastError(f"git did not end: {error}") from error
    return done.returncode
