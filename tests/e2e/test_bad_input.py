"""What preflight refuses: said at once, each with its mend, before anything was changed."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY, Clone, Done, Sketch, free_base, namespace


def refused(clone: Clone, sketch: Sketch, *words: str) -> Done:
    """Provisioning fails with a finding that holds all the words and a mend, without a traceback or a change."""
    done = clone.play("site.yml", "-i", sketch.write())
    assert done.code != 0
    assert_finding(done, *words)
    assert "Traceback" not in done.text
    assert done.changed() == 0
    return done


def assert_finding(done: Done, *words: str) -> None:
    """One line of the output holds all the words, and the next one is its mend."""
    lines = done.text.splitlines()
    hits = [index for index, line in enumerate(lines) if all(word in line for word in words)]
    assert any(lines[index + 1].strip().startswith("mend: ") for index in hits), done.text


def test_port_taken(clone: Clone, sketch: Sketch) -> None:
    """A port that another program holds is named, with a free one."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = sketch.hosts["axiom"]["outlast_port"] = other.getsockname()[1]
        done = refused(clone, sketch, "axiom: outlast_port", f"{port} is taken")
    assert not list(sketch.homes.iterdir())
    assert "set outlast_port for axiom to a free one" in done.text


def test_two_nodes_on_one_port(clone: Clone, sketch: Sketch) -> None:
    """Two nodes of one machine cannot claim one port."""
    sketch.hosts["axiom"]["outlast_port"] = sketch.hosts["coz"]["outlast_port"]
    refused(clone, sketch, "outlast_port", "claimed by coz and axiom")


def test_sibling_missing_from_the_inventory(clone: Clone, sketch: Sketch) -> None:
    """A peer that the inventory does not know is named."""
    sketch.hosts["coz"]["outlast_peers"] = ["axiom", "witness"]
    refused(clone, sketch, "coz: outlast_peers", "witness is not in the inventory")


def test_unknown_variable(clone: Clone, sketch: Sketch) -> None:
    """A typo is found, and what was probably meant is said."""
    sketch.hosts["coz"]["outlast_prot"] = 1
    done = refused(clone, sketch, "coz: outlast_prot", "unknown variable")
    assert "did you mean outlast_port?" in done.text


def test_all_findings_at_once(clone: Clone, sketch: Sketch) -> None:
    """Several mistakes on several nodes are all said in one run."""
    del sketch.hosts["coz"]["outlast_port"]
    sketch.hosts["coz"]["outlast_agent"] = {"comand": ["x"]}
    sketch.hosts["axiom"]["outlast_retry"] = {"attempts": "many"}
    sketch.hosts["axiom"]["outlast_home"] = "relative/" + "x" * 90
    sketch.common["outlast_min_free"] = "lots"
    done = refused(clone, sketch, "coz: outlast_port", "is not set")
    assert_finding(done, "coz: outlast_agent", "comand")
    assert_finding(done, "axiom: outlast_retry", "many")
    assert_finding(done, "axiom: outlast_min_free", "lots")


def test_settings_of_the_second_node(clone: Clone, sketch: Sketch) -> None:
    """What a node would refuse of its services, jobs, probes and alerts is found for all nodes before the first is touched."""
    axiom, coz = sketch.hosts["axiom"], sketch.hosts["coz"]
    coz["outlast_services"] = {"web": {"command": ["sleep", 5], "environment": {"PORT": 8080}}}
    axiom["outlast_services"] = {"web": {"comand": ["x"]}, "slow": {"command": ["x"], "grace": "10 parsecs"}}
    axiom["outlast_jobs"] = {"nightly": {"schedule": "61 3 * * *", "command": ["x"]}}
    axiom["outlast_probes"] = {"gateway": {"htp": "http://127.0.0.1/"}}
    axiom["outlast_alert_urls"] = ["ntfys://ntfy.example/canary-topic", "canary-without-scheme"]
    done = refused(clone, sketch, "axiom: outlast_services.web.comand", "unknown field")
    assert "did you mean command?" in done.text
    assert_finding(done, "axiom: outlast_services.slow.grace", "10 parsecs")
    assert_finding(done, "axiom: outlast_jobs.nightly.schedule", "its minute is wrong")
    assert_finding(done, "axiom: outlast_probes.gateway.htp", "unknown field")
    assert_finding(done, "axiom: outlast_alert_urls", "entry 2")
    assert "canary" not in done.text and "coz: " not in done.text, done.text
    assert not list(sketch.homes.iterdir())


def test_home_that_no_socket_fits_into(clone: Clone, sketch: Sketch) -> None:
    """A home too long for a Unix socket is refused before it is made."""
    sketch.hosts["axiom"]["outlast_home"] = str(sketch.homes / ("x" * 90))
    refused(clone, sketch, "axiom: outlast_home", "a Unix socket")


def test_wrong_permissions_on_a_key(clone: Clone, sketch: Sketch) -> None:
    """A key that others may read, or that its owner may not, is refused with the command that mends it."""
    keys = sketch.homes / "coz/etc/keys"
    keys.mkdir(parents=True)
    for name, mode in (("coz.key", 0o644), ("axiom.key", 0o000)):
        (keys / name).write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
        (keys / name).chmod(mode)
    done = refused(clone, sketch, "coz.key", "0644")
    assert f"chmod 600 {keys}/coz.key" in done.text
    assert_finding(done, "axiom.key", "0000")
    assert "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" not in done.text


def test_unreadable_key(clone: Clone, sketch: Sketch) -> None:
    """A key file that holds no key is refused, and its content is not shown."""
    keys = sketch.homes / "coz/etc/keys"
    keys.mkdir(parents=True)
    for name, content in (("coz.key", b"\xff\xfe"), ("axiom.key", b"canary-content\n")):
        (keys / name).write_bytes(content)
        (keys / name).chmod(0o600)
    done = refused(clone, sketch, "coz.key", "cannot be read as a key")
    assert_finding(done, "axiom.key", "holds no key")
    assert "canary-content" not in done.text


def bent_python(clone: Clone, folder: Path, code: str) -> str:
    """The path of an interpreter that believes what the code says."""
    (folder / "bent").mkdir()
    (folder / "bent/sitecustomize.py").write_text(code)
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/bent exec {clone.root}/.venv/bin/python "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


@pytest.mark.parametrize(("seconds", "about"), [(125, "is +12"), (-3595, "is -359")])
def test_clock_that_is_off(clone: Clone, sketch: Sketch, tmp_path: Path, seconds: int, about: str) -> None:
    """A node whose clock is off is told so before any message is refused for it, be it two minutes or an hour."""
    code = f"import time\nreal = time.time\ntime.time = lambda: real() + {seconds}\n"
    sketch.hosts["axiom"]["ansible_python_interpreter"] = bent_python(clone, tmp_path, code)
    refused(clone, sketch, "axiom: clock", about, "s off coz's")
    del sketch.hosts["coz"]
    refused(clone, sketch, "axiom: clock", about, "s off this machine's")


def test_processor_without_prebuilt_packages(clone: Clone, sketch: Sketch, tmp_path: Path) -> None:
    """A 32-bit Pi is told before anything is downloaded, also where its kernel is a 64-bit one; a wheelhouse mends it."""
    code = (
        "import os, sys\nreal = os.uname()\nsys.maxsize = 2**31 - 1\n"
        "os.uname = lambda: os.uname_result(('Linux', real[1], real[2], real[3], 'aarch64'))\n"
    )
    sketch.hosts["axiom"]["ansible_python_interpreter"] = bent_python(clone, tmp_path, code)
    done = refused(clone, sketch, "axiom: machine", "armv7l has no prebuilt packages")
    assert "64-bit Raspberry Pi OS" in done.text
    assert done.text.count("mend: ") == 1


def test_python_that_is_too_old_or_missing(clone: Clone, sketch: Sketch, tmp_path: Path) -> None:
    """An interpreter that is too old for the runtime, and one that is not there, are one line each."""
    code = "import sys\nsys.version_info = type('version_info', (tuple,), {'major': 3, 'minor': 9})((3, 9, 2, 'final', 0))\n"
    sketch.hosts["axiom"]["ansible_python_interpreter"] = bent_python(clone, tmp_path, code)
    sketch.hosts["coz"]["ansible_python_interpreter"] = "/nowhere/python3"
    done = refused(clone, sketch, "axiom: python", "3.9.2", "3.11 or newer is needed")
    assert_finding(done, "coz: python", "/nowhere/python3 is not there")


def test_what_an_old_python_must_read() -> None:
    """All that preflight sends to a node can be read by Python 3.8, or that node could not say that its Python is too old."""
    sent, plugins = ["modules.preflight"], REPOSITORY / "plugins"
    for name in sent:
        text = (plugins / f"{name.replace('.', '/')}.py").read_text()
        for node in ast.walk(ast.parse(text, feature_version=(3, 8))):
            if isinstance(node, ast.ImportFrom) and "outlast.agents.plugins." in (node.module or ""):
                below = str(node.module).partition(".plugins.")[2]
                places = [f"{below}.{alias.name}" for alias in node.names] if below == "module_utils" else [below]
                sent += [place for place in places if place not in sent]
    assert "module_utils.machine" in sent


def test_too_little_room(clone: Clone, sketch: Sketch) -> None:
    """A disk with less room than asked for is refused."""
    sketch.common["outlast_min_free"] = "900TiB"
    # Both nodes are on one disk: they share a line when it did not change between the two looks.
    refused(clone, sketch, "coz", ": outlast_min_free:", "MiB free")


def test_malformed_setting_never_takes_the_place_of_a_good_one(clone: Clone, sketch: Sketch) -> None:
    """What only the node can refuse, its time zones, is not written: it keeps its configuration and goes on."""
    sketch.hosts = {"coz": sketch.hosts["coz"]}
    assert clone.play("site.yml", "-i", sketch.write()).code == 0
    config = sketch.homes / "coz/etc/node.yml"
    before = config.read_text()
    sketch.hosts["coz"]["outlast_jobs"] = {"late": {"schedule": "@daily", "command": ["x"], "zone": "Europe/Belin"}}
    done = clone.play("site.yml", "-i", sketch.write())
    assert done.code != 0
    assert "jobs.late.zone" in done.text and "did you mean Europe/Berlin?" in done.text
    assert "Traceback" not in done.text
    assert config.read_text() == before


@pytest.mark.skipif(sys.platform != "linux", reason="launchd is a Mac's own")
def test_service_manager_of_another_system(clone: Clone, sketch: Sketch) -> None:
    """A manager that does not run the machine is refused, and so are two nodes under the one that does."""
    sketch.hosts["coz"]["outlast_service_manager"] = "launchd"
    sketch.hosts["axiom"]["outlast_service_manager"] = "systemd"
    done = refused(clone, sketch, "coz: outlast_service_manager", "launchd is not what runs this machine")
    assert_finding(done, "axiom: outlast_service_manager", "this machine can run one node under it")
    if not Path("/run/systemd/system").exists():
        assert_finding(done, "axiom: outlast_service_manager", "systemd is not what runs this machine")
    elif os.geteuid():
        assert_finding(done, "axiom: ansible_become", "systemd needs root")


def test_user_that_agents_cannot_be(clone: Clone, sketch: Sketch) -> None:
    """A provisioned machine gives agents a user of their own, and never root."""
    sketch.common["outlast_manage_machine"] = True
    sketch.hosts["axiom"]["outlast_user"] = "root"
    done = refused(clone, sketch, "coz: outlast_user", "is not set")
    assert_finding(done, "axiom: outlast_user", "root may do everything on the machine")


def test_user_that_is_not_there(clone: Clone, sketch: Sketch) -> None:
    """A user whom nobody makes is missed before anything is written for them."""
    sketch.hosts["axiom"]["outlast_user"] = "nobody-made-me"
    refused(clone, sketch, "axiom: outlast_user", "nobody-made-me does not exist there")


def test_all_hosts_away(clone: Clone) -> None:
    """The sample inventory as it is leads to hosts that nobody has: a line and a mend for each, no stack of errors."""
    done = clone.play("site.yml", "-i", "inventory/sample")
    assert done.code == 4, done.text
    for host in ("coz", "axiom"):
        assert_finding(done, f"{host}: ansible_host", f"{host}.local")
    assert "Traceback" not in done.text
    assert done.changed() == 0


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no SSH client here")
def test_one_host_away(clone: Clone, sketch: Sketch) -> None:
    """A host that is away does not hold up the other: that one is provisioned, the table says who is missing, and the run
    ends with an error; limited to the one that is there it ends well. Once the other is back, they know each other."""
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": free_base()}
    here = sketch.hosts["axiom"]
    sketch.hosts["axiom"] = here | away
    done = clone.play("site.yml", "-i", sketch.write())
    assert done.code == 4, done.text
    assert_finding(done, "axiom: ansible_host", "127.0.0.1 cannot be reached (Connection refused)")
    assert "Traceback" not in done.text
    rows = [line.split()[:2] for line in done.text.splitlines() if line.startswith(("coz ", "axiom "))]
    assert ["coz", "ready"] in rows, done.text
    assert ["axiom", "unreachable"] in rows, done.text
    assert "when it is back, run the same command again" in done.text
    assert "1 of 2 nodes are well" in done.text
    assert "coz: peers.axiom" not in done.text
    # It was asked once, by preflight, and by nobody after that.
    assert done.text.index("UNREACHABLE!") < done.text.index("PLAY [Make every machine ready]"), done.text
    alone = clone.play("site.yml", "-i", str(sketch.path), "-l", "coz")
    assert (alone.code, alone.changed()) == (0, 0), alone.text
    sketch.hosts["axiom"] = here
    both = clone.play("site.yml", "-i", sketch.write())
    assert both.code == 0, both.text
    assert "2 of 2 nodes are well" in both.text


def test_read_only_workspace(clone: Clone, sketch: Sketch) -> None:
    """A workspace that cannot be written is found before anything changes, even by root."""
    workspace = sketch.homes / "coz/workspace"
    workspace.mkdir(parents=True)
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
    play = [str(clone.root / ".venv/bin/ansible-playbook"), "site.yml", "-i", sketch.write()]
    done = namespace(script, clone, str(workspace), *play)
    assert done.code != 0
    assert_finding(done, "coz: outlast_home", str(workspace), "read-only")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
def test_workspace_without_permission(clone: Clone, sketch: Sketch) -> None:
    """A workspace whose permissions forbid writing is found."""
    workspace = sketch.homes / "coz/workspace"
    workspace.mkdir(parents=True)
    workspace.chmod(0o500)
    refused(clone, sketch, "coz: outlast_home", "is not writable")
