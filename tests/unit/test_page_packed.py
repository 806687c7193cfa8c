"""The page goes where the runtime goes: into the release that a node is sent, and into the package that is built of it there."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.append(str(REPOSITORY / "collections"))

from ansible_collections.outlast.agents.plugins.action.release import digest, members  # noqa: E402

PAGE = sorted(path.name for path in (REPOSITORY / "runtime/src/outlast/page").iterdir())


def test_a_release_has_the_page_and_is_another_one_where_that_changed() -> None:
    """Else a node would go on showing the old one."""
    files = members()
    assert PAGE == ["icon.svg", "page.css", "page.html", "page.js"]
    for name in PAGE:
        path = f"src/outlast/page/{name}"
        assert files[path] and digest(files) != digest({**files, path: files[path] + b"\n"})


def test_the_package_has_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built of nothing but what a node is sent."""
    api = pytest.importorskip("flit_core.buildapi")
    for name, content in members().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "built").mkdir()
    wheel = api.build_wheel(str(tmp_path / "built"))
    with zipfile.ZipFile(tmp_path / "built" / wheel) as packed:
        assert {f"outlast/page/{name}" for name in PAGE} <= set(packed.namelist())
    shutil.rmtree(tmp_path / "built")
