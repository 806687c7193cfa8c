"""kill -9 at every step of adopting an OpenClaw: the node is what it was, or has all that the person had, and the next run of
the same command ends it."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.killing import killed_at
from support.oldclaw import filed, installed, lay_out, listed, node

from outlast.openclaw.adopting import adopt
from outlast.openclaw.place import Place

MARK = "var/home/.openclaw/outlast-adopted.json"


def again(place: Place, old: Path) -> None:
    """What Ansible does: it carries through what was cut off, or lays it out and puts it in its place."""
    if not adopt(place, resume=True)["changed"] and not (place.home.root / MARK).exists():
        lay_out(place, old)
        adopt(place)


def things(place: Place) -> dict[str, str]:
    """What the node has, its memory and its trash: what each says, by names that do not depend on the time."""
    found = {}
    for folder in (place.home.workspace, place.state / "media", place.home.trash):
        for path in folder.rglob("*"):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                name = name.partition("-adopt/")[2] if folder == place.home.trash else name
                found[f"{folder.name}/{name}"] = path.read_bytes().decode(errors="replace")
    return {**found, "filed": str(filed(place))}


def test_killed_at_every_step_it_is_carried_through_or_begun_anew(tmp_path: Path) -> None:
    """Before it counts the node has its own, and all of it; from then on the same command, given once more, ends where it would
    have ended at once. The person's is the same byte for byte, whatever happened."""
    old = installed(tmp_path / "pat/.openclaw")
    before = listed(old)
    place = node(tmp_path / "axiom")
    shutil.copytree(place.home.root, tmp_path / "fresh", symlinks=True)
    again(place, old)
    wanted = things(place)
    found: dict[int, bool] = {}
    step, stride = 0, 6
    while True:
        shutil.rmtree(place.home.root)
        shutil.copytree(tmp_path / "fresh", place.home.root, symlinks=True)
        lay_out(place, old)
        was_killed = killed_at(step, lambda: adopt(place))
        counts = (place.snapshots / "restore.json").exists() or (place.home.root / MARK).exists()
        if not counts:
            assert (place.state / "state/openclaw.sqlite").read_text() == "the node's own"
            assert (place.home.workspace / "AGENTS.md").read_text() == "be quick\n"
        again(place, old)
        assert things(place) == wanted, f"step {step}"
        assert not list(place.home.root.rglob(".restore-*")), f"step {step}"
        found[step] = counts
        if not was_killed:
            break
        if counts and stride > 1:
            # Laying out is many steps of one kind; from a little before it counts every one is tried.
            step, stride = step - stride, 1
        step += stride
    assert listed(old) == before
    told = [found[step] for step in sorted(found)]
    assert told == sorted(told) and told.count(True) > 20 and told.count(False) > 8


def test_killed_while_it_is_copied_the_copy_is_begun_anew(tmp_path: Path) -> None:
    """What was laid out by then is never taken for a whole copy."""
    old, place = installed(tmp_path / "pat/.openclaw"), node(tmp_path / "axiom")
    before = listed(old)
    step, kills = 0, 0
    while killed_at(step, lambda: lay_out(place, old)):
        assert not (place.home.root / "var/.restore-adopt/told.json").exists(), f"step {step}"
        kills += 1
        if step % 5 == 0:
            again(place, old)
            assert filed(place)[0][1] == "water" and not list(place.home.root.rglob(".restore-*"))
            assert (place.home.workspace / "AGENTS.md").read_text() == "be kind\n"
            shutil.rmtree(place.home.root)
            node(place.home.root)
        step += 1
    assert kills > 5 and listed(old) == before
