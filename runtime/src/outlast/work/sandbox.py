"""The sandbox of a sub-agent: bubblewrap on Linux, sandbox-exec on a Mac.

Rules kept here:

* What is not named is not there: the system's own folders, the runtime and its Python to read, the sub-agent's own folder to
  write, one socket of the node. No key, no other home, no control socket, no other process; no network unless it is said.
* Whether a sandbox can be had here is tried, with the very options that will be used, not concluded from versions.
* Limits are set last, inside: a user namespace of its own counts its own processes alone.

Left to others: what is allowed (core.capability), time and the use of the whole tree (work.cell).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import outlast
from outlast.core.record import one_line
from outlast.home import Home

__all__ = ["Cell", "Limits", "Sandbox", "find_sandbox", "limited", "readable"]

_LINUX = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix/store")
_MAC = ("/usr", "/bin", "/sbin", "/System", "/Library", "/opt", "/private/etc", "/private/var/db", "/dev")
_TRY_S = 10.0
# Inside they are folders of the sub-agent's own.
_TMP, _SHM = "/tmp", "/dev/shm"  # noqa: S108
# The command's own: a limit that cannot be set must not be passed over. What a Mac does not know (RLIMIT_DATA is kept there,
# and not looked at) the whole tree is watched for.
_LIMITER = """
import os, resource, sys
cpu, memory, size, processes, *command = sys.argv[1:]
for name, most in (("CPU", cpu), ("DATA", memory), ("FSIZE", size), ("NPROC", processes), ("CORE", 0)):
    kind = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(kind)[1]
    most = int(most) if hard == resource.RLIM_INFINITY else min(int(most), hard)
    # Told before it is killed, so that it shows which limit it was.
    resource.setrlimit(kind, (most, most if name != "CPU" or most == hard else most + 1))
os.umask(0o077)
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"{command[0]}: {error.strerror}")
"""
_SBPL = """(version 1)
(deny default)
(allow process-fork)
(allow process-exec)
(allow signal (target same-sandbox))
(allow process-info* (target same-sandbox))
(allow sysctl-read)
(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo") (global-name "com.apple.system.logger"))
(allow file-read-metadata)
(allow file-read* (literal "/") {system})
(deny file-read* file-read-metadata {closed})
(allow file-read* {own})
(allow file-read-metadata {parents})
(allow file-write* (subpath (param "WORK")) (subpath (param "TEMPORARY")) (literal "/dev/null") (literal "/dev/tty"))
(allow network-outbound (literal (param "SOCKET")))
{network}
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use: seconds of CPU, bytes of memory, bytes a file; and how many processes there may be."""

    cpu_s: int
    memory_bytes: int
    file_bytes: int
    processes: int


@dataclass(frozen=True, slots=True)
class Cell:
    """What a sub-agent sees. ``work`` and ``temporary`` it may write; ``papers`` is the folder with its token.

    ``readable``: what is shown to read of the system, and nothing of ``home`` below it; ``shown``: what is shown of that all
    the same. ``socket``: where its node answers it.
    """

    home: Home
    work: Path
    temporary: Path
    papers: Path
    socket: Path
    readable: tuple[Path, ...] = ()
    shown: tuple[Path, ...] = ()
    network: bool = False


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How sub-agents are shut in. ``proc``: a /proc of their own can be mounted; without it they have none.

    ``trouble``: why there is no sandbox here, with the mend; empty where there is one.
    """

    kind: Literal["bubblewrap", "sandbox-exec", "none"]
    program: str = ""
    proc: bool = True
    trouble: str = ""

    def wrapper(self, cell: Cell) -> list[str]:
        """What is put before the command."""
        if self.kind == "bubblewrap":
            return _bubblewrap(self.program, cell, proc=self.proc)
        return _sandbox_exec(self.program, cell) if self.kind == "sandbox-exec" else []

    @property
    def own_processes(self) -> bool:
        """Does a limit on the number of processes count those of this sub-agent alone?"""
        return self.kind == "bubblewrap"


def limited(limits: Limits, python: str = sys.executable) -> list[str]:
    """What sets the limits, and becomes the command that follows."""
    numbers = (limits.cpu_s, limits.memory_bytes, limits.file_bytes, limits.processes)
    return [python, "-I", "-S", "-c", _LIMITER, *map(str, numbers)]


def readable(configured: Sequence[str]) -> tuple[Path, ...]:
    """The folders of the system that a sub-agent may read, and where our own Python and the operator's are."""
    system = _MAC if sys.platform == "darwin" else _LINUX
    found: list[Path] = []
    for path in (*map(Path, (*system, *configured)), *_ours()):
        if path.exists() and not any(path.is_relative_to(other) and not other.is_symlink() for other in found):
            found.append(path)
    return tuple(found)


async def find_sandbox(cell: Cell) -> Sandbox:
    """The sandbox that can be had here, as tried with ``cell``; its folders need not be there."""
    if sys.platform == "darwin":
        return await _first([Sandbox("sandbox-exec", "/usr/bin/sandbox-exec")], cell, "")
    program = shutil.which("bwrap")
    if program is None:
        return Sandbox(
            "none", trouble="bubblewrap is not installed; apt install bubblewrap, or run ansible-playbook site.yml"
        )
    # Where parts of /proc are hidden from the node, as by its unit or a container, the kernel gives out no new one.
    kinds = [Sandbox("bubblewrap", program), Sandbox("bubblewrap", program, proc=False)]
    mend = "under systemd add subagents to outlast_agent_needs; in a container allow user namespaces"
    return await _first(kinds, cell, f"; {mend}")


async def _first(kinds: Sequence[Sandbox], cell: Cell, mend: str) -> Sandbox:
    said = ""
    for kind in kinds:
        said = await asyncio.to_thread(_tried, kind, cell)
        if not said:
            return kind
    return Sandbox("none", trouble=f"{kinds[0].kind} does not work here ({said}){mend}")


def _tried(kind: Sandbox, cell: Cell) -> str:
    """Try it with the interpreter, which every sub-agent begins with. Returns what went wrong."""
    with tempfile.TemporaryDirectory(dir=cell.home.root / "run", prefix="try-") as name:
        here = Path(name)
        tried = replace(cell, work=here, temporary=here, papers=here, socket=cell.home.config)
        command = [*kind.wrapper(tried), sys.executable, "-I", "-S", "-c", "pass"]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRY_S, check=False, cwd="/", env={}
            )
        except subprocess.TimeoutExpired:
            return f"no answer in {_TRY_S:g} s"
        except OSError as error:
            return error.strerror or str(error)
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
    return one_line(lines[-1], 120) if done.returncode else ""


def _closed(home: Home) -> list[Path]:
    """What nothing is seen of, wherever it lies: the home, and those of other nodes beside it."""
    with contextlib.suppress(OSError):
        return sorted({home.root, *(path.parent.parent for path in home.root.parent.glob("*/etc/node.yml"))})
    return [home.root]


def _bubblewrap(program: str, cell: Cell, *, proc: bool) -> list[str]:
    command = [program, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
    # The runtime's death is its death, and it has no terminal that it could type into.
    command += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if not cell.network:
        command += ["--unshare-net"]
    # /tmp and /dev/shm are folders: what is written to memory would be limited by nothing.
    command += ["--bind", str(cell.temporary), _TMP]
    for path in cell.readable:
        if path.is_symlink() and len(path.parts) == 2:
            command += ["--symlink", os.readlink(path), str(path)]
        else:
            command += ["--ro-bind", str(path), str(path)]
    if cell.network and (names := Path("/etc/resolv.conf")).is_symlink():
        with contextlib.suppress(OSError):
            command += ["--ro-bind-try", *[str(names.resolve(strict=True))] * 2]
    closed = _closed(cell.home)
    for path in closed:
        command += ["--tmpfs", str(path)]
    for path in (*_ours_below(closed), *cell.shown, cell.papers, cell.socket):
        command += ["--ro-bind", str(path), str(path)]
    if proc:
        command += ["--proc", "/proc"]
    command += ["--dev", "/dev", "--bind", str(cell.temporary), _SHM, "--remount-ro", "/dev"]
    for path in (cell.temporary, cell.work):
        command += ["--bind", str(path), str(path)]
    for path in (*closed, Path("/")):
        command += ["--remount-ro", str(path)]
    return [*command, "--chdir", str(cell.work), "--"]


def _ours() -> list[Path]:
    """Where the runtime and its Python are; by every name, for scripts have one of them in their first line."""
    prefix = Path(sys.prefix)
    return sorted({prefix, prefix.resolve(), Path(sys.base_prefix), Path(outlast.__file__).parent})


def _ours_below(closed: Sequence[Path]) -> list[Path]:
    return [path for path in _ours() if any(path.is_relative_to(one) for one in closed)]


def _sandbox_exec(program: str, cell: Cell) -> list[str]:
    own = {"WORK": cell.work, "TEMPORARY": cell.temporary, "PAPERS": cell.papers}
    shown = {f"SHOWN{at}": path for at, path in enumerate([*_ours_below(_closed(cell.home)), *cell.shown])}
    system = {f"SYSTEM{at}": path for at, path in enumerate(cell.readable)}
    # Whoever opens a file by its path looks at the folders above it.
    above = {folder for path in (*own.values(), *shown.values(), cell.socket) for folder in path.parents}
    closed = {f"CLOSED{at}": path for at, path in enumerate(_closed(cell.home))}
    parents = {f"ABOVE{at}": path for at, path in enumerate(sorted(above))}
    profile = _SBPL.format(
        system=_params("subpath", system),
        closed=_params("subpath", closed),
        own=_params("subpath", {**own, **shown}),
        parents=_params("literal", {**parents, "SOCKET": cell.socket}),
        network="(allow network*)\n(allow system-socket)" if cell.network else "",
    )
    named = {**own, **shown, **system, **parents, **closed, "SOCKET": cell.socket}
    # Its rules are about paths as the kernel has them: /tmp and /var are links there.
    words = [word for name, path in named.items() for word in ("-D", f"{name}={path.resolve()}")]
    return [program, *words, "-p", profile]


def _params(kind: str, named: dict[str, Path]) -> str:
    return " ".join(f'({kind} (param "{name}"))' for name in named)
