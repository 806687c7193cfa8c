"""A backup that is looked at before it is put back: what is wrong with it is one line, whatever is in it."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible.template import Templar

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.action.restore import ActionModule  # noqa: E402

MADE = "2026-01-01T00:00:00+00:00"
WHOLE = {"made": MADE, "members": [{"size": 5}, {}], "keys": True, "node": "axiom", "openclaw": "2026.9.6"}


def looked_at(path: Path, manifest: Any) -> dict[str, Any]:
    """What the task answers of a backup with this manifest."""
    content = json.dumps(manifest).encode()
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    task, loader = Task(), DataLoader()
    task.args = {"file": str(path)}
    local = connection_loader.get("local", PlayContext(), os.devnull)
    action = ActionModule(task, local, PlayContext(), loader, Templar(loader), None)
    found: dict[str, Any] = action.run(None, {"inventory_hostname": "axiom"})
    return found


@pytest.mark.parametrize(
    "manifest",
    [
        [1],
        5,
        {key: value for key, value in WHOLE.items() if key != "node"},
        {key: value for key, value in WHOLE.items() if key != "openclaw"},
        {**WHOLE, "made": 5},
        {**WHOLE, "made": "2026-01-01T00:00:00"},
        {**WHOLE, "members": 5},
        {**WHOLE, "members": [1]},
        {**WHOLE, "members": [{"size": float("inf")}]},
    ],
)
def test_a_manifest_that_is_none_is_one_line(tmp_path: Path, manifest: Any) -> None:
    """Of the wrong kind, without a part, with a time of nowhere: nothing is changed, and no traceback is shown."""
    found = looked_at(tmp_path / "b.tar.gz", manifest)
    assert found["failed"]
    assert found["msg"].startswith(f"from: {tmp_path}/b.tar.gz: it is no whole backup; mend: ")
    assert found["msg"].endswith("; nothing was changed") and "\n" not in found["msg"]


def test_a_whole_one_is_told(tmp_path: Path) -> None:
    """Whose it is, of when, and how much is in it."""
    found = looked_at(tmp_path / "b.tar.gz", WHOLE)
    assert (found["node"], found["made"], found["openclaw"]) == ("axiom", MADE, "2026.9.6")
    assert found["words"][1].startswith("  in it: 2 files and folders, 5 B, OpenClaw's state of 2026.9.6, its keys")
