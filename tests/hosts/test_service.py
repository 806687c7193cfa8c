"""The runtime under a real systemd: it comes back from whatever ends it, except where a person stopped it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from support.hosts import Hosts, Machine
from support.live import until
from support.on_hosts import changed, outlast

RUNTIME = "outlast-runtime.service"
REARM = "outlast-runtime-rearm"
UNITS = "/etc/systemd/system"


def shown(machine: Machine, unit: str, name: str) -> str:
    """A property of a unit."""
    return machine.console("systemctl", "show", f"--property={name}", "--value", unit).strip()


def pid(machine: Machine) -> int:
    """The runtime's process id, 0 without one."""
    return int(shown(machine, RUNTIME, "MainPID"))


def serves(machine: Machine) -> bool:
    """Does the runtime answer, and is it ready?"""
    with contextlib.suppress(ValueError):
        return bool(json.loads(outlast(machine, "status", "--json", check=False)).get("ready"))
    return False


@contextlib.contextmanager
def dropped_in(machine: Machine, unit: str, *lines: str) -> Iterator[None]:
    """Lay lines over a unit, as `systemctl edit --runtime` does, and take them away again."""
    folder = f"/run/systemd/system/{unit}.d"
    content = "\n".join(lines)
    machine.console(
        "sh", "-c", f"mkdir -p {folder} && cat > {folder}/trial.conf && systemctl daemon-reload", stdin=content
    )
    try:
        yield
    finally:
        machine.console("sh", "-c", f"rm -r {folder}; systemctl daemon-reload; systemctl restart {RUNTIME}")


def kill_until_given_up(machine: Machine) -> None:
    """kill -9 the runtime at once whenever it is back, until systemd tries no more."""
    script = f"""
        until systemctl is-failed --quiet {RUNTIME}; do
            pid=$(systemctl show --property=MainPID --value {RUNTIME})
            [ "$pid" = 0 ] || kill -9 "$pid"
        done"""
    machine.console("timeout", "120", "sh", "-c", script)


def test_a_killed_runtime_is_back_by_itself(axiom: Machine) -> None:
    """After kill -9 another process serves within seconds."""
    before = pid(axiom)
    axiom.console("kill", "-9", str(before))
    until(lambda: pid(axiom) not in (0, before) and serves(axiom), limit=15, what="the runtime's return")


def test_a_runtime_that_hangs_is_started_anew(axiom: Machine) -> None:
    """A process that stands still gives no sign of life: systemd ends it and starts another."""
    with dropped_in(axiom, RUNTIME, "[Service]", "WatchdogSec=2s", "TimeoutAbortSec=2s"):
        axiom.console("systemctl", "restart", RUNTIME)
        before = pid(axiom)
        axiom.console("kill", "-STOP", str(before))
        until(lambda: pid(axiom) not in (0, before) and serves(axiom), limit=30, what="another process")
    assert "atchdog" in axiom.console("journalctl", "--boot", "--unit", RUNTIME, "--lines=60", "--output=cat")


def test_a_burst_of_crashes_never_leaves_it_dead_for_good(axiom: Machine) -> None:
    """Crashes one after the other make systemd give up, and a while later it is started again, by nobody's hand."""
    with dropped_in(axiom, f"{REARM}.timer", "[Timer]", "OnActiveSec=", "OnActiveSec=3s", "OnUnitInactiveSec=3s"):
        axiom.console("systemctl", "restart", RUNTIME)
        kill_until_given_up(axiom)
        until(lambda: serves(axiom), limit=60, what="the runtime's return")
    assert shown(axiom, RUNTIME, "ActiveState") == "active"
    assert shown(axiom, f"{REARM}.timer", "ActiveState") == "active"


def test_what_a_person_stopped_stays_so(axiom: Machine) -> None:
    """A runtime that was stopped is not started by what looks after crashed ones, which stops with it; and starts with it."""
    axiom.console("systemctl", "stop", RUNTIME)
    try:
        assert shown(axiom, RUNTIME, "ActiveState") == "inactive"
        assert shown(axiom, f"{REARM}.timer", "ActiveState") == "inactive"
        axiom.console("systemctl", "start", f"{REARM}.service")
        assert shown(axiom, RUNTIME, "ActiveState") == "inactive"
    finally:
        axiom.console("systemctl", "start", RUNTIME)
    assert shown(axiom, f"{REARM}.timer", "ActiveState") == "active"


def test_a_wrong_configuration_is_not_tried_again(axiom: Machine) -> None:
    """Exit 78 ends the tries at once, and for good: what looks after crashed ones leaves it alone, too."""
    config = f"{axiom.variables['outlast_home']}/etc/node.yml"
    axiom.console("sed", "-i", "s/^listen:/listens:/", config)
    try:
        axiom.console("systemctl", "restart", RUNTIME, check=False)
        until(lambda: shown(axiom, RUNTIME, "ActiveState") == "failed", limit=30, what="the end of it")
        assert shown(axiom, RUNTIME, "ExecMainStatus") == "78"
        axiom.console("systemctl", "start", f"{REARM}.service")
        assert shown(axiom, RUNTIME, "ActiveState") == "failed"
    finally:
        axiom.console("sed", "-i", "s/^listens:/listen:/", config)
        axiom.console("systemctl", "reset-failed", RUNTIME)
        axiom.console("systemctl", "start", RUNTIME)


def test_a_unit_that_was_edited_by_hand_is_put_right(hosts: Hosts, axiom: Machine) -> None:
    """site.yml says so in one line, keeps the edited file, restarts the runtime, and has nothing to do the next time."""
    unit, home = f"{UNITS}/{RUNTIME}", axiom.variables["outlast_home"]
    shipped, before = axiom.console("cat", unit), pid(axiom)
    axiom.console("sh", "-c", f"sed -i 's/^ProtectHome=.*/ProtectHome=no/' {unit}; systemctl daemon-reload")
    done = hosts.play("site.yml")
    assert done.returncode == 0, done.stdout
    said = [line for line in done.stdout.splitlines() if "edited by hand" in line]
    assert len(said) == 1
    assert "axiom" in said[0] and RUNTIME in said[0] and "mend: " in said[0]
    assert axiom.console("cat", unit) == shipped
    assert "ProtectHome=no" in axiom.console("sh", "-c", f"cat {home}/etc/replaced/*{RUNTIME}")
    assert pid(axiom) not in (0, before)
    again = hosts.play("site.yml")
    assert changed(again.stdout) == 0, again.stdout


def test_what_the_runtime_did_not_start_with_is_made_good(hosts: Hosts, axiom: Machine) -> None:
    """A run that ended between the writing and the restart, or a new time zone: the next run restarts it, and says so."""
    for change in (f"touch {UNITS}/{RUNTIME}", "ln -sf /usr/share/zoneinfo/Pacific/Chatham /etc/localtime"):
        zone = axiom.console("readlink", "/etc/localtime", check=False).strip()
        before = pid(axiom)
        try:
            axiom.console("sh", "-c", change)
            done = hosts.play("site.yml", "--limit", "axiom")
            assert done.returncode == 0, done.stdout
            assert pid(axiom) not in (0, before), change
        finally:
            if zone:
                axiom.console("ln", "-sfn", zone, "/etc/localtime")
    assert hosts.play("site.yml", "--limit", "axiom").returncode == 0


def test_down_stops_it_and_site_starts_it_again(hosts: Hosts, axiom: Machine) -> None:
    """After down.yml no process of the node is left, nothing starts it again, and its units stay; site.yml has it back."""
    done = hosts.play("playbooks/down.yml", "--limit", "axiom")
    assert done.returncode == 0, done.stdout
    assert shown(axiom, RUNTIME, "ActiveState") == "inactive"
    assert shown(axiom, RUNTIME, "UnitFileState") == "enabled"
    assert axiom.console("pgrep", "-u", "outlast", check=False) == ""
    assert changed(hosts.play("playbooks/down.yml", "--limit", "axiom").stdout) == 0
    done = hosts.play("site.yml", "--limit", "axiom")
    assert done.returncode == 0, done.stdout
    assert serves(axiom)


TRIAL = """
- hosts: axiom
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: outlast.agents.service}
      vars:
        service_name: trial
        service_command: [/bin/sh, -c, 'echo "$WORD" >> "$PLACE"; [ "$STAY" = no ] || exec sleep infinity']
        service_environment: {WORD: 'a "b" $c `d` \\ %n', PLACE: "{{ outlast_home }}/var/trial", STAY: "{{ stay }}"}
        service_user: outlast
        service_writable: ["{{ outlast_home }}/var"]
"""


def test_programs_by_the_clock(hosts: Hosts, axiom: Machine, tmp_path: Path) -> None:
    """A program runs when it is said, also when that changes; its variables reach it as they are and stand in a file that is
    root's alone; a second run changes nothing; and it leaves nothing behind."""
    home = axiom.variables["outlast_home"]
    place = f"{home}/var/trial"
    play = tmp_path / "trial.yml"
    play.write_text(TRIAL)

    def bring(schedule: str, state: str = "started") -> int:
        told = {"service_schedule": schedule, "service_state": state, "stay": "no" if schedule else "yes"}
        done = hosts.play(str(play), "-e", json.dumps(told))
        assert done.returncode == 0, done.stdout
        assert "$c" not in done.stdout
        return changed(done.stdout)

    def runs() -> list[str]:
        return axiom.console("sh", "-c", f"cat {place} 2>/dev/null", check=False).splitlines()

    try:
        for schedule, unit, times in (
            ("2s", "timer", 3),
            ("", "service", 1),
            ("boot", "service", 1),
            ("04:30", "timer", 0),
        ):
            axiom.console("rm", "-f", place)
            assert bring(schedule) > 0
            until(lambda wanted=times: len(runs()) >= wanted, limit=30, what=f"its runs with {schedule}")  # type: ignore[misc]
            assert set(runs()) <= {'a "b" $c `d` \\ %n'}
            assert bring(schedule) == 0
            assert shown(axiom, f"outlast-trial.{unit}", "UnitFileState") == "enabled"
            assert axiom.console("stat", "-c", "%a %U", f"{home}/etc/trial.env").strip() == "600 root"
            assert "$c" not in axiom.console("sh", "-c", f"cat {UNITS}/outlast-trial*")
            assert axiom.console("systemctl", "list-units", "--failed", "--no-legend", "outlast*").strip() == ""
    finally:
        assert bring("04:30", "absent") > 0
        assert bring("04:30", "absent") == 0
        axiom.console("rm", "-f", place)
    places = f"{UNITS} {UNITS}/*.wants {home}/etc"
    left = axiom.console("sh", "-c", f"ls {places}; systemctl list-units --all --no-legend 'outlast-trial*'")
    assert "trial" not in left
