"""What ``site.yml --check`` leaves on a machine that was never provisioned: nothing."""

from __future__ import annotations

import pytest
from support.hosts import Hosts, Machine


@pytest.fixture(params=["axiom", "coz"])
def machine(request: pytest.FixtureRequest, hosts: Hosts) -> Machine:
    """Each of the two."""
    return hosts[request.param]


def test_nothing_was_made(machine: Machine) -> None:
    """There is no home, no service, no command and no user of ours."""
    found = machine.console(
        "sh", "-c",
        f"ls -d {machine.variables['outlast_home']} /usr/local/bin/outlast /etc/outlast* 2>/dev/null;"
        "find /etc /Library /usr/local/var -newer /etc/hosts -iname '*outlast*' 2>/dev/null; getent passwd outlast",
        check=False,
    )  # fmt: skip
    assert found == ""


def test_nothing_was_installed(axiom: Machine) -> None:
    """What the playbook would install is not there."""
    assert not axiom.inside.package("nftables").is_installed
