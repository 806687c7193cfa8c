"""What upgrade.yml does with a runtime that is well, and with one that cannot start."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hosts import REPOSITORY, Hosts
from support.on_hosts import changed, outlast

DAEMON = "runtime/src/outlast/daemon.py"
NODES = ("coz", "axiom")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout, as git would hand it out, plus what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = REPOSITORY / name, tmp_path / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return tmp_path


@pytest.fixture
def releases(hosts: Hosts) -> Callable[[], dict[str, str]]:
    """Which release each node is on."""

    def look() -> dict[str, str]:
        return {
            name: hosts[name].console("readlink", f"{hosts[name].variables['outlast_home']}/current").strip()
            for name in NODES
        }

    return look


def test_a_good_version_arrives_everywhere(
    hosts: Hosts, checkout: Path, releases: Callable[[], dict[str, str]]
) -> None:
    """Both nodes get the new runtime, one after the other, and are well; again it changes nothing."""
    before = releases()
    with (checkout / DAEMON).open("a") as daemon:
        daemon.write("\nNEXT_VERSION = True\n")
    done = hosts.play("playbooks/upgrade.yml", checkout=checkout)
    assert done.returncode == 0, done.stdout
    after = releases()
    assert all(after[name] != before[name] for name in NODES)
    again = hosts.play("playbooks/upgrade.yml", checkout=checkout)
    assert again.returncode == 0, again.stdout
    assert changed(again.stdout) == 0, again.stdout


def test_a_bad_version_is_taken_back(hosts: Hosts, checkout: Path, releases: Callable[[], dict[str, str]]) -> None:
    """The first node goes back to the version before by itself and is well; the other was not touched; the play says so."""
    before = releases()
    path = checkout / DAEMON
    path.write_text(path.read_text().replace("def main(", "raise RuntimeError('not a good version')\n\n\ndef main(", 1))
    done = hosts.play("playbooks/upgrade.yml", checkout=checkout)
    assert done.returncode != 0, done.stdout
    assert "back on release" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    assert releases() == before
    for name in NODES:
        assert '"ready": true' in outlast(hosts[name], "status", "--json").replace('":true', '": true')
