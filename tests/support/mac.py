"""The launchd double of molecule/shared/mac, below a directory of the test's and as the test's own user."""

from __future__ import annotations

import contextlib
import os
import plistlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2] / "molecule" / "shared" / "mac"
PATIENCE_S = 30.0


class Mac:
    """A launchd, what it may load, and what it logs."""

    def __init__(self, root: Path, patience: int = 3) -> None:
        self.root = root
        self.daemons = root / "Library" / "LaunchDaemons"
        self.daemons.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(PACKAGE),
            "LAUNCHD_ROOT": str(root),
            "LAUNCHD_PATIENCE": str(patience),
        }
        self.log = root / "launchd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*self._command(), "daemon"], env=self.environment, stderr=log)
        self.until(lambda: self.ctl("list").returncode == 0)

    def halt(self) -> None:
        """End it as a machine's shutdown does."""
        assert self._process
        self._process.terminate()
        assert self._process.wait(PATIENCE_S) == 0

    def define(self, label: str = "x", mode: int = 0o644, **values: Any) -> Path:
        """Write a property list; without ProgramArguments the job sleeps."""
        path = self.daemons / f"{label}.plist"
        job = {"Label": label, "ProgramArguments": ["/bin/sleep", "600"], **values}
        path.write_bytes(plistlib.dumps(job))
        path.chmod(mode)
        return path

    def load(self, label: str = "x", **values: Any) -> None:
        """Define a job and bootstrap it."""
        done = self.ctl("bootstrap", "system", str(self.define(label, **values)))
        assert done.returncode == 0, done.stderr + self.log.read_text()

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run launchctl."""
        return subprocess.run(
            [*self._command(), *words], env=self.environment, capture_output=True, text=True, check=False
        )

    def told(self, key: str, label: str = "x") -> str:
        """A value of `launchctl print`, or "" where there is none."""
        lines = self.ctl("print", f"system/{label}").stdout.splitlines()
        return next((line.partition(" = ")[2] for line in lines if line.startswith(f"\t{key} = ")), "")

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, with a limit."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def program(self) -> Path:
        """A launchctl that can be run by its path alone."""
        path = self.root / "launchctl"
        exports = " ".join(f"{name}='{self.environment[name]}'" for name in ("PYTHONPATH", "LAUNCHD_ROOT"))
        path.write_text(f'#!/bin/sh\n{exports} exec {" ".join(self._command())} "$@"\n')
        path.chmod(0o755)
        return path

    @staticmethod
    def _command() -> list[str]:
        return [sys.executable, "-m", "launchd_double"]


@contextlib.contextmanager
def mac(root: Path, patience: int = 3) -> Iterator[Mac]:
    """A double that runs, and that leaves nothing running."""
    double = Mac(root, patience)
    double.boot()
    try:
        yield double
    finally:
        double.halt()
