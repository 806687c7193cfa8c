"""The real OpenClaw as a service of systemd and of launchd, after site.yml on a Pi and a Mac's double, in this order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hosts import REPOSITORY, Hosts, Machine
from support.live import until
from support.on_hosts import changed, outlast

OVER = str(Path(__file__).resolve().parents[1] / "inventory")
NODES = ("axiom", "coz")
HOME = "/srv/outlast"
# What a start of the gateway may take where two of them and other hosts share two processors.
START_S = 300.0


@pytest.fixture(scope="module", autouse=True)
def providers(hosts: Hosts) -> Iterator[None]:
    """A model provider's double on the loopback of each host."""
    for name in NODES:
        provide(hosts[name])
    yield


def provide(machine: Machine) -> None:
    text = (REPOSITORY / "tests/support/provider.py").read_text()
    machine.console(
        "sh", "-c", "cat >/root/provider.py; setsid python3 /root/provider.py one 9191 >/dev/null 2>&1 &", stdin=text
    )


def status(machine: Machine) -> dict[str, Any]:
    """What `outlast openclaw status` tells."""
    told = outlast(machine, "openclaw", "status", "--json", check=False)
    return json.loads(told) if told.startswith("{") else {"state": told}


def until_working(machine: Machine, *, other_than: int = 0) -> dict[str, Any]:
    """Wait until the gateway truly works, as another process where one is named."""
    last: dict[str, Any] = {}

    def works() -> bool:
        last.clear()
        last.update(status(machine))
        return last.get("state") == "working" and last.get("pid") not in (0, other_than)

    until(works, limit=START_S, what=f"{machine.name}'s gateway")
    return last


def home(machine: Machine) -> str:
    return str(machine.variables["outlast_home"])


@pytest.fixture(params=NODES)
def machine(request: pytest.FixtureRequest, hosts: Hosts) -> Machine:
    """Each of the two."""
    return hosts[request.param]


def test_it_truly_works_as_the_node_s_user(machine: Machine) -> None:
    """The gateway answers from its database, on loopback alone, and neither it nor what it started is root's."""
    told = until_working(machine)
    owner = machine.console("ps", "-o", "user:20=", "-p", str(told["pid"])).strip()
    assert owner == "outlast"
    listeners = machine.console("ss", "-Hltn", f"sport = :{told['port']}").splitlines()
    assert listeners and all(line.split()[3].startswith(("127.0.0.1:", "[::1]:")) for line in listeners)


def test_the_readme_s_command_tells_it(machine: Machine) -> None:
    """The operator sees it over SSH, as the README has it."""
    until_working(machine)
    said = machine.ssh("sudo -u outlast outlast openclaw status")
    assert said.returncode == 0 and "gateway: working" in said.stdout, (said.stdout, said.stderr)


def test_its_sandbox_holds(hosts: Hosts) -> None:
    """On the Pi the gateway may not write its own configuration nor anything of the system's."""
    axiom = hosts["axiom"]
    asked = axiom.console("systemctl", "show", "-p", "ProtectSystem,NoNewPrivileges,User,MainPID", "outlast-gateway")
    assert "ProtectSystem=strict" in asked and "NoNewPrivileges=yes" in asked and "User=outlast" in asked
    for name in ("etc/openclaw/openclaw.json", "openclaw/current-axiom/package.json"):
        said = outlast(axiom, "openclaw", "tell", f"RUN: touch {home(axiom)}/{name} && echo written || echo refused")
        assert "refused" in said and "written" not in said, name


def test_a_message_becomes_a_turn(hosts: Hosts) -> None:
    """Work that is handed over from the Mac is done by the agent on the Pi, and its words come back."""
    said = hosts["coz"].ssh("sudo -u outlast outlast handoff axiom 'RUN: echo made by $(hostname)'", limit_s=240.0)
    assert "made by axiom" in said.stdout, (said.stdout, said.stderr)


def test_an_agent_calls_outlast(hosts: Hosts) -> None:
    """The command is in an agent's PATH on both, and works from within a turn."""
    said = outlast(hosts["axiom"], "openclaw", "tell", "RUN: outlast status --json | head -c 40")
    assert "node" in said


def test_a_killed_gateway_comes_back(hosts: Hosts) -> None:
    """kill -9, on both: each is started again, and truly works."""
    before = {name: until_working(hosts[name])["pid"] for name in NODES}
    for name, pid in before.items():
        hosts[name].console("kill", "-9", str(pid))
    for name, pid in before.items():
        until_working(hosts[name], other_than=pid)


def test_a_person_stops_and_starts_it(hosts: Hosts) -> None:
    """Stopped stays stopped, with no process and no port left; started works again."""
    axiom = hosts["axiom"]
    port = until_working(axiom)["port"]
    outlast(axiom, "openclaw", "stop", "--reason", "a test")
    until(lambda: status(axiom)["state"] == "stopped", limit=60, what="a gateway that is stopped")
    assert not axiom.console("ss", "-Hltn", f"sport = :{port}").strip()
    outlast(axiom, "openclaw", "start", "--reason", "a test")
    until_working(axiom)


def test_a_backup_is_made_and_whole(hosts: Hosts) -> None:
    """OpenClaw's state is in a backup of a node that runs, and the backup is verified by OpenClaw too."""
    axiom = hosts["axiom"]
    made = json.loads(outlast(axiom, "backup", "now", "--json"))
    outlast(axiom, "backup", "verify", made["file"])


def test_rotate_keys_covers_its_tokens(hosts: Hosts) -> None:
    """rotate-keys.yml changes both tokens of both gateways; the old ones are in no file and no process any more."""
    tokens = {}
    for name in NODES:
        text = hosts[name].console("cat", f"{home(hosts[name])}/etc/openclaw/tokens.json")
        tokens[name] = json.loads(text)["gateway"]["token"]
    done = hosts.play("rotate-keys.yml", "-i", OVER)
    assert done.returncode == 0, done.stdout
    for name in NODES:
        until_working(hosts[name])
        seek = f"grep -rlsF -- {tokens[name]} {home(hosts[name])}/etc {home(hosts[name])}/var/home /proc/[0-9]*/environ || true"
        assert hosts[name].console("sh", "-c", seek).split() == []


def test_it_is_back_after_a_reboot(hosts: Hosts) -> None:
    """The machines are started anew: the gateway works before anybody logs in, and agents get their turns."""
    for name in NODES:
        hosts[name].reboot()
        provide(hosts[name])
    for name in NODES:
        until_working(hosts[name])
    assert "again" in outlast(hosts["axiom"], "openclaw", "tell", "RUN: echo again")


def test_site_finds_nothing_to_do(hosts: Hosts) -> None:
    """After all that, site.yml has nothing to put right."""
    done = hosts.play("site.yml", "-i", OVER)
    assert done.returncode == 0, done.stdout
    assert changed(done.stdout) == 0, done.stdout


def test_it_is_taken_away(hosts: Hosts) -> None:
    """With openclaw_enabled off the service goes, its data stays, and nothing of it runs."""
    done = hosts.play("site.yml", "-i", OVER, "-e", json.dumps({"openclaw_enabled": False}))
    assert done.returncode == 0, done.stdout
    for name in NODES:
        assert not hosts[name].console("pgrep", "-f", "openclaw-gateway", check=False).strip()
        assert hosts[name].console("ls", f"{home(hosts[name])}/var/home/.openclaw/state/openclaw.sqlite")


def test_one_that_the_operator_has_is_adopted(hosts: Hosts) -> None:
    """An OpenClaw in the operator's home is had by the node, with its conversations and memory; the operator keeps theirs, and
    what the node had before is in the trash."""
    axiom, old = hosts["axiom"], "/home/operator/.openclaw"
    axiom.console(
        "sh", "-ec",
        f"cp -a {home(axiom)}/var/home/.openclaw {old}; rm {old}/workspace; mkdir {old}/workspace; "
        f"echo '- Pat likes tea' > {old}/workspace/MEMORY.md; echo '{{gateway: {{mode: \"local\"}}}}' > {old}/openclaw.json; "
        f"chown -R operator: {old}",
    )  # fmt: skip
    done = hosts.play("site.yml", "-i", OVER, "-l", "axiom", "-e", json.dumps({"openclaw_adopt": True}))
    assert done.returncode == 0 and "there it is as it was" in done.stdout, done.stdout
    until_working(axiom)
    assert "Pat likes tea" in axiom.console("cat", f"{home(axiom)}/workspace/MEMORY.md")
    assert axiom.console("ls", f"{old}/state/openclaw.sqlite", f"{home(axiom)}/var/home/.openclaw/outlast-adopted.json")
    assert axiom.console("find", f"{home(axiom)}/var/trash", "-name", "openclaw.sqlite").split()
    assert "mine now" in outlast(axiom, "openclaw", "tell", "RUN: echo mine now")
