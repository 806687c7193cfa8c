"""A message handed to an agent of OpenClaw: once, to its end, and every end said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.gatelike import Gatelike
from support.live import until

from outlast.clock import SystemClock
from outlast.core.gateway import Launched
from outlast.core.plainjson import to_json
from outlast.core.turns import Turn
from outlast.errors import CorruptError, GatewayError
from outlast.openclaw import turn, wishes
from outlast.openclaw.turn import Ending, Message, take_turn
from outlast.work.runner import IN_DOUBT

_BIN = Path(sys.executable).parent
TASK = {"unit": "coz-1", "task": "count the mails", "from": "coz", "node": {}, "attempt": 1, "trace_id": "t1"}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gatelike]:
    """A gateway beside a node."""
    with Gatelike(tmp_path / "axiom") as gate:
        told = gate.place.settings
        config = {
            "node": "axiom",
            "listen": {"host": "127.0.0.1", "port": 1},
            "peers": {"coz": {"url": "http://127.0.0.1:2"}},
            "agent": {"command": ["/bin/true"], "artifact_limit": "1KiB"},
            "openclaw": {"release": told.release, "port": told.port, "agent": "axiom", "turn_within": "20s"},
        }
        gate.home.config.write_text(yaml.safe_dump(config))
        yield gate


def take(gate: Gatelike, text: str = "do it", within: float = 20.0, patience: float = 0.0) -> Ending:
    """Hand a message over and follow it."""
    return asyncio.run(take_turn(gate.place, Message("coz-1", "axiom", text, within, patience), SystemClock()))


def start(gate: Gatelike, attempt: int = 1) -> subprocess.Popen[str]:
    """What the node runs: the program, in a folder of its own."""
    work = gate.home.tasks / f"run-{attempt}" / "work"
    work.mkdir(parents=True)
    process = subprocess.Popen(
        [_BIN / "outlast-openclaw-turn"], cwd=work, env={"OUTLAST_WORK": str(work), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(TASK | {"attempt": attempt}))
    process.stdin.close()
    process.stdin = None
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """How it ended: exit code, and what it printed."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_task_to_artifact(gate: Gatelike) -> None:
    """A task is one message that says who asks and where files go; they and the answer are the artifact, its line the summary."""
    files = gate.place.turns / "coz-1" / "files"
    files.mkdir(parents=True)
    (files / "mails.txt").write_text("3")
    gate.said = "\n3 mails\nin all"
    assert ended(start(gate)) == (0, "3 mails\n", "")
    work = gate.home.tasks / "run-1" / "work"
    assert (work / "mails.txt").read_text() == "3" and (work / "answer.md").read_text() == "3 mails\nin all\n"
    ((_, _, body),) = gate.posted
    assert body["message"].startswith("coz asks you") and body["message"].endswith("Task:\ncount the mails")
    assert str(files) in body["message"] and "trace t1" in body["message"]


def test_again_is_not_again(gate: Gatelike) -> None:
    """A run that comes again, of the same unit and after the gateway was started anew, hands nothing over and has the same end."""
    assert ended(start(gate))[0] == 0
    gate.down()
    gate.up()
    assert ended(start(gate, 2))[0] == 0
    assert len(gate.posted) == 1
    assert (gate.home.tasks / "run-2" / "work" / "answer.md").exists()


def test_killed_before_it_was_written_down(gate: Gatelike) -> None:
    """Killed after the gateway took it and before that was on the disk: its session tells, and it is not handed over again."""
    assert take(gate).what == "done"
    record = gate.place.turns / "coz-1" / "turn.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"run": "", "accepted": 0, "ended": ""}))
    gate.down()
    gate.up()
    assert take(gate) == Ending("done", "", "all is well") and len(gate.posted) == 1


def test_killed_before_it_was_handed_over(gate: Gatelike) -> None:
    """Killed between INTENT and handing over, and the gateway has no session: it is handed over now."""
    gate.refuse = [(503, {"ok": False, "error": "draining"}, {})]
    assert take(gate).what == "done"
    assert len(gate.posted) == 2 and gate.posted[0][2] == gate.posted[1][2]


def test_taken_and_lost_is_in_doubt(gate: Gatelike) -> None:
    """The gateway took it, was started anew, and has no session of it (its state was put back): in doubt, and not again."""
    assert take(gate).what == "done"
    record = gate.place.turns / "coz-1" / "turn.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"ended": "", "gateway": 1.0}))
    gate.sessions.clear()
    ending = take(gate)
    assert ending.what == "in doubt" and "may have been done" in ending.why and len(gate.posted) == 1
    assert take(gate) == ending


def test_program_says_in_doubt(gate: Gatelike) -> None:
    """The program says so with the exit code that the node knows for it, and the reason."""
    assert ended(start(gate))[0] == 0
    record = gate.place.turns / "coz-1" / "turn.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"ended": "", "gateway": 1.0}))
    gate.sessions.clear()
    code, _, err = ended(start(gate, 2))
    assert code == IN_DOUBT == 79 and err == "the gateway took it and knows nothing of it now: it may have been done\n"


def test_another_message_of_that_name(gate: Gatelike) -> None:
    """Another message under a name that was used is refused, and changes nothing of what is known of the first one."""
    assert take(gate).what == "done"
    assert take(gate, "something else").what == "failed" and len(gate.posted) == 1
    assert take(gate).what == "done"


@pytest.mark.parametrize(
    ("status", "words"), [("failed", "its turn failed"), ("timeout", "too long"), ("odd", "'odd'")]
)
def test_turn_that_fails(gate: Gatelike, status: str, words: str) -> None:
    """A turn that does not end well is failed, with its reason; what the agent left is kept beside it."""
    gate.ends_as = status
    code, out, err = ended(start(gate))
    assert (code, out) == (1, "") and words in err


def test_node_ends_it(gate: Gatelike) -> None:
    """Where the node ends the run, the turn is ended too, and is not taken up again."""
    gate.ends_as = "running"
    process = start(gate)
    until(lambda: len(gate.called) > 3)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (1, "", "it was ended before it was done\n")
    (session,) = gate.sessions.values()
    assert session["archived"] is True
    assert json.loads((gate.place.turns / "coz-1" / "turn.json").read_text())["ended"] == "failed"


@pytest.mark.parametrize("signalled", [True, False])
def test_cannot_be_ended(gate: Gatelike, signalled: bool) -> None:
    """A turn that the gateway may go on with, because it cannot be reached when the node or its time ends it, is in doubt, and
    stays so: nobody is told that it failed."""
    gate.ends_as = "running"

    async def away() -> Ending:
        message = Message("coz-1", "axiom", "do it", 30.0 if signalled else 1.0, 0.0)
        taking = asyncio.create_task(take_turn(gate.place, message, SystemClock()))
        while not gate.sessions:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(gate.down)
        if signalled:
            taking.cancel()
        return await taking

    ending = asyncio.run(away())
    assert ending.what == "in doubt" and "not known" in ending.why
    gate.up()
    for session in gate.sessions.values():
        session["status"] = "done"
    assert take(gate) == ending and len(gate.posted) == 1


def test_ended_while_it_is_handed_over(gate: Gatelike) -> None:
    """Ended when the gateway has the message and no session of it yet: the program says that it is in doubt."""
    gate.delay = 1.5
    process = start(gate)
    until(lambda: bool(gate.posted))
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code == IN_DOUBT and "may go on with it" in err


def test_gateway_hangs_up_as_it_lets_in(gate: Gatelike) -> None:
    """One that is restarted closes a connection right after its first words: the turn is waited for all the same."""
    gate.hangs_up = 3
    assert take(gate) == Ending("done", "", "all is well") and gate.hangs_up == 0


def test_takes_too_long(gate: Gatelike) -> None:
    """A turn that is not done within its time is ended, and said to be."""
    gate.ends_as = "running"
    ending = take(gate, within=1.0)
    assert ending.what == "failed" and "raise openclaw.turn_within" in ending.why
    assert [session["archived"] for session in gate.sessions.values()] == [True]


def test_gateway_away(gate: Gatelike) -> None:
    """A gateway that is away is waited for; where it stays away nothing was handed over, which is an error of its own."""
    gate.down()
    with pytest.raises(GatewayError) as caught:
        take(gate, patience=1.0)
    assert caught.value.kind == "away" and not (gate.place.turns / "coz-1").exists()


def test_broken_after_it_was_taken(gate: Gatelike) -> None:
    """A gateway whose database breaks while the turn runs: what became of it is in doubt, with what stands in the way."""
    gate.ends_as = "running"

    async def breaks() -> Ending:
        taking = asyncio.create_task(take_turn(gate.place, Message("coz-1", "axiom", "do it", 3.0, 0.0), SystemClock()))
        while not gate.posted:
            await asyncio.sleep(0.01)
        gate.broken = "file is not a database"
        return await taking

    ending = asyncio.run(breaks())
    assert ending.what == "in doubt" and "not a database" in ending.why


def test_record_that_cannot_be_read(gate: Gatelike) -> None:
    """A record that is damaged stops the run: nobody knows whether it was handed over."""
    record = gate.place.turns / "coz-1" / "turn.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    with pytest.raises(CorruptError, match="whether coz-1 was handed over is not known"):
        take(gate)
    assert not gate.posted


@pytest.mark.parametrize("leave", ["big", "pipe"])
def test_what_cannot_be_taken_over(gate: Gatelike, leave: str) -> None:
    """Files beyond the limit, and what is no file, fail the task with a reason, and are never waited for."""
    import os

    files = gate.place.turns / "coz-1" / "files"
    files.mkdir(parents=True)
    (files / "big").write_bytes(b"x" * 2048) if leave == "big" else os.mkfifo(files / "pipe")
    code, _, err = ended(start(gate))
    assert code == 1 and ("output too big" in err if leave == "big" else "cannot be taken over" in err)


def test_not_a_task(gate: Gatelike) -> None:
    """What is no task is refused in one line."""
    process = subprocess.run(
        [_BIN / "outlast-openclaw-turn"], input="[]", capture_output=True, text=True, check=False, timeout=30
    )
    assert process.returncode == 1 and process.stderr.startswith("standard input: it is no task")
    assert process.stderr.count("\n") == 1


def test_old_ones_are_forgotten(gate: Gatelike) -> None:
    """What is over is kept for a day, and what is not for a month; the turn of a task that is open stays."""
    assert take(gate).what == "done"
    now = SystemClock().time()
    turn.forget(gate.place, now + 3600)
    assert (gate.place.turns / "coz-1").exists()
    (gate.home.tasks / "coz-1").mkdir(parents=True)
    turn.forget(gate.place, now + 2 * 86400)
    assert (gate.place.turns / "coz-1").exists()
    (gate.home.tasks / "coz-1").rmdir()
    turn.forget(gate.place, now + 2 * 86400)
    assert not (gate.place.turns / "coz-1").exists()
    (gate.place.turns / "coz-2" / "files").mkdir(parents=True)
    turn.forget(gate.place, now)
    assert (gate.place.turns / "coz-2").exists(), "it may be handed over just now"
    turn.forget(gate.place, now + 2 * 86400)
    assert not (gate.place.turns / "coz-2").exists()


def test_telling_forgets_too(gate: Gatelike) -> None:
    """A node that is handed no task forgets as well, with every message that anybody tells its agent."""
    old = Turn("tell-1", "d", 1.0, 1.0, "text", "run", 1.0, "done")
    (gate.place.turns / "tell-1").mkdir(parents=True)
    (gate.place.turns / "tell-1" / "turn.json").write_bytes(to_json(old))
    assert tell(gate, "x").returncode == 0
    assert not (gate.place.turns / "tell-1").exists()


def tell(gate: Gatelike, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type `outlast openclaw tell`."""
    return subprocess.run(
        [_BIN / "outlast", "--home", gate.home.root, "openclaw", "tell", *words],
        env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_tell(gate: Gatelike) -> None:
    """`outlast openclaw tell` prints the answer; in one run of a job the same message is handed over once."""
    for _ in range(2):
        told = tell(gate, "sum up the mails", OUTLAST_RUN="r1", OUTLAST_JOB="mails")
        assert (told.returncode, told.stdout, told.stderr) == (0, "all is well\n", "")
    assert len(gate.posted) == 1 and gate.posted[0][2]["message"] == "sum up the mails"
    assert tell(gate, "sum up the mails", OUTLAST_RUN="r2").returncode == 0
    assert tell(gate, "sum up the mails", "--no-wait", "--key", "k1").stdout == "axiom has it as tell-k1\n"
    assert len(gate.posted) == 3


def test_tell_fails(gate: Gatelike) -> None:
    """Its exit code tells: 1 for a turn that failed, 2 for an agent that there is not; each with one line."""
    gate.ends_as = "failed"
    told = tell(gate, "x")
    assert (told.returncode, told.stderr) == (1, "outlast: its turn failed, see why: outlast logs openclaw\n")
    told = tell(gate, "x", "--agent", "nobody")
    assert told.returncode == 2 and told.stderr.startswith("outlast: AGENT: nobody takes messages")


def test_tell_one_that_is_stopped(gate: Gatelike) -> None:
    """Who stopped it is told so at once, and how to start it."""
    gate.down()
    lock = wishes.lock(gate.place)
    wishes.say(gate.place, Launched("stopped", time.time(), os.getpid(), 0, reason="a person asked for it"))
    told = tell(gate, "x")
    assert told.returncode == 3 and "is stopped (a person asked for it); outlast openclaw start" in told.stderr
    assert lock is not None
    os.close(lock)
