"""What preflight refuses: said at once, each with its mend, before anything was changed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from .conftest import Clone, Done, Sketch, namespace


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


def test_clock_two_minutes_off(clone: Clone, sketch: Sketch, tmp_path: Path) -> None:
    """A node whose clock is two minutes ahead is told so before any message is refused for it."""
    shifted = tmp_path / "shifted"
    shifted.mkdir()
    (shifted / "sitecustomize.py").write_text("import time\nreal = time.time\ntime.time = lambda: real() + 120\n")
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={shifted} exec {clone.root}/.venv/bin/python "$@"\n')
    wrapper.chmod(0o755)
    sketch.hosts["axiom"]["ansible_python_interpreter"] = str(wrapper)
    refused(clone, sketch, "axiom: clock", "+120 s off coz's")


def test_too_little_room(clone: Clone, sketch: Sketch) -> None:
    """A disk with less room than asked for is refused."""
    sketch.common["outlast_min_free"] = "900TiB"
    refused(clone, sketch, "coz: outlast_min_free", "MiB free")


def test_malformed_setting_never_takes_the_place_of_a_good_one(clone: Clone, sketch: Sketch) -> None:
    """What the runtime's own check refuses is not written: the node keeps its configuration and goes on."""
    sketch.hosts = {"coz": sketch.hosts["coz"]}
    assert clone.play("site.yml", "-i", sketch.write()).code == 0
    config = sketch.homes / "coz/etc/node.yml"
    before = config.read_text()
    sketch.hosts["coz"]["outlast_stop"] = {"grace": "10 parsecs"}
    done = clone.play("site.yml", "-i", sketch.write())
    assert done.code != 0
    assert "stop.grace" in done.text
    assert "Traceback" not in done.text
    assert config.read_text() == before


def test_unsupported_service_manager(clone: Clone) -> None:
    """The sample inventory is refused with one finding a node, not with a stack of errors."""
    done = clone.play("site.yml", "-i", "inventory/sample")
    assert done.code != 0
    assert_finding(done, "coz: outlast_service_manager", "launchd is not yet supported in this version")
    assert_finding(done, "axiom: outlast_service_manager", "systemd is not yet supported in this version")
    assert done.text.count("mend: ") == 2


def test_read_only_workspace(clone: Clone, sketch: Sketch) -> None:
    """A workspace that cannot be written is found before anything changes, even by root."""
    workspace = sketch.homes / "coz/workspace"
    workspace.mkdir(parents=True)
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
    play = [str(clone.root / ".venv/bin/ansible-playbook"), "site.yml", "-i", sketch.write()]
    done = namespace(script, clone, str(workspace), *play)
    assert done.code != 0
    assert_finding(done, "coz: outlast_home", str(workspace), "read-only")


def test_workspace_without_permission(clone: Clone, sketch: Sketch) -> None:
    """A workspace whose permissions forbid writing is found (root is not stopped by permissions, so not asked)."""
    if os.geteuid() == 0:
        return
    workspace = sketch.homes / "coz/workspace"
    workspace.mkdir(parents=True)
    workspace.chmod(0o500)
    refused(clone, sketch, "coz: outlast_home", "is not writable")
