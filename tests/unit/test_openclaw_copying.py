"""Folders of one user copied for another: whole or not at all, and nobody is led astray by links."""

from __future__ import annotations

import os
import pwd
import sys
import tempfile
from pathlib import Path

import pytest
from support.oldclaw import installed, lay_out, listed, node

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.module_utils.openclaw_copying import CopyTrouble, Part, acting, copy  # noqa: E402

ME = os.geteuid()
as_root = pytest.mark.skipif(ME != 0, reason="needs root, who alone becomes others")


def part(source: Path, target: Path, *skip: str, shared: bool = False) -> Part:
    """A part of a copy."""
    return Part(str(source), str(target), frozenset(skip), shared)


def test_a_copy_is_private_and_has_all_but_what_stays_behind(tmp_path: Path) -> None:
    """Files, folders and links with their times; programs stay programs; pipes and what is left out are not there."""
    old, new = installed(tmp_path / "old"), tmp_path / "deep/er/new"
    copy(part(old, new, "cache", "workspace/skills"), ME, ME)
    names = set(listed(old)) - {name for name in listed(old) if name.startswith(("cache", "workspace/skills"))}
    assert set(listed(new)) == names - {"tmp/pipe"}
    assert (new / "media/link").readlink() == Path("sent.bin")
    assert all(path.lstat().st_mode & 0o77 == 0 for path in new.rglob("*") if not path.is_symlink())
    assert (new / "openclaw.json").stat().st_mtime == (old / "openclaw.json").stat().st_mtime
    copy(part(old / "workspace", new, shared=True), ME, ME)
    assert "media" not in os.listdir(new) and (new / "skills/tea/run").stat().st_mode & 0o100


def test_a_link_in_the_copy_is_written_last(tmp_path: Path) -> None:
    """What stands behind it, and would be written through it, is where it belongs; what it leads to stays."""
    old, prey = tmp_path / "old", tmp_path / "prey"
    for folder in (old / "a", prey):
        folder.mkdir(parents=True)
    (old / "a/file").write_text("x")
    (old / "z").symlink_to(prey)
    copy(part(old, tmp_path / "new"), ME, ME)
    assert (tmp_path / "new/z").readlink() == prey and not list(prey.iterdir())
    (tmp_path / "lead").symlink_to(prey)
    with pytest.raises(CopyTrouble, match="File exists; mend: "):
        copy(part(old, tmp_path / "lead"), ME, ME)
    assert not list(prey.iterdir())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The reason is the one of the side where it happened, in one line."""
    with pytest.raises(CopyTrouble, match="gone: it changed while it was copied; mend: see that nobody uses it"):
        copy(part(tmp_path / "gone", tmp_path / "new"), ME, ME)
    (tmp_path / "file").write_text("")
    with pytest.raises(CopyTrouble, match="file: .*; mend: "):
        copy(part(tmp_path, tmp_path / "file/new"), ME, ME)
    with pytest.raises(CopyTrouble, match="ended early"):
        acting(ME, lambda: {}["x"])  # type: ignore[index]


@as_root
def test_root_becomes_the_one_and_the_other() -> None:
    """What is copied is read as its owner, who may not read what is another's, and written as the node's user."""
    someone, other = pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("daemon").pw_uid
    # The folder of a test is closed to others.
    with tempfile.TemporaryDirectory(prefix="ol-") as made:
        top = Path(made)
        top.chmod(0o755)
        for name, user in (("old", someone), ("home", other)):
            (top / name).mkdir(mode=0o700)
            (top / name / "file").write_text(name)
            os.chown(top / name, user, -1)
            os.chown(top / name / "file", user, -1)
        copy(part(top / "old", top / "home/new"), someone, other)
        assert {path.stat().st_uid for path in (top / "home").rglob("*")} == {other}
        (top / "old/mine").write_text("root's")
        (top / "old/mine").chmod(0o600)
        with pytest.raises(CopyTrouble, match="mine: Permission denied; mend: see that its owner can read it"):
            copy(part(top / "old", top / "home/new"), someone, other)
        with pytest.raises(CopyTrouble, match="Permission denied"):
            copy(part(top / "home", top / "old/new"), someone, other)


@as_root
def test_a_person_s_openclaw_is_laid_out_as_the_node_s_user_has_it() -> None:
    """As on a machine that is provisioned: the home is root's, what is in it the node's, and the person's folder is closed."""
    person, other = pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("daemon")
    with tempfile.TemporaryDirectory(prefix="ol-") as made:
        top = Path(made)
        top.chmod(0o755)
        old, place = installed(top / "pat/.openclaw"), node(top / "axiom")
        for folder, user in (
            (top / "pat", person),
            (place.home.root / "var", other.pw_uid),
            (place.home.workspace, other.pw_uid),
        ):
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user, -1, follow_symlinks=False)
        (top / "pat").chmod(0o700)
        os.chown(place.home.root, 0, other.pw_gid)
        place.home.root.chmod(0o750)
        lay_out(place, old, user="daemon")
        laid_out = [*place.home.root.rglob(".restore-adopt/**/*")]
        assert len(laid_out) > 20 and {path.lstat().st_uid for path in laid_out} == {other.pw_uid}
        assert not any(path.stat().st_mode & 0o77 for path in place.home.root.glob("var/.restore-adopt/**/*"))
