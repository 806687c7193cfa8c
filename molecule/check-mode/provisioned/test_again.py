"""What ``site.yml --check`` says of hosts that are as they should be."""

from __future__ import annotations

from support.hosts import Hosts
from support.on_hosts import changed


def test_there_is_nothing_to_do(hosts: Hosts) -> None:
    """A dry run after a real one tells of no change, and fails at nothing."""
    done = hosts.play("site.yml", "--check", "--diff")
    assert done.returncode == 0, done.stdout
    assert changed(done.stdout) == 0, done.stdout
