"""Fixtures for tests on real hosts: a conftest.py imports the ones that it wants.

Rules kept here: the hosts of ``OUTLAST_HOSTS`` are used where there are such, and left to whoever made them; else they are
made for the session and removed with it; a test that fails shows what the services of the hosts said last.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from .hosts import Hosts, Machine

__all__ = ["axiom", "bent", "changed", "coz", "hosts", "outlast", "pytest_runtest_makereport"]

_PAIR = {"axiom": "pi-amd64", "coz": "mac-amd64"}


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """Axiom, a Pi, and coz, a Mac's double."""
    given = os.environ.get("OUTLAST_HOSTS")
    if given and (Path(given) / "hosts.json").exists():
        yield Hosts.load(Path(given))
        return
    # Workers of pytest-xdist get hosts of their own each.
    folder = Path(tempfile.mkdtemp(prefix="outlast-hosts-"))
    try:
        yield Hosts.create(folder, _PAIR)
    finally:
        Hosts(folder, {}).destroy()


@pytest.fixture(scope="session")
def axiom(hosts: Hosts) -> Machine:
    """The Pi."""
    return hosts["axiom"]


@pytest.fixture(scope="session")
def coz(hosts: Hosts) -> Machine:
    """The Mac's double."""
    return hosts["coz"]


def outlast(machine: Machine, *words: str, check: bool = True) -> str:
    """Type ``outlast ...`` on a host as its node's user. Raises Trouble where it fails."""
    home = machine.variables["outlast_home"]
    return machine.console("sudo", "-u", "outlast", "/usr/local/bin/outlast", "--home", home, *words, check=check)


@contextmanager
def bent(machine: Machine, **variables: Any) -> Iterator[None]:
    """The inventory with other variables for one host, which is reached over connections of its own meanwhile."""
    control = Path(tempfile.mkdtemp(prefix="ol-"))
    file = Path(machine.folder, "inventory/host_vars", f"{machine.name}.yml")
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({"ansible_control_path_dir": str(control), **variables}))
    try:
        yield
    finally:
        file.unlink()
        shutil.rmtree(control)


def changed(printed: str) -> int:
    """The number of changes in a playbook's recap; fails where there is none."""
    counts = re.findall(r"\bchanged=(\d+)", printed)
    assert counts, printed
    return sum(map(int, counts))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add the hosts' last words to the report of a test that failed."""
    report = (yield).get_result()
    used = getattr(item, "funcargs", {}).get("hosts")
    if report.failed and isinstance(used, Hosts):
        report.sections += [(f"what {name} said last", machine.words()) for name, machine in used.machines.items()]
