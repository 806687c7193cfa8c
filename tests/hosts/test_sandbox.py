"""The runtime's unit as shipped, on a host with systemd: what it shuts out, and that the runtime's own tests pass in it."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hosts import REPOSITORY, Hosts, Machine

UNITS = "/etc/systemd/system"
PLACE = "/opt/outlast-trial"
PYTHON = f"{PLACE}/venv/bin/python"
# What belongs to a program that keeps running and speaks to systemd; all else is what shuts it in.
OF_A_DAEMON = (
    "Type",
    "NotifyAccess",
    "Watchdog",
    "Timeout",
    "ExecStart",
    "Restart",
    "RemainAfterExit",
    "WorkingDirectory",
    "Wants",
)
NEEDED = ("pytest", "pytest-timeout", "hypothesis", "standardwebhooks")
# Of a network that is for documents only: no private one, and nobody's but the host's for as long as a test gives it to it.
FAR = "203.0.113.7"

# Every try of an agent's: what it must be able to do, what it must not, and what only some need.
PROBE = """
import contextlib, ctypes, json, mmap, os, socket, subprocess, sys
home, near, far = sys.argv[1:]
def works(action, *arguments, **named):
    try:
        result = action(*arguments, **named)
    except OSError:
        return False
    with contextlib.suppress(AttributeError):
        result.close()
    return True
print(json.dumps({
    "write where it may": works(open, home + "/var/probe", "w"),
    "write a release": works(open, home + "/current/probe", "w"),
    "write its configuration": works(open, home + "/etc/probe", "w"),
    "write elsewhere": works(open, "/var/tmp/../probe", "w"),
    "see others' processes": os.path.exists("/proc/1/status"),
    "see its own processes": os.path.exists("/proc/%d/status" % os.getpid()),
    "subagents": subprocess.run(
        ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--cap-drop", "ALL", "true"], capture_output=True
    ).returncode == 0,
    "reach peers": works(socket.create_connection, (near, 22), 3),
    "internet": works(socket.create_connection, (far, 22), 3),
    "jit": works(mmap.mmap, -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "openat2": ctypes.CDLL(None).syscall(437, -100, b"/", (ctypes.c_uint64 * 3)(), 24) >= 0,
    "home": works(os.listdir, "/home"),
}))
"""
PLAY = """
- hosts: axiom
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: outlast.agents.service}
      vars:
        service_name: probe
        service_command: [/bin/true]
        service_schedule: boot
        service_writable: ["{{ outlast_home }}/var"]
"""


def shut_in(machine: Machine, unit: str, *command: str) -> str:
    """Run a command as a unit's program would run, except that it may end; return what it printed."""
    lines = machine.console("cat", f"{UNITS}/{unit}").splitlines()
    lines = [line for line in lines if not line.startswith(OF_A_DAEMON)]
    at = lines.index("[Service]") + 1
    words = " ".join(f'"{word}"' for word in command)
    lines[at:at] = [
        "Type=oneshot",
        f"WorkingDirectory={PLACE}",
        f"StandardOutput=truncate:{PLACE}/said",
        f"ExecStart={words}",
    ]
    target = "/run/systemd/system/outlast-shut.service"
    machine.console(
        "sh", "-c", f"mkdir -p /run/systemd/system && cat > {target} && systemctl daemon-reload", stdin="\n".join(lines)
    )
    try:
        machine.console("systemctl", "start", "outlast-shut.service", check=False)
        return machine.console("cat", f"{PLACE}/said")
    finally:
        machine.console("sh", "-c", f"rm -f {target}; systemctl reset-failed outlast-shut.service", check=False)


def score(machine: Machine, unit: str) -> float:
    """What systemd-analyze makes of a unit: 10 is exposed, 0 is shut."""
    printed = machine.console("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
    return float(re.findall(r"Overall exposure level for \S+: ([0-9.]+)", printed)[0])


@pytest.fixture(scope="module")
def furnished(axiom: Machine) -> Iterator[Machine]:
    """A host with the runtime's tests on it, beside its release."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("tests", "plugins", "pytest.ini"):
            tar.add(REPOSITORY / name, name, filter=lambda entry: None if "__pycache__" in entry.name else entry)
        probe = tarfile.TarInfo("probe.py")
        probe.size = len(PROBE)
        tar.addfile(probe, io.BytesIO(PROBE.encode()))
    release = f"{axiom.variables['outlast_home']}/current"
    pins = (REPOSITORY / "requirements/dev.txt").read_text()
    wanted = " ".join(re.findall(rf"^(?:{'|'.join(NEEDED)})==[^\s;]+", pins, re.MULTILINE))
    furnish = f"""
        mkdir -p {PLACE}; base64 -d | tar -C {PLACE} --no-same-owner -xf -
        python3 -m venv {PLACE}/venv; {PYTHON} -m pip -q install {wanted}
        echo {release}/lib/python3*/site-packages > $(echo {PLACE}/venv/lib/python3*/site-packages)/outlast.pth
        ln -sf {release}/bin/outlast {release}/bin/outlast-host-report {PLACE}/venv/bin/
        chmod -R a+rX {PLACE}
        ip address add {FAR}/32 dev lo"""
    axiom.console("sh", "-ec", furnish, stdin=base64.b64encode(packed.getvalue()).decode())
    yield axiom
    axiom.console("sh", "-c", f"rm -rf {PLACE}; ip address del {FAR}/32 dev lo")


def test_the_shipped_unit_scores_one_or_better(axiom: Machine) -> None:
    """``systemd-analyze security`` gives the runtime's unit 1.0 or less, and systemd finds nothing wrong with any of ours."""
    assert score(axiom, "outlast-runtime.service") <= 1.0
    assert axiom.console("sh", "-c", f"systemd-analyze verify {UNITS}/outlast-runtime* 2>&1") == ""


@pytest.mark.parametrize(
    ("needs", "most"),
    [
        ([], 1.0),
        (["internet"], 1.1),
        (["jit"], 1.2),
        (["home"], 1.1),
        (["internet", "jit", "home"], 1.4),
        # What shuts sub-agents in.
        (["subagents"], 2.1),
    ],
)
def test_what_agents_need_opens_that_and_no_more(
    hosts: Hosts, furnished: Machine, tmp_path: Path, needs: list[str], most: float
) -> None:
    """Of internet, jit, home and subagents each works where it is asked for and only there; the rest is shut in any case."""
    play = tmp_path / "play.yml"
    play.write_text(PLAY)

    def bring(**more: Any) -> None:
        done = hosts.play(str(play), "-e", json.dumps(more))
        assert done.returncode == 0, done.stdout

    home = furnished.variables["outlast_home"]
    try:
        bring(outlast_agent_needs=needs)
        assert score(furnished, "outlast-probe.service") <= most
        said = shut_in(furnished, "outlast-probe.service", PYTHON, f"{PLACE}/probe.py", home, furnished.address, FAR)
    finally:
        bring(service_state="absent")
        furnished.console("rm", "-f", f"{home}/var/probe")
    able = {"write where it may", "see its own processes", "reach peers", *needs}
    if "jit" in needs:
        # Node's programs open files by it, and have no other way.
        able.add("openat2")
    assert {name for name, works in json.loads(said).items() if works} == able


@pytest.mark.parametrize(
    "tests",
    [
        "unit: test_daemon test_notify test_config test_keyring test_journal test_statefile test_ledger",
        "unit: test_runner test_harvest test_host_report",
        "fault: test_kill9",
    ],
)
def test_the_runtimes_own_tests_pass_in_it(furnished: Machine, tests: str) -> None:
    """What the runtime promises it keeps as well where it is shut in as shipped: its daemon, its store, its agents, kill -9."""
    folder, _, names = tests.partition(": ")
    files = [f"tests/{folder}/{name}.py" for name in names.split()]
    options = ["-q", "-p", "no:cacheprovider", "--basetemp=/tmp/trial"]
    said = shut_in(furnished, "outlast-runtime.service", PYTHON, "-m", "pytest", *options, *files)
    last = said.strip().splitlines()[-1] if said.strip() else "it printed nothing"
    assert re.match(r"\d+ passed", last), said[-8000:]
