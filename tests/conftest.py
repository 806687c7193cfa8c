"""What holds for all tests. That this file lies here also makes ``support`` importable."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from outlast.work import guard

# A machine that is busy with something else must not fail a property.
settings.register_profile("outlast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("outlast")

# Who starts the tests in the background may have these ignored, and what is ignored stays so in every process below.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def openclaw_release() -> Path:
    """The real OpenClaw that we pin, with its Node.js, installed once a machine; tests that take it are skipped without it."""
    from support.openclaw import release

    return release()


@pytest.fixture(autouse=True)
def no_guards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A guard's shell ends with its runtime, and here that is the process of all tests; so it is ended after each."""
    # The module's own lets go of who is not used any more, and with it of the last handle on the shell.
    made: set[guard.Guard] = set()
    monkeypatch.setattr(guard, "_GUARDS", made)
    yield
    for one in made:
        shell, one._shell = one._shell, None
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
            # Of what runs still it takes leave as it does of a runtime that is gone; else there is nothing to wait for.
            if not one.running:
                shell.kill()
            shell.wait(30)
