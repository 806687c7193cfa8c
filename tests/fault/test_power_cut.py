"""The power goes at every I/O step of every operation, on a disk that forgets what was not fsynced, names too."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault.operations import STORE
from fault.operations_backup import BACKUP
from fault.operations_local import LOCAL
from fault.operations_upkeep import UPKEEP
from fault.operations_work import WORK
from fault.powercut import Operation, after_every_failure, after_every_kill, every_cut, recorded
from support.forgetful import Forgetful, forgetful

OPERATIONS = [*STORE, *LOCAL, *UPKEEP, *WORK, *BACKUP]


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forgetful]:
    with forgetful(tmp_path_factory.mktemp("forgetful") / "disks") as found:
        yield found


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """Where what is left is looked at: in memory where that can be, for nothing here is about this machine's disk."""
    memory = "/dev/shm"
    path = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_whenever_the_power_goes_nothing_acknowledged_is_lost(
    disks: Forgetful, room: Path, operation: Operation, record_property: pytest.RecordProperty
) -> None:
    """After every cut, with every choice of what was not fsynced: what was acknowledged is there, nothing is invented, each
    thing is there whole or not at all, and a second start changes nothing."""
    count = every_cut(operation, disks.taken(recorded(disks, operation)), room)
    record_property("cuts", count)
    print(f"{operation}: {count} cuts")
    assert count > 3


@pytest.mark.parametrize("operation", [found for found in OPERATIONS if found.later], ids=str)
def test_a_kill_before_the_power_cut_loses_nothing_either(disks: Forgetful, room: Path, operation: Operation) -> None:
    """A process is killed at each of its steps, the next one goes on from what it sees, acknowledges, and then the power goes:
    what the first one had not yet fsynced is no ground for the second one to build on."""
    count = after_every_kill(disks, operation, room)
    print(f"{operation}, killed and gone on: {count} cuts")
    assert count


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_an_fsync_that_fails_once_is_never_believed_later(disks: Forgetful, room: Path, operation: Operation) -> None:
    """Each fsync in turn fails, and what it was to keep is gone although programs still read it: what was acknowledged before
    or afterwards is there after a power cut, and nothing is invented."""
    count = after_every_failure(disks, operation, room)
    print(f"{operation}, one fsync failed: {count} cuts")
    assert count > 1
