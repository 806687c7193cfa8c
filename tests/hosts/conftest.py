"""Tests that need real hosts: ``make molecule`` runs them, ``make test`` does not. ``pytest tests/hosts`` makes the hosts itself.

Rules kept here: site.yml has run on both hosts before the first test, and a test leaves them as well as it found them.
"""

from __future__ import annotations

import pytest
from support.hosts import Hosts
from support.on_hosts import axiom, coz, hosts, pytest_runtest_makereport

__all__ = ["axiom", "coz", "hosts", "provisioned", "pytest_runtest_makereport"]


@pytest.fixture(scope="session", autouse=True)
def provisioned(hosts: Hosts) -> Hosts:
    """The hosts, with both nodes up."""
    done = hosts.play("site.yml")
    assert done.returncode == 0, done.stdout
    return hosts
