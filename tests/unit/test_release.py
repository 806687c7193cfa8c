"""Releases in a home: a new one on trial goes back with its configuration unless it is proved, and nothing needed is removed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.modules.release import Releases, settle  # noqa: E402

OLD, NEW = "node: coz\n", "node: coz\nnews: true\n"


def built(home: Path, digest: str) -> Releases:
    """A release that was built to its end."""
    folder = home / "releases" / digest
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    (folder / ".complete").write_text(f"{digest}\n")
    return Releases(str(home), digest)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the release `one`, which runs, and its configuration, which its group may read."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/node.yml").write_text(OLD)
    (tmp_path / "etc/node.yml").chmod(0o640)
    built(tmp_path, "one").make_current(on_trial=True)
    return tmp_path


def current(home: Path) -> str:
    """Which release runs."""
    return (home / "current").resolve().name


def on_trial(home: Path) -> None:
    """Bring in the release `two` as upgrade.yml does, with a configuration of its own."""
    built(home, "two").make_current(on_trial=True)
    (home / "etc/node.yml").write_text(NEW)


def settled(home: Path, state: str, check_mode: bool = False) -> bool:
    """End the trial; whether that changed anything."""
    return bool(settle(Releases(str(home), ""), state, check_mode)["changed"])


def test_what_was_not_proved_goes_back_with_its_configuration(home: Path) -> None:
    """The release before runs again with what its configuration was, mode included; and that is the end of it."""
    on_trial(home)
    assert current(home) == "two"
    assert settled(home, "previous", check_mode=True)
    assert current(home) == "two"
    assert settled(home, "previous")
    assert current(home) == "one"
    assert (home / "etc/node.yml").read_text() == OLD
    assert (home / "etc/node.yml").stat().st_mode & 0o777 == 0o640
    assert not settled(home, "previous")
    assert current(home) == "one"


def test_what_was_proved_stays(home: Path) -> None:
    """After its trial a release does not give way any more, whatever fails later."""
    on_trial(home)
    assert settled(home, "proved")
    assert not settled(home, "proved")
    assert not settled(home, "previous")
    assert (current(home), (home / "etc/node.yml").read_text()) == ("two", NEW)


def test_a_trial_that_was_interrupted_is_still_one(home: Path) -> None:
    """Run again with the same release, the trial goes on from where it was: what was before is still known."""
    on_trial(home)
    Releases(str(home), "two").make_current(on_trial=True)
    assert settled(home, "previous")
    assert (current(home), (home / "etc/node.yml").read_text()) == ("one", OLD)


def test_without_a_release_before_there_is_nothing_to_go_back_to(home: Path) -> None:
    """The first release of a node is on no trial, and neither is one whose predecessor is gone."""
    assert not settled(home, "previous")
    on_trial(home)
    (home / "releases/one/.complete").unlink()
    assert not settled(home, "previous")
    assert current(home) == "two"


def test_site_yml_puts_nothing_on_trial(home: Path) -> None:
    """A release that came without a trial stays, and the one before it is kept."""
    built(home, "two").make_current()
    assert not settled(home, "previous")
    assert current(home) == "two"
    assert (home / "previous").resolve().name == "one"


def test_a_trial_that_was_lost_is_over(home: Path) -> None:
    """A release that once went back, and that site.yml brings in for good, is not on trial any more."""
    on_trial(home)
    assert settled(home, "previous")
    Releases(str(home), "two").make_current()
    assert not settled(home, "previous")
    assert current(home) == "two"


def test_the_release_before_is_never_removed(home: Path) -> None:
    """However few are to be kept, the current one and the one before it stay; what was not built to its end goes."""
    for digest in ("a", "b", "c"):
        built(home, digest)
    (home / "releases/a/.complete").unlink()
    last = built(home, "two")
    last.make_current(on_trial=True)
    last.prune(1)
    assert sorted(path.name for path in (home / "releases").iterdir()) == ["one", "two"]
    assert settled(home, "previous")
