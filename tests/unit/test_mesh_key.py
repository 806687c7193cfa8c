"""A machine's own key of the mesh: made once, never shown, and nothing that is there is lost."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PRIVATE, PUBLIC = "cHJpdmF0ZXByaXZhdGVwcml2YXRlcHJpdmF0ZXByaXY=", "cHVibGljcHVibGljcHVibGljcHVibGljcHVibGljcHU="
# As the real one: a key is made on standard output, and its public half from standard input; anything else is refused.
WG = f"""#!/bin/sh
case $1 in
    genkey) [ -e "$0.broken" ] && {{ echo 'no random numbers' >&2; exit 1; }}; echo {PRIVATE} ;;
    pubkey) read -r key; [ "$key" = {PRIVATE} ] || {{ echo 'wg: Key is not the correct length or format' >&2; exit 1; }}; echo {PUBLIC} ;;
esac
"""


def made(folder: Path) -> dict[str, Any]:
    """What the module says, with the key in ``folder``; its whole output is looked at for the private half."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/wg").write_text(WG)
    (folder / "bin/wg").chmod(0o755)
    words = f"path={folder}/outlast.key trash={folder}/replaced"
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible"), "localhost", "-vvv", "-m", "outlast.agents.mesh_key", "-a", words],
        cwd=ROOT, env={**os.environ, **environment, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert PRIVATE not in done.stdout + done.stderr
    told = re.search(r"=> (\{.*\})", done.stdout, re.DOTALL)
    assert told, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(told[1])
    return answer


def test_it_is_made_once(tmp_path: Path) -> None:
    """The private half is in its file alone, for its owner alone; a second run changes nothing and tells the same."""
    first = made(tmp_path)
    assert (first["changed"], first["public"]) == (True, PUBLIC)
    key = tmp_path / "outlast.key"
    assert (key.read_text().strip(), stat.S_IMODE(key.stat().st_mode)) == (PRIVATE, 0o600)
    again = made(tmp_path)
    assert (again["changed"], again["public"]) == (False, PUBLIC)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "outlast.key"]


def test_what_is_no_key_is_kept(tmp_path: Path) -> None:
    """A file that wg does not take, half-written perhaps, makes room for a new key and can be got back."""
    (tmp_path / "outlast.key").write_text("half a k")
    assert made(tmp_path)["public"] == PUBLIC
    (kept,) = (tmp_path / "replaced").iterdir()
    assert kept.read_text() == "half a k" and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_without_a_key_nothing_is_left(tmp_path: Path) -> None:
    """Where wg cannot make one its words are told with a mend, and no file is begun."""
    made(tmp_path)
    (tmp_path / "outlast.key").unlink()
    (tmp_path / "bin/wg.broken").touch()
    failed = made(tmp_path)
    assert "no random numbers" in failed["msg"] and "mend: " in failed["msg"]
    assert not (tmp_path / "outlast.key").exists()
