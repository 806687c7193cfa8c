"""Installing OpenClaw: exact, whole or not at all, the one before kept; what goes wrong is one line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.action.openclaw_release import FILES, digest, sources  # noqa: E402
from ansible_collections.outlast.agents.plugins.module_utils.builds import BuildError  # noqa: E402
from ansible_collections.outlast.agents.plugins.module_utils.openclaw_build import Build, explain, remove  # noqa: E402
from ansible_collections.outlast.agents.plugins.modules.openclaw_release import Releases, ensure, previous  # noqa: E402

VALUES = {"version": "2", "sources": None, "wheelhouse": None, "npm_cache": None, "keep": 2, "shared": False}


def built(folder: Path, name: str, *, complete: bool = True) -> Releases:
    """A release, built to its end or not."""
    place = folder / "releases" / name
    for part in ("node/bin/node", "node_modules/openclaw/openclaw.mjs", "node_modules/openclaw/package.json"):
        (place / part).parent.mkdir(parents=True, exist_ok=True)
        (place / part).touch()
    (place / "node_modules/.package-lock.json").write_text('{"packages": {"node_modules/openclaw": {}}}')
    if complete:
        (place / ".complete").write_text(name)
    return Releases(str(folder), name)


def current(folder: Path, node: str = "") -> str:
    """Which release runs."""
    return (folder / f"current{node}").resolve().name


def node(folder: Path, name: str, release: str) -> Releases:
    """A release as one of the nodes sees it that share the folder."""
    return Releases(str(folder), release, name, str(folder / name))


def told(folder: Path, name: str, release: str, before: str | None = None) -> None:
    """What outlast.openclaw.applying writes at a node: what its configuration is for, and what it was for before a trial."""
    said = folder / name / "etc/openclaw"
    (said / "before").mkdir(parents=True, exist_ok=True)
    (said / "release").write_text(f"{release}\n")
    if before is not None:
        (said / "before/release").write_text(before)


def whole(build: Build, *_: object) -> None:
    """Stands in for pip and npm, and is as slow as they may be."""
    release = built(Path(build.path).parents[1], Path(build.path).name)
    (Path(release.path) / "package-lock.json").write_text(build.sources.get("package-lock.json", "{}"))


def test_a_release_that_is_there_becomes_the_current_one_and_the_one_before_stays(tmp_path: Path) -> None:
    """A switch needs nothing from the network, and the release before it is known and kept, whatever the number to keep."""
    built(tmp_path, "1-a").make_current()
    answer = ensure(built(tmp_path, "2-b"), {**VALUES, "keep": 1}, False)
    assert answer == {"changed": True, "present": True, "before": "1-a", "now": "2-b"}
    assert (current(tmp_path), (tmp_path / "previous").resolve().name) == ("2-b", "1-a")
    assert (tmp_path / "releases/1-a/.complete").exists()
    assert not ensure(Releases(str(tmp_path), "2-b"), VALUES, False)["changed"]


def test_check_mode_changes_nothing_also_on_a_clean_host(tmp_path: Path) -> None:
    """Asked only what would be done, it makes no folder."""
    folder = tmp_path / "none"
    assert ensure(Releases(str(folder), "1-a"), {**VALUES, "sources": {}}, True)["changed"]
    assert not folder.exists()


def test_going_back_says_where_to_and_a_second_time_is_nothing(tmp_path: Path) -> None:
    """The release that is named takes over; one that was not built to its end never does, and that is said."""
    built(tmp_path, "1-a").make_current()
    built(tmp_path, "2-b").make_current()
    there = Releases(str(tmp_path), "-")
    assert previous(there, "1-a", True)["changed"] and current(tmp_path) == "2-b"
    assert [previous(there, "1-a", False)["changed"] for _ in range(2)] == [True, False]
    assert current(tmp_path) == "1-a"
    (tmp_path / "releases/2-b/.complete").unlink()
    for name in ("2-b", "../releases/1-a"):
        with pytest.raises(BuildError, match="openclaw: .* is not there whole; mend: "):
            previous(there, name, False)
    assert current(tmp_path) == "1-a"


def test_nodes_that_share_the_releases_have_each_its_own(tmp_path: Path) -> None:
    """One of them goes back, and the other stays; what either works with is there as long as it does."""
    for name in ("1-a", "2-b", "3-c"):
        built(tmp_path, name)
    for release in ("1-a", "2-b"):
        for name in ("coz", "axiom"):
            assert ensure(node(tmp_path, name, release), VALUES, False)["changed"]
            told(tmp_path, name, release, "1-a")
    for name in ("coz", "axiom"):
        assert previous(node(tmp_path, name, "-"), "1-a", False)["now"] == "1-a"
    assert (current(tmp_path, "-coz"), current(tmp_path, "-axiom")) == ("1-a", "1-a")
    for release in ("2-b", "3-c"):
        told(tmp_path, "axiom", release, "")
        ensure(node(tmp_path, "axiom", release), {**VALUES, "keep": 1}, False)
    assert (current(tmp_path, "-coz"), current(tmp_path, "-axiom")) == ("1-a", "3-c")
    assert node(tmp_path, "coz", "1-a").is_complete()


@pytest.mark.parametrize("cut", ["before its configuration was put in place", "in its trial"])
def test_one_that_was_never_proven_is_not_what_a_node_goes_back_to(tmp_path: Path, cut: str) -> None:
    """An upgrade was cut off, and the next one brings another version: the one that works stays, and is the one before."""
    for name in ("1-a", "2-b", "3-c"):
        built(tmp_path, name)
    ensure(node(tmp_path, "axiom", "1-a"), VALUES, False)
    told(tmp_path, "axiom", "1-a")
    ensure(node(tmp_path, "axiom", "2-b"), VALUES, False)
    if cut == "in its trial":
        told(tmp_path, "axiom", "2-b", "1-a")
    ensure(node(tmp_path, "axiom", "3-c"), VALUES, False)
    assert (current(tmp_path, "-axiom"), (tmp_path / "previous-axiom").resolve().name) == ("3-c", "1-a")
    assert node(tmp_path, "axiom", "1-a").is_complete()


def test_without_a_name_it_goes_back_to_what_the_configuration_is_for(tmp_path: Path) -> None:
    """A configuration was refused: the release is the one that the node is configured for; it is no pipe that is read, and no path."""
    for name in ("1-a", "2-b"):
        built(tmp_path, name)
        ensure(node(tmp_path, "axiom", name), VALUES, False)
    there = node(tmp_path, "axiom", "-")
    assert not previous(there, "", False)["changed"], "the first one, where there is nothing before it"
    told(tmp_path, "axiom", "1-a")
    assert previous(there, "", False)["now"] == current(tmp_path, "-axiom") == "1-a"
    said = tmp_path / "axiom/etc/openclaw/release"
    said.write_text("../releases/2-b\n")
    assert not previous(there, "", False)["changed"]
    said.unlink()
    os.mkfifo(said)
    assert not previous(there, "", False)["changed"]


def test_what_is_built_anew_is_there_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of the running release is gone, and the network as well: all else of it stays, with npm's lock, which counts
    once there is a network again."""
    there = built(tmp_path, "1-a")
    there.make_current()
    lock = '{"packages": {"node_modules/openclaw": {"version": "1"}}}'
    (Path(there.path) / "package-lock.json").write_text(lock)
    (Path(there.path) / "node_modules/openclaw/package.json").unlink()
    values = {**VALUES, "sources": {"package.json": "{}", "requirements.txt": ""}}

    def away(*_: object) -> None:
        raise BuildError("network", "a package index cannot be reached", "x")

    monkeypatch.setattr(Build, "_node", away)
    with pytest.raises(BuildError):
        ensure(there, values, False)
    assert (Path(there.path) / "node_modules/openclaw/openclaw.mjs").exists() and not there.is_complete()
    monkeypatch.setattr(Build, "run", whole)
    assert ensure(there, values, False)["changed"] and there.is_complete()
    assert (Path(there.path) / "package-lock.json").read_text() == lock
    assert [path.name for path in (tmp_path / "releases").iterdir() if path.is_dir()] == ["1-a"]


def test_a_folder_for_another_user_is_open_all_the_way_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's user goes through whatever was made above its releases."""
    monkeypatch.setattr(Build, "run", whole)
    before = os.umask(0o077)
    try:
        ensure(
            Releases(str(tmp_path / "opt/ai/openclaw"), "1-a"), {**VALUES, "sources": {"x": ""}, "shared": True}, False
        )
    finally:
        os.umask(before)
    for name in ("opt", "opt/ai", "opt/ai/openclaw", "opt/ai/openclaw/releases"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755, name


def test_what_was_interrupted_is_thrown_away_and_old_ones_go(tmp_path: Path) -> None:
    """Half a release is no release, and takes no room for long; of whole ones the number to keep stays."""
    for name in ("1-a", "2-b", "3-c"):
        built(tmp_path, name).make_current()
    half = built(tmp_path, "4-d", complete=False)
    assert not half.is_complete()
    Releases(str(tmp_path), "3-c").prune(2)
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["2-b", "3-c"]


def test_half_of_one_is_noticed(tmp_path: Path) -> None:
    """Whatever was deleted of a whole release: it is none any more, and is built anew; one that goes is first none."""
    for part in ("node/bin/node", "node_modules/openclaw/package.json", "node_modules/.package-lock.json"):
        half = built(tmp_path, f"1-{len(part)}")
        half.make_current()
        (Path(half.path) / part).unlink()
        answer = ensure(half, VALUES, False)
        assert not answer["present"] and answer["changed"]
    gone = built(tmp_path, "3-c")
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda path, **_: seen.extend(os.listdir(path)))
        remove(gone.path)
    assert seen and ".complete" not in seen


@pytest.mark.parametrize("said", ["OpenClaw 0.0.1 (eb377ac)", "OpenClaw 2026.9.61 (x)", "placeholder", ""])
def test_what_is_not_the_version_that_was_asked_for_is_refused(tmp_path: Path, said: str) -> None:
    """A placeholder under the name, or another version, never becomes a release; the error names both."""
    node = tmp_path / "node/bin/node"
    node.parent.mkdir(parents=True)
    node.write_text(f"#!/bin/sh\necho '{said}'\n")
    node.chmod(0o755)
    build = Build(str(tmp_path), "2026.9.6", {})
    with pytest.raises(BuildError, match="openclaw_version: 2026.9.6 is a name without a program.*; mend: "):
        build._prove()
    (tmp_path / "node_modules/openclaw").mkdir(parents=True)
    (tmp_path / "node_modules/openclaw/openclaw.mjs").touch()
    with pytest.raises(BuildError, match="openclaw_version: 2026.9.6 was asked for.*; mend: "):
        build._prove()
    node.write_text("#!/bin/sh\n[ \"$HOME\" != / ] && echo 'OpenClaw 2026.9.6 (eb377ac)'\n")
    build._prove()


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("npm error code ENOSPC\nnpm error nospc write", "disk: full at "),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk: full at "),
        (
            "npm error code EINTEGRITY\nnpm error sha512-x integrity checksum failed",
            "openclaw: a package is not the one",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE",
            "openclaw: a package is not the one",
        ),
        ("npm error code ENOTFOUND\nnpm error network", "network: a package index cannot be reached"),
        (
            "npm error code ETARGET\nnpm error notarget No matching version found for openclaw@9.9",
            "openclaw_version: npm knows",
        ),
        (
            "npm error something else\nnpm error A complete log of this run can be found in: x",
            "openclaw: npm error something",
        ),
    ],
)
def test_each_failure_is_one_line(output: str, line: str) -> None:
    """Whatever pip or npm says, a person sees the field, what is wrong and the mend, on one line."""
    told = str(explain(output, "9.9", "/x", "/x/build.log"))
    assert told.startswith(line)
    assert "; mend: " in told
    assert "\n" not in told


def test_the_lock_is_exact_and_names_no_place() -> None:
    """Every package that is downloaded has a hash in the lock, OpenClaw its exact version, and no package a host."""
    lock = json.loads((FILES / "package-lock.json").read_text())
    version = lock["packages"][""]["dependencies"]["openclaw"]
    assert lock["packages"]["node_modules/openclaw"]["version"] == version
    assert json.loads((FILES / "package.json").read_text())["dependencies"] == {"openclaw": version}
    for name, package in lock["packages"].items():
        assert "resolved" not in package or not package["resolved"].startswith("http"), name
        assert not name or package.get("inBundle") or "integrity" in package, name


def test_another_version_is_resolved_exactly_and_without_the_lock() -> None:
    """The lock is that of one version: for another one npm makes its own, and the release bears another name."""
    shipped = json.loads(sources("0")["package.json"])["dependencies"]
    assert shipped == {"openclaw": "0"}
    assert "package-lock.json" not in sources("0")
    version = json.loads((FILES / "package.json").read_text())["dependencies"]["openclaw"]
    assert "package-lock.json" in sources(version)
    assert digest(sources(version)) != digest(sources("0"))
    assert digest(sources(version)) == digest(sources(version))
    assert os.path.commonprefix([digest(sources("1")), digest(sources("2"))]) != digest(sources("1"))
