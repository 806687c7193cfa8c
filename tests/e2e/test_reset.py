"""What reset.yml takes away of nodes that run without root, what it leaves, and what it does when it is asked twice."""

from __future__ import annotations

from .conftest import Clone, Sketch


def test_all_but_data_goes_and_data_when_asked_twice(clone: Clone, sketch: Sketch) -> None:
    """Runtime and supervisord are gone and memory and keys stay; half an order moves nothing; a whole one moves the home."""
    del sketch.hosts["axiom"]
    inventory, home = sketch.write(), sketch.homes / "coz"
    assert clone.play("site.yml", "-i", inventory).code == 0
    note = home / "workspace/notes.md"
    note.write_text("mine\n")
    done = clone.play("playbooks/reset.yml", "-i", inventory)
    assert done.code == 0, done.text
    assert sorted(path.name for path in home.iterdir()) == ["etc", "run", "var", "workspace"]
    assert sorted(path.name for path in (home / "etc").iterdir()) == ["keys"]
    assert list(home.glob("etc/keys/*.key")) and note.read_text() == "mine\n"
    assert any("supervisord.conf" in path.name for path in (home / "var/trash").iterdir())
    again = clone.play("playbooks/reset.yml", "-i", inventory)
    assert (again.code, again.changed()) == (0, 0), again.text
    half = clone.play("playbooks/reset.yml", "-i", inventory, "-e", "data=trash")
    assert (half.code, "sure=yes" in half.text, home.exists()) == (2, True, True), half.text
    whole = clone.play("playbooks/reset.yml", "-i", inventory, "-e", "data=trash", "-e", "sure=yes")
    assert (whole.code, home.exists()) == (0, False), whole.text
    assert list((sketch.homes / "coz.trash").rglob("*.key"))
