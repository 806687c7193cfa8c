"""What playbooks/maintenance.yml does to nodes that run, to one that does not, and to what others wrote into HEARTBEAT.md."""

from __future__ import annotations

import pytest

from .conftest import NODES, Clone, until

PLAY = "playbooks/maintenance.yml"
OURS = "MAINTENANCE_MODE (by outlast maintenance on)\n"


def test_every_node_rests_and_goes_on(up: Clone) -> None:
    """Check mode changes nothing. Then every node, also one whose runtime is dead, is in maintenance and says what rests and what
    is to be done next; again there is nothing to do; off leaves every byte that others wrote."""
    others = "- look at the mail\r\n- water the plants"
    for node in NODES:
        (up.home(node) / "workspace/HEARTBEAT.md").write_bytes(others.encode())
    down = up.play("playbooks/down.yml", "-l", "axiom")
    assert down.code == 0, down.text

    dry = up.play(PLAY, "--check", "-e", "state=on")
    assert (dry.code, dry.changed()) == (0, 2), dry.text
    assert "coz: maintenance would be on; mode normal" in dry.text
    assert all((up.home(node) / "workspace/HEARTBEAT.md").read_bytes() == others.encode() for node in NODES)

    on = up.play(PLAY, "-e", "state=on")
    assert (on.code, on.changed()) == (0, 2), on.text
    assert "coz: maintenance is on; mode maintenance; what rests: memory compaction, heartbeat monitoring" in on.text
    assert "axiom: maintenance is on; its runtime is not running, and finds it so at its next start" in on.text
    assert "ansible-playbook playbooks/maintenance.yml -e state=off" in on.text.partition("what next:")[2]
    assert up.status("coz")["mode"] == "maintenance"
    for node in NODES:
        text = (up.home(node) / "workspace/HEARTBEAT.md").read_bytes().decode()
        assert text.startswith(f"{OURS}{others}"), text

    again = up.play(PLAY, "-e", "state=on")
    assert (again.code, again.changed()) == (0, 0), again.text
    assert "coz: nothing to do, maintenance is on already; mode maintenance" in again.text

    # It is up, and as it was asked to be: not ready.
    up.make("up")
    until(lambda: up.status("axiom").get("mode") == "maintenance")
    alone = up.play(PLAY, "-e", "state=off", "-l", "axiom")
    assert (alone.code, alone.changed()) == (0, 1), alone.text
    assert (up.status("coz")["mode"], up.status("axiom")["mode"]) == ("maintenance", "normal")

    off = up.play(PLAY, "-e", "state=off")
    assert (off.code, off.changed()) == (0, 1), off.text
    assert "coz: maintenance is off; mode normal" in off.text
    for node in NODES:
        path = up.home(node) / "workspace/HEARTBEAT.md"
        # Where the runtime put a part of its own behind it, their last line got an end.
        assert path.read_bytes().decode().rstrip("\n") == others
        path.unlink()


def test_a_person_s_order_is_theirs_to_take_back(up: Clone) -> None:
    """Off says in which line somebody else still asks for maintenance, with the mend, and fails; it takes no other line away."""
    path = up.home("coz") / "workspace/HEARTBEAT.md"
    path.write_text("- look at the mail\nMAINTENANCE_MODE until Monday\n")
    before = path.read_bytes()
    done = up.play(PLAY, "-e", "state=off", "-l", "coz")
    assert done.code == 2, done.text
    assert "coz: line 2 of HEARTBEAT.md asks for maintenance, and is not this command's" in done.text
    assert "take that line out of workspace/HEARTBEAT.md" in done.text
    assert before in path.read_bytes()
    path.unlink()
    until(lambda: up.status("coz").get("mode") == "normal", limit_s=60)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ([], "state: it is not said, and nothing was changed; mend: add -e state=on, or -e state=off"),
        (["-e", "state=offf"], "state: 'offf' is none of on, off; mend: did you mean off?"),
        (["-e", "state=maybe"], "state: 'maybe' is none of on, off; mend: write state=on"),
        (["-e", "stat=on"], "stat: is not known here; mend: did you mean state?"),
    ],
)
def test_what_is_not_understood_is_refused(up: Clone, extra: list[str], said: str) -> None:
    """A slip changes nothing, and is answered by what was probably meant."""
    done = up.play(PLAY, *extra)
    assert done.code == 2 and said in " ".join(done.text.split()), done.text
    assert [up.status(node)["mode"] for node in NODES] == ["normal", "normal"]
