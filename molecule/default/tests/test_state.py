"""What recover-state.yml and clean-disk.yml do over SSH, under systemd and under launchd's double."""

from __future__ import annotations

import json
from datetime import date, timedelta

from support.hosts import Hosts, Machine
from support.on_hosts import changed, outlast

# Older than clean.logs_after, and younger than observe.keep.
LOG = f"{date.today() - timedelta(days=12)}.jsonl"


def home(machine: Machine) -> str:
    """Where its node lives."""
    return str(machine.variables["outlast_home"])


def mode(machine: Machine) -> str:
    """The mode that its node says it is in."""
    return str(json.loads(outlast(machine, "status", "--json", check=False))["mode"])


def test_state_is_rebuilt_on_both(hosts: Hosts, axiom: Machine, coz: Machine) -> None:
    """STATE.json is garbage, on the Pi with the service stopped, on the Mac while it runs: both are rebuilt, run and are well,
    the broken files are kept, and a second run has nothing to do."""
    axiom.console("systemctl", "stop", "outlast-runtime")
    for machine in (axiom, coz):
        machine.console("sh", "-c", f"echo garbage > {home(machine)}/workspace/STATE.json")
    done = hosts.play("playbooks/recover-state.yml")
    assert done.returncode == 0, done.stdout
    assert "2 of 2 nodes are well" in done.stdout
    assert done.stdout.count("STATE cannot be used: it does not parse") == 2
    for machine in (axiom, coz):
        kept = machine.console(
            "sh", "-c", f"cat {home(machine)}/var/trash/*STATE.json*; stat -c %U {home(machine)}/workspace/STATE.json"
        )
        assert kept.split() == ["garbage", "outlast"]
    again = hosts.play("playbooks/recover-state.yml")
    assert (again.returncode, changed(again.stdout)) == (0, 0), again.stdout


def test_what_cannot_be_rebuilt_is_an_emergency(hosts: Hosts, axiom: Machine) -> None:
    """A day that the node's user may not read: one line with the mend, nothing touched, and the node is there to say so; once
    it is mended, a person's word ends it."""
    memory, state = f"{home(axiom)}/workspace/memory", f"{home(axiom)}/workspace/STATE.json"
    axiom.console("systemctl", "stop", "outlast-runtime")
    axiom.console("sh", "-c", f"echo garbage > {state}; install -m 0000 /dev/null {memory}/2026-01-02.md")
    done = hosts.play("playbooks/recover-state.yml", "-l", "axiom")
    assert done.returncode == 2, done.stdout
    assert "could not be rebuilt" in done.stdout and "outlast resume" in done.stdout
    assert axiom.console("cat", state) == "garbage\n"
    assert mode(axiom) == "emergency"
    axiom.console("rm", f"{memory}/2026-01-02.md")
    hosts.play("playbooks/recover-state.yml", "-l", "axiom")
    outlast(axiom, "resume", "--reason", "its mode was put right")
    assert mode(axiom) == "normal"


def test_room_is_made_on_both(hosts: Hosts, axiom: Machine, coz: Machine) -> None:
    """Old logs are compressed under both service managers, with the Pi's service stopped; then there is nothing to do."""
    axiom.console("systemctl", "stop", "outlast-runtime")
    for machine in (axiom, coz):
        logs = f"{home(machine)}/workspace/logs"
        machine.console("sh", "-c", f"seq 5000 > {logs}/{LOG} && chown outlast: {logs}/{LOG}")
    done = hosts.play("playbooks/clean-disk.yml")
    assert (done.returncode, changed(done.stdout)) == (0, 2), done.stdout
    for machine in (axiom, coz):
        logs = f"{home(machine)}/workspace/logs"
        assert machine.console("sh", "-c", f"zcat {logs}/{LOG}.gz | tail -n 1; stat -c %U {logs}/{LOG}.gz").split() == [
            "5000",
            "outlast",
        ]
    again = hosts.play("playbooks/clean-disk.yml")
    assert (again.returncode, changed(again.stdout)) == (0, 0), again.stdout
    axiom.console("systemctl", "start", "outlast-runtime")
