"""Which node is meant: by its name beside this folder, or that of the very installation that runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from outlast.errors import BadInput
from outlast.home import find_home


def home_of(root: Path, node: str) -> Path:
    """A folder in which a node of this name lives."""
    (root / "etc").mkdir(parents=True)
    (root / "etc/node.yml").write_text(f"# Written by Ansible.\nnode: {node}\nlisten:\n  host: 0.0.0.0\n")
    return root


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of axiom on a machine of its own, whose release runs this, called from a folder where no node lives."""
    home = home_of(tmp_path / "var/lib/outlast", "axiom")
    monkeypatch.setattr(sys, "prefix", str(home / "releases/0123456789abcdef"))
    monkeypatch.delenv("OUTLAST_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return home


def test_installed_node_answers_to_its_name(installed: Path) -> None:
    """Where a node has a machine of its own, its name and no name at all mean the same."""
    assert find_home(None, None).root == find_home(None, "axiom").root == installed
    assert find_home(None, None).node == "axiom"


def test_other_name_tells_which_there_are(installed: Path, tmp_path: Path) -> None:
    """A name that nobody here has is refused with those that are known, beside this folder and installed."""
    home_of(tmp_path / ".outlast/coz", "coz")
    assert find_home(None, "coz").root == tmp_path / ".outlast/coz"
    with pytest.raises(BadInput, match="no node witness here; one of: axiom, coz"):
        find_home(None, "witness")


def test_home_without_a_readable_name(tmp_path: Path) -> None:
    """A configuration that says no name leaves the folder's."""
    home = home_of(tmp_path / "coz", "coz")
    (home / "etc/node.yml").write_bytes(b"\xff\xfe")
    assert find_home(str(home), None).node == "coz"
