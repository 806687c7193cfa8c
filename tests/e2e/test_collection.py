"""The repository as a collection, its sample inventory, and what its roles say of themselves."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import REPOSITORY, Clone, Sketch

ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir() if path.is_dir())


def specs(role: str) -> dict[str, Any]:
    """A role's options, of all its entry points."""
    loaded = yaml.safe_load((REPOSITORY / "roles" / role / "meta/argument_specs.yml").read_text())
    return {name: option for entry in loaded["argument_specs"].values() for name, option in entry["options"].items()}


def defaults(role: str) -> dict[str, Any]:
    """A role's defaults."""
    return yaml.safe_load((REPOSITORY / "roles" / role / "defaults/main.yml").read_text()) or {}


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specs_agree(role: str) -> None:
    """What a role's specs say is the default is the default, and nothing has a default that is not in the specs."""
    in_specs = {name: option["default"] for name, option in specs(role).items() if "default" in option}
    in_defaults = defaults(role)
    # preflight reads the specs of all roles, so an option without a default is there to be left out.
    assert in_defaults == in_specs


def test_a_variable_means_the_same_in_every_role() -> None:
    """Roles share variables by name only: where two roles read one, they agree on what it is."""
    seen: dict[str, Any] = {}
    for role in ROLES:
        for name, option in specs(role).items():
            assert seen.setdefault(name, option) == option, f"{role}: {name}"


def test_sizes_of_the_house() -> None:
    """Roles read as tables of contents, playbooks stay short, and shell commands rare."""
    for path in REPOSITORY.glob("roles/*/tasks/*.yml"):
        assert len(path.read_text().splitlines()) <= (75 if path.name == "main.yml" else 120), path
    for path in REPOSITORY.glob("playbooks/*.yml"):
        assert len(path.read_text().splitlines()) <= 60, path
    tasks = [task for path in REPOSITORY.glob("roles/*/tasks/*.yml") for task in yaml.safe_load(path.read_text())]
    assert sum(1 for task in tasks if {"ansible.builtin.command", "ansible.builtin.shell"} & set(task)) <= 8
    for folder in ("plugins", "tools", "runtime/src", "bench", "molecule", "tests"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 350, path


@pytest.mark.parametrize("role", [role for role in ROLES if role != "service"])
def test_no_other_role_names_a_service_manager(role: str) -> None:
    """What keeps programs running is the role service's business: others name none, but for the choice that is an operator's."""
    manager = re.compile(
        r"launchd|launchctl|supervisor|systemctl|systemd-run|systemd/system|LaunchDaemons", re.IGNORECASE
    )
    for part in ("defaults", "handlers", "tasks", "templates", "vars"):
        for path in (REPOSITORY / "roles" / role / part).rglob("*.*"):
            for line in path.read_text().splitlines():
                assert line.startswith("outlast_service_manager: ") or not manager.search(line), f"{path}: {line}"


@pytest.mark.parametrize("inventory", ["inventory/local", "inventory/sample"])
def test_shipped_inventories_are_sound(clone: Clone, inventory: str) -> None:
    """Both inventories pass `--syntax-check`, and `ansible-inventory --list` reads two nodes out of them."""
    checked = clone.play("site.yml", "-i", inventory, "--syntax-check")
    assert checked.code == 0, checked.text
    listed = clone.run(str(clone.root / ".venv/bin/ansible-inventory"), "-i", inventory, "--list")
    assert listed.code == 0, listed.text
    assert sorted(json.loads(listed.text)["outlast"]["hosts"]) == ["axiom", "coz"]


def test_make_alone_lists_the_targets(clone: Clone) -> None:
    """`make` changes nothing and names every target that a person may type."""
    done = clone.run("make")
    assert done.code == 0
    for target in ("up", "down", "status", "clean", "test", "molecule", "images", "lint", "bench", "build"):
        assert f"make {target} " in done.text


def test_collection_runs_from_an_empty_directory(clone: Clone, sketch: Sketch, tmp_path: Path) -> None:
    """The built collection holds no secret and no leftover, and its playbook provisions without the repository."""
    secret = clone.root / "inventory/local/group_vars/all/vault.yml"
    secret.write_text("token: canary-token\n")
    # Not a node's: what others left in the clone stays theirs.
    homes = [clone.root / ".outlast/canary", clone.root / ".trash/canary"]
    for folder in homes:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "canary.key").write_text("whsec_canary\n")
    try:
        done = clone.make("build")
    finally:
        secret.unlink()
        for folder in homes:
            shutil.rmtree(folder)
    assert done.code == 0, done.text
    (tarball,) = (clone.root / "build").glob("outlast-agents-*.tar.gz")
    with tarfile.open(tarball) as tar:
        names = tar.getnames()
        left_out = {".outlast", ".venv", ".git", ".trash", "build", "tests"}
        assert not [name for name in names if left_out & set(name.split("/"))]
        assert not [name for name in names if name.endswith((".key", "vault.yml", ".pyc"))]
        for member in filter(tarfile.TarInfo.isfile, tar.getmembers()):
            content = tar.extractfile(member)
            assert content is not None
            assert b"canary" not in content.read(), member.name
    elsewhere = Clone(tmp_path, {**clone.environment, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "c")})
    galaxy = str(clone.root / ".venv/bin/ansible-galaxy")
    installed = elsewhere.run(galaxy, "collection", "install", "--offline", str(tarball), "-p", str(tmp_path / "c"))
    assert installed.code == 0, installed.text
    playbook = str(clone.root / ".venv/bin/ansible-playbook")
    for expected in (True, False):
        done = elsewhere.run(playbook, "outlast.agents.site", "-i", sketch.write())
        assert (done.code, done.changed() > 0) == (0, expected), done.text
        assert "2 of 2 nodes are well" in done.text
    assert elsewhere.run(playbook, "outlast.agents.down", "-i", sketch.write()).code == 0


def test_role_tables_are_current(clone: Clone) -> None:
    """The tables in the roles' README files say what the argument specs say."""
    done = clone.run(str(clone.root / ".venv/bin/python"), "tools/role_docs.py", "--check")
    assert done.code == 0, done.text
