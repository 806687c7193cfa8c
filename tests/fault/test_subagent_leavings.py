"""Sub-agents that leave what is hard to delete: the node lives, answers meanwhile, and starts again."""

from __future__ import annotations

import time

from support.live import until
from support.spawning import closed, lone_node, needs_sandbox, spawn, ticket

_QUICK = {"subagents": {"attempts": 1, "timeout": "60s"}, "retry": {"base": "20ms", "max": "200ms"}}
_DEEP = """
for place in (os.environ["TMPDIR"], os.environ["TMPDIR"] + "/../work"):
    os.chdir(place)
    for _ in range(3000): os.mkdir("d"); os.chdir("d")
"""
_MANY = """
here = os.environ["TMPDIR"]
for at in range(60_000): os.close(os.open(f"{here}/{at}", os.O_CREAT))
"""


def test_folders_in_folders_end_no_node() -> None:
    """Three thousand deep, to be thrown away and to be kept: refused, gone, and no start stumbles over them."""
    needs_sandbox()
    with lone_node(_QUICK) as node:
        told = closed(node, spawn(node, _DEEP))
        assert "is longer than 200 bytes" in told["detail"]
        until(lambda: list(node.home.subagents.iterdir()) == [], what="what it left is deleted")
        assert not (node.home.ended / told["id"] / "tmp").exists()
        again = spawn(node, _DEEP + "print('up', flush=True)\ntime.sleep(60)")
        output = node.home.subagents / again / "output.log"
        until(lambda: output.exists() and "up" in output.read_text(), what="it is deep down")
        node.kill()
        node.start()
        until(lambda: ticket(node, again)["ended"], what="it was cut off, and is given up")
        until(lambda: list(node.home.subagents.iterdir()) == [], what="what it left is deleted")
        assert not node.ended()


def test_the_node_answers_while_very_many_files_are_deleted() -> None:
    """Where so many may be made at all: no answer takes longer than a moment, from the spawn until nothing is left."""
    needs_sandbox()
    with lone_node({"subagents": {**_QUICK["subagents"], "files": 1_000_000}}) as node:
        agent = spawn(node, _MANY)
        slowest, deadline = 0.0, time.monotonic() + 60
        while time.monotonic() < deadline:
            asked = time.monotonic()
            told = ticket(node, agent)
            slowest = max(slowest, time.monotonic() - asked)
            if told["ended"] and not list(node.home.subagents.iterdir()):
                break
            time.sleep(0.02)
        assert told["status"] == "done" and list(node.home.subagents.iterdir()) == []
        assert slowest < 0.5, slowest


def test_what_is_done_is_not_run_again_while_it_cannot_be_put_away() -> None:
    """Something is in the way of var/ended: one run, told as done, and put away once there is a place."""
    needs_sandbox()
    with lone_node({"subagents": {"timeout": "30s"}, "retry": {"base": "20ms", "max": "50ms"}}) as node:
        node.home.ended.write_text("in the way")
        told = closed(node, spawn(node, "open('result', 'w').write('x')"))
        folder = node.home.subagents / told["id"]
        before = (folder / "work" / "result").stat().st_mtime_ns
        time.sleep(0.5)  # ten times the pause after which it is tried again
        again = ticket(node, told["id"])
        assert (again["status"], again["attempts"]) == ("done", 1)
        assert (folder / "work" / "result").stat().st_mtime_ns == before
        node.home.ended.unlink()
        until(lambda: (node.home.ended / told["id"] / "work" / "result").exists(), what="it is put away")
        assert ticket(node, told["id"])["attempts"] == 1
