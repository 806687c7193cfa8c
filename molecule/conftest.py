"""What the scenarios' verifications share: the hosts that the scenario made."""

from support.on_hosts import axiom, coz, hosts, pytest_runtest_makereport

__all__ = ["axiom", "coz", "hosts", "pytest_runtest_makereport"]
