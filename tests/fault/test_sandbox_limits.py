"""The sandbox itself, tried as a user that is not root where we are root: the kernel's own limits, and what hides processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.needs import missing
from support.spawning import needs_sandbox

from outlast.home import Home
from outlast.work.sandbox import Cell, Limits, Sandbox, limited

_NOBODY = 54_321
_PYTHON = "/usr/bin/python3"


@pytest.fixture
def cell() -> Iterator[Cell]:
    """What a sub-agent sees, below a folder that everybody may pass through."""
    needs_sandbox()
    if not Path(_PYTHON).exists():
        missing(_PYTHON)
    root = Path(tempfile.mkdtemp(prefix="outlast-box-"))
    root.chmod(0o755)
    for name in ("work", "tmp", "papers", "home/etc/keys"):
        (root / name).mkdir(parents=True)
    (root / "home" / "etc" / "keys" / "coz.key").write_text("secret")
    (root / "socket").touch()
    if os.getuid() == 0:
        for path in (root, *root.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY)
    system = tuple(path for path in map(Path, ("/usr", "/bin", "/lib", "/lib64", "/etc")) if path.exists())
    yield Cell(Home(root / "home"), root / "work", root / "tmp", root / "papers", root / "socket", readable=system)
    shutil.rmtree(root)


def _run(cell: Cell, script: str, limits: Limits, *, proc: bool = True) -> subprocess.CompletedProcess[str]:
    box = Sandbox("bubblewrap", shutil.which("bwrap") or "", proc=proc)
    command = [*box.wrapper(cell), *limited(limits, _PYTHON), _PYTHON, "-c", script]
    if os.getuid() == 0:
        command = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")


def test_an_endless_fork_bomb_is_stopped_by_the_kernel(cell: Cell) -> None:
    """A bomb without any bound of its own: never more processes than allowed, and the end of it is the end of all."""
    bomb = """
import os, time
refused = 0
while refused < 200:
    try:
        if os.fork() == 0:
            time.sleep(600)
    except BlockingIOError:
        refused += 1
print(len([name for name in os.listdir("/proc") if name.isdigit()]))
"""
    done = _run(cell, bomb, Limits(10, 256 << 20, 1 << 20, processes=20))
    assert done.returncode == 0, done.stderr
    # bubblewrap's own two are among those that are counted or seen.
    assert 10 < int(done.stdout) <= 21


def test_without_a_proc_no_process_is_seen_either(cell: Cell) -> None:
    """Where the kernel gives out no /proc of one's own there is none; signals reach nobody outside all the same."""
    script = f"""
import os
print(os.path.exists("/proc/1"))
for pid in (1, 2, {os.getpid()}):
    try:
        os.kill(pid, 0); print(pid)
    except ProcessLookupError:
        pass
"""
    done = _run(cell, script, Limits(10, 256 << 20, 1 << 20, 20), proc=False)
    assert done.stdout.split() == ["False", "1", "2"], (done.stdout, done.stderr)


def test_capabilities_and_nested_namespaces_give_nothing(cell: Cell) -> None:
    """Inside it has no capability; a namespace in the namespace cannot mount away what is read-only."""
    script = """
import subprocess
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")))
print(subprocess.run(["unshare", "-Urm", "mount", "-o", "remount,rw", "/usr"], capture_output=True).returncode != 0)
print(subprocess.run(["mount", "-t", "tmpfs", "none", "/usr"], capture_output=True).returncode != 0)
"""
    done = _run(cell, script, Limits(10, 256 << 20, 1 << 20, 20))
    assert done.stdout.split() == ["0000000000000000", "True", "True"], (done.stdout, done.stderr)


def test_a_limit_that_the_machine_sets_lower_is_kept(cell: Cell) -> None:
    """Ours never fail because something lower holds already."""
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_FSIZE)[0])"
    plain = [*limited(Limits(10, 256 << 20, 1 << 30, 20), _PYTHON), _PYTHON, "-c", script]
    done = subprocess.run(["prlimit", f"--fsize={1 << 20}", *plain], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(1 << 20), done.stderr


def test_a_command_that_is_not_there_says_so(cell: Cell) -> None:
    """In a line, by its name."""
    done = subprocess.run([*limited(Limits(9, 1 << 28, 9, 9)), "/no/such"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == "/no/such: No such file or directory\n"
