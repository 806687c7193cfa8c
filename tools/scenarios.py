"""Molecule's scenarios and the tests in tests/hosts, on test hosts: ``python -m tools.scenarios [NAME ...]``.

Rules kept here: scenarios that want the same hosts share them, one after the other, and a failure gives those after it new
ones; what is mostly waiting runs beside them on hosts of its own; a failure shows what the hosts' services said last, and
the others still run; whatever happens, no process, container, network or key of it is left.

Left to others: installing programs (tools/molecule), the hosts (tests/support/hosts.py), each scenario (molecule/).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tests.support.hosts import REPOSITORY, Hosts, Trouble, destroy, sweep
from tests.support.images import ensure, say

__all__ = ["main"]

# check-mode wants hosts that were never provisioned, and reset leaves them so.
IN_TURN = ("check-mode", "default", "reboot", "upgrade", "reset")
# They wait for an emulator and for conditions more than they use a processor.
BESIDE = ("hosts", "openclaw", "arm64")
_IMAGES = {"arm64": ("mac-amd64", "pi-arm64")}
_TESTS = ("pytest", "tests/hosts", "-o", "timeout=1500", "-n", "2", "--dist", "loadfile", "--durations", "10")
_SIGN_OF_LIFE_S = 30.0


@dataclass
class Lane:
    """What runs on one set of hosts, one after the other. What it prints goes to ``log``, or is seen at once without one."""

    names: Sequence[str]
    folder: Path
    log: Path | None = None
    verdicts: dict[str, tuple[bool, float]] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    stopping: bool = False

    def run(self) -> None:
        """Run all."""
        for name in self.names:
            if self.stopping:
                return
            self._say(f"molecule: {name}")
            began = time.monotonic()
            well = self._attempt(name)
            self.verdicts[name] = well, time.monotonic() - began
            if not well and not self.stopping:
                self._say(_last_words(self.folder / "hosts"))
                destroy(self.folder / "hosts")
                shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """End what runs, with all that it started."""
        self.stopping = True
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _attempt(self, name: str) -> bool:
        programs = Path(sys.executable).parent
        if name == "hosts":
            command, own = [*_TESTS], {}
        else:
            # What Molecule remembers is about another scenario; the hosts themselves are taken over where they are.
            (self.folder / "state.yml").unlink(missing_ok=True)
            command = ["molecule", "test", "--scenario-name", name, "--destroy", "never"]
            own = {"MOLECULE_EPHEMERAL_DIRECTORY": str(self.folder)}
        environment = {
            **os.environ, **own, "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
            # Else Molecule advises another place for its scenarios; and what it prints is to be read in a log as well.
            "MOLECULE_GLOB": "molecule/*/molecule.yml", "MOLECULE_COMMAND_BORDERS": "0", "NO_COLOR": "1",
            "ANSIBLE_NOCOLOR": "1",
        }  # fmt: skip
        with self.log.open("ab") if self.log else contextlib.nullcontext() as out:
            self.process = subprocess.Popen(
                [str(programs / command[0]), *command[1:]], cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
            return self.process.wait() == 0

    def _say(self, text: str) -> None:
        if self.log:
            with self.log.open("a") as out:
                out.write(f"\n{text}\n")
        else:
            say(f"\n{text}")


def _last_words(folder: Path) -> str:
    try:
        return "\n".join(machine.words() for machine in Hosts.load(folder).machines.values())
    except Trouble as trouble:
        return str(trouble)


def _lanes(wanted: Sequence[str], work: Path) -> list[Lane]:
    """The one to be seen first, then those beside it."""
    first = Lane([name for name in IN_TURN if name in wanted], work / "shared")
    return [first, *(Lane([name], work / name, work / f"{name}.log") for name in BESIDE if name in wanted)]


def _run(lanes: Sequence[Lane]) -> None:
    threads = [threading.Thread(target=lane.run, daemon=True) for lane in lanes[1:]]
    for lane, thread in zip(lanes[1:], threads, strict=True):
        say(f"molecule: {' '.join(lane.names)}, beside the others: {lane.log}")
        thread.start()
    lanes[0].run()
    for lane, thread in zip(lanes[1:], threads, strict=True):
        while thread.is_alive():
            thread.join(_SIGN_OF_LIFE_S)
            if thread.is_alive() and lane.log:
                lines = lane.log.read_text(errors="replace").split("\n")
                say(f"molecule: waiting for {' '.join(lane.names)}: {max(lines[-3:], key=len)[:150]}")
        if lane.log:
            say(lane.log.read_text(errors="replace"))


def _report(lanes: Sequence[Lane], seconds: float) -> list[str]:
    """Say how it went; return the names of what failed."""
    verdicts = {name: verdict for lane in lanes for name, verdict in lane.verdicts.items()}
    say(f"molecule: done in {seconds:.0f} s")
    for name, (well, took) in verdicts.items():
        say(f"  {name:12} {took:5.0f} s  {'well' if well else 'FAILED'}")
    return [name for name, (well, _) in verdicts.items() if not well]


def _interrupted(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


def main(words: Sequence[str]) -> int:
    """Run what is named, or all; return the exit code."""
    began = time.monotonic()
    wanted = list(words) or [*IN_TURN, *BESIDE]
    if unknown := [name for name in wanted if name not in (*IN_TURN, *BESIDE)]:
        print(
            f"SCENARIO: there is no {unknown[0]}; mend: one or more of {', '.join((*IN_TURN, *BESIDE))}",
            file=sys.stderr,
        )
        return 2
    run = os.environ["OUTLAST_RUN"] = f"molecule-{os.getpid()}"
    signal.signal(signal.SIGTERM, _interrupted)
    work = Path(tempfile.mkdtemp(prefix="outlast-molecule-"))
    lanes = _lanes(wanted, work)
    try:
        ensure(sorted({image for name in wanted for image in _IMAGES.get(name, ("mac-amd64", "pi-amd64"))}))
        _run(lanes)
        failed = _report(lanes, time.monotonic() - began)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("molecule: interrupted; taking down what was made", file=sys.stderr)
        return 130
    finally:
        for lane in lanes:
            lane.stop()
        sweep(run)
        shutil.rmtree(work, ignore_errors=True)
    if failed:
        print(
            f"failed: {', '.join(failed)}; mend: look above; alone: make molecule SCENARIO={failed[0]}", file=sys.stderr
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
