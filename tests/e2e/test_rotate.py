"""rotate-keys.yml on two nodes at work: every key is changed, no message is refused, and whatever cuts it off, it goes on."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.traffic import Traffic

from .conftest import NODES, Clone, until

ROTATE = "rotate-keys.yml"
SETTINGS = {
    "outlast_messages": {"rate": 100_000},
    "outlast_agent": {"command": ["/bin/sh", "-c", "echo done > done.txt"], "after_crash": "rerun"},
}


@pytest.fixture(scope="module")
def busy(clone: Clone) -> Iterator[Clone]:
    """Both nodes, with an agent that is quick and a rate that a test does not reach."""
    settings = clone.root / "inventory/local/group_vars/all/busy.yml"
    settings.write_text(yaml.safe_dump(SETTINGS))
    done = clone.make("up")
    assert done.code == 0, done.text
    yield clone
    settings.unlink()
    clone.make("down")


def traffic(clone: Clone) -> Traffic:
    """Hand-offs both ways."""
    return Traffic({node: clone.home(node) for node in NODES})


def ring(clone: Clone, holder: str, agent: str) -> list[list[str]]:
    """An agent's keys as a node holds them: secret, id, state, made, rotation."""
    return [line.split() for line in (clone.home(holder) / f"etc/keys/{agent}.key").read_text().splitlines()]


def accepted(clone: Clone, holder: str, agent: str) -> list[str]:
    """The ids that a node lets in."""
    return [line[1] for line in ring(clone, holder, agent) if line[2] in {"active", "accepted"}]


def secrets_of(clone: Clone) -> set[str]:
    """All secrets that lie on either node."""
    return {line[0] for holder in NODES for agent in NODES for line in ring(clone, holder, agent)} - {"-"}


def settled(clone: Clone) -> dict[str, str]:
    """The one key of each node, which its peer accepts and no other; fails where it is not so."""
    own = {node: accepted(clone, node, node) for node in NODES}
    assert own == {node: accepted(clone, other, node) for node, other in (NODES, NODES[::-1])}
    assert all(len(ids) == 1 for ids in own.values()), own
    return {node: ids[0] for node, ids in own.items()}


def unharmed(flow: Traffic) -> None:
    """Nothing was refused, no channel complained, and all that was handed on was done."""
    assert not any(sum(counts.values()) for counts in flow.refused.values()), flow.refused
    assert not flow.trouble
    ended = flow.arrived()
    assert ended.keys() == {"done"} and ended["done"] >= flow.handed(), (ended, flow.handed())


def test_every_key_is_changed_and_nothing_refused(busy: Clone) -> None:
    """Under traffic both ways: new keys on both, old ones erased, signed pings prove it; not a word of a secret in all that
    Ansible prints; and the next run is another rotation."""
    before, canaries = settled(busy), secrets_of(busy)
    with traffic(busy) as flow:
        until(lambda: all(flow.units.values()))
        done = busy.play(ROTATE, "-vvv", "--diff")
        assert done.code == 0, done.text
        canaries |= secrets_of(busy)
        first = settled(busy)
        again = busy.play(ROTATE)
        assert again.code == 0, again.text
    unharmed(flow)
    assert not set(before.values()) & set(first.values())
    assert not set(first.values()) & set(settled(busy).values())
    assert all(line[0] == "-" for node in NODES for line in ring(busy, node, node) if line[1] in before.values())
    assert "every node signs with its new key, and no old one is accepted" in done.text
    assert "coz:ok" in done.text and "axiom:ok" in done.text
    assert not [key for key in canaries if key in done.text or key.partition("_")[2] in done.text]
    assert "goes on with" not in again.text


def test_check_shows_the_plan_and_changes_nothing(busy: Clone) -> None:
    """What each node will do is shown, and no key file is touched."""
    files = [busy.home(node) / f"etc/keys/{agent}.key" for node in NODES for agent in NODES]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    done = busy.play(ROTATE, "--check", "-e", "leaked=axiom")
    assert done.code == 0, done.text
    # Keys that leaked before, in another file's tests, are named beside it.
    (refused,) = re.findall(r"leaked: axiom: (.*): refused at once by every node", done.text)
    assert set(accepted(busy, "axiom", "axiom")) <= set(refused.split(", "))
    assert "coz: signs with" in done.text
    assert "nothing was changed; to do it: ansible-playbook rotate-keys.yml -e leaked=axiom" in done.text
    assert before == [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    assert busy.status("axiom")["mode"] == "normal"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("leaked=axoim", "axoim is no node of the inventory; mend: one of coz, axiom"),
        ("since=noon", "'noon' is no moment"),
        ("laeked=axiom", "leaked"),
    ],
)
def test_what_is_mistyped_changes_nothing(busy: Clone, name: str, words: str) -> None:
    """One line with the mend, before anything is changed."""
    before = settled(busy)
    done = busy.play(ROTATE, "-e", name)
    assert done.code == 2
    assert words in done.text and "nothing was changed" in done.text
    assert settled(busy) == before


@pytest.mark.parametrize(
    "sign",
    ["made its new key", "signs with", "gave up its old key"],
)
def test_interrupted_it_goes_on(busy: Clone, sign: str) -> None:
    """Ctrl-C once this is printed, then site.yml, then the same command: it says that it goes on, unless all was done by then,
    and completes; nothing is refused meanwhile."""
    before = settled(busy)
    with traffic(busy) as flow:
        cut = busy.interrupt(sign, str(busy.root / ".venv/bin/ansible-playbook"), ROTATE)
        assert cut.code != 0 and "Traceback" not in cut.text
        up = busy.make("up")
        assert up.code == 0, up.text
        done = busy.play(ROTATE)
        assert done.code == 0, done.text
    unharmed(flow)
    assert not set(before.values()) & set(settled(busy).values())
    if sign in {"made its new key", "accepts coz's keys"}:
        assert "goes on with the rotation that was not finished" in done.text


def test_killed_at_any_moment_it_goes_on(busy: Clone) -> None:
    """kill -9 of ansible-playbook and all that it started, again and again at random moments: the last run completes, and
    nothing was refused by anybody."""
    chance = random.Random(5)
    before = settled(busy)
    command = [str(busy.root / ".venv/bin/ansible-playbook"), ROTATE]
    with traffic(busy) as flow:
        for _ in range(6):
            # A few seconds of it fit into the pipe that nobody reads.
            with busy.begin(*command) as play:
                time.sleep(chance.uniform(1.0, 6.0))
                os.killpg(play.pid, signal.SIGKILL)
        done = busy.play(ROTATE)
        assert done.code == 0, done.text
    unharmed(flow)
    assert not set(before.values()) & set(settled(busy).values())


def test_a_dead_runtime_does_not_stand_in_the_way(busy: Clone) -> None:
    """One node's runtime is dead: its keys are changed on its disk, the table says so with the next command, and after that
    command it talks again."""
    before = settled(busy)
    for name in ("supervisord.pid", "daemon.lock"):
        os.kill(int((busy.home("axiom") / "run" / name).read_text()), signal.SIGKILL)
    until(lambda: not busy.status("axiom"))
    done = busy.play(ROTATE)
    assert done.code == 0, done.text
    assert "axiom: its runtime does not run" in done.text and "site.yml -l axiom" in done.text
    assert not set(before.values()) & set(settled(busy).values())
    up = busy.make("up")
    assert up.code == 0, up.text
    assert "2 of 2 nodes are well" in up.text


def test_a_node_that_is_away_is_named_and_waited_for(busy: Clone) -> None:
    """One node's machine does not answer: the other's new key is made and not used; who is missing and the next command are
    said, and that is no failure. When it is back the same command completes under the same label."""
    if shutil.which("ssh") is None:
        pytest.skip("no ssh here")
    away = busy.root / "inventory/local/host_vars/axiom.yml"
    away.parent.mkdir(exist_ok=True)
    before = settled(busy)
    with traffic(busy) as flow:
        away.write_text("{ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 9}\n")
        try:
            done = busy.play(ROTATE)
        finally:
            away.unlink()
        assert done.code == 0, done.text
        assert re.search(r"coz: signs with \w+ still; the new key \w+ waits until axiom has it", done.text), done.text
        assert "when it is back: ansible-playbook rotate-keys.yml" in done.text
        assert accepted(busy, "axiom", "coz") == [before["coz"]]
        limited = busy.play(ROTATE, "-l", "coz")
        assert limited.code == 0 and "axiom: was left out of this run (-l)" in limited.text, limited.text
        again = busy.play(ROTATE)
        assert again.code == 0 and "goes on with the rotation that was not finished" in again.text, again.text
    unharmed(flow)
    assert not set(before.values()) & set(settled(busy).values())


def test_a_process_that_holds_an_old_key_is_named(busy: Clone) -> None:
    """An agent's child got the key into its environment: the run names the process, and fails, because it must not wait."""
    secret = next(line[0] for line in ring(busy, "coz", "coz") if line[2] == "active")
    if not Path("/proc/self/environ").exists():
        pytest.skip("no /proc here")
    with subprocess.Popen(["sleep", "300"], env={"TAKEN": secret}) as thief:
        try:
            done = busy.play(ROTATE)
        finally:
            thief.kill()
    assert done.code == 2
    assert f"process {thief.pid} (sleep) has the old key" in done.text and secret not in done.text
