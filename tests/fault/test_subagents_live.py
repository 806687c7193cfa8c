"""Sub-agents of a real node, from spawn to artifact, and everything that can go wrong on the way (F5)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.live import LiveNode, until
from support.spawning import closed, lone_node, name, needs_sandbox, spawn, spawned, ticket

from outlast.errors import BadInput
from outlast.work.sandbox import Sandbox

_FAILING = "print('no luck'); sys.exit(3)"
_QUICK = {"subagents": {"timeout": "30s"}, "retry": {"base": "20ms", "max": "200ms"}}


@pytest.fixture(autouse=True)
def _sandboxed() -> None:
    needs_sandbox()


def _events(node: LiveNode, event: str) -> list[dict[str, Any]]:
    lines = [
        json.loads(line)
        for path in sorted(node.home.logs.glob("[0-9]*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [line for line in lines if line["event"] == event]


def _alerts(node: LiveNode) -> list[str]:
    return [alert["name"] for alert in node.status()["alerts"]]


def _marked(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [path.parent.name] if text.encode() in path.read_bytes() else []
        except OSError:
            continue
    return found


def test_from_spawn_to_artifact() -> None:
    """The command waits, the output is checked, and lies in the workspace as a unit that the journal knows from its intent on."""
    with lone_node(_QUICK) as node:
        schema = node.home.root / "schema.json"
        schema.write_text('{"type": "object", "required": ["sum"], "properties": {"sum": {"type": "integer"}}}')
        script = "mkdir plots; echo '{\"sum\": 7}' > result.json; echo x > plots/a.txt; echo all good"
        expect = ["--expect", f"result.json={schema}", "--expect", "plots/a.txt"]
        done = node.cli(
            "spawn", "--task", "add", "--allow", "write:artifacts", *expect, "--wait", "--", "sh", "-c", script
        )
        assert done.returncode == 0, done.stderr
        agent = next(iter(node.state()["units"]))
        assert done.stdout.splitlines() == ["done: plots/a.txt, result.json", f"in workspace/artifacts/{agent}/"]
        assert json.loads((node.home.artifacts / agent / "result.json").read_text()) == {"sum": 7}
        assert (node.home.artifacts / agent / ".outlast.json").exists()
        assert (
            len(node.records("INTENT", agent)) == 1
            and "makes plots/a.txt, result.json: add" in node.records("INTENT", agent)[0]
        )
        assert len(node.records("CONFIRM", agent)) == 1
        assert node.status()["subagents"]["day"] == {"done": 1, "failed": 0, "success": 1.0}
        shown = node.cli("subagents", agent).stdout
        assert "  | all good" in shown and "begun 1 times" in shown
        ended = _events(node, "subagent.ended")[0]
        assert ended["verdict"] == "done" and ended["trace_id"] and ended["span_id"] and ended["seconds"] > 0


def test_without_the_capability_nothing_reaches_the_workspace() -> None:
    """What it made is kept beside its output, for whoever spawned it to look at; no unit, no artifact."""
    with lone_node(_QUICK) as node:
        told = spawned(node, "pathlib.Path('made').write_text('x')")
        assert told["status"] == "done"
        assert (node.home.ended / told["id"] / "work" / "made").read_text() == "x"
        assert list(node.home.artifacts.iterdir()) == [] and node.state()["units"] == {}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("", "it left no artifact"),
        ("os.symlink('/etc/passwd', 'a.json')", "is a symbolic link; leave regular files"),
        ("os.mkfifo('a.json')", "is a pipe"),
        ("open('b.json', 'w').write('{}')", "a.json is expected, and is not there"),
        ("open('a.json', 'w')", "a.json is expected, and is empty"),
        (
            "open('a.json', 'w').write('{\"n\": 1, \"n\": 2}')",
            "a.json is not as expected: a name is in an object twice",
        ),
        ("open('a.json', 'w').write('{\"n\": \"1\"}')", "a.json is not as expected: $.n is not of type integer"),
        ("open('a.json', 'w').write('[' * 100000)", "a.json is not as expected: it is"),
        ("open('.outlast.json', 'w').write('x')", "is Outlast's own"),
        ("open('a.json', 'w').write('x'); sys.exit('broken')", "exit 1: broken"),
        ("os.abort()", "killed by SIGABRT"),
    ],
)
def test_an_output_that_is_not_right_is_not_integrated(script: str, why: str, shared: LiveNode) -> None:
    """Kind, name, presence, shape and exit code: each failure has its reason, and the workspace has nothing of it."""
    expect = {"a.json": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    told = closed(shared, spawn(shared, script, allow=["write:artifacts"], expect=expect if "json" in script else {}))
    assert told["status"] == "failed" and why in told["detail"], told["detail"]
    assert not (shared.home.artifacts / told["id"]).exists()


@pytest.fixture(scope="module")
def shared() -> Any:
    """A node whose sub-agents have one attempt, and never enough failures to be switched off."""
    needs_sandbox()
    with lone_node({"subagents": {"attempts": 1, "off_after": 1000}}) as node:
        yield node


def test_what_fails_is_tried_again_and_done() -> None:
    """Its task is queued again; nothing of the failed run is left in the next one's folder."""
    with lone_node(_QUICK) as node:
        script = """
attempt = int(os.environ["OUTLAST_ATTEMPT"])
tried("seen", lambda: sorted(os.listdir(".")))
if attempt < 3: open("left", "w").write("x"); sys.exit("not yet")
"""
        told = spawned(node, script, allow=["write:artifacts"])
        assert (told["status"], told["attempts"]) == ("done", 3)
        assert told["found"]["seen"] == []
        assert [one["verdict"] for one in _events(node, "subagent.ended")] == ["failed", "failed", "done"]


def test_one_that_closes_its_folder_to_us_harms_itself_alone() -> None:
    """Rights taken from its own folders, and links in them that lead out: the run may fail, the next has a clean folder."""
    with lone_node(_QUICK) as node:
        outside = node.home.root / "outside"
        outside.mkdir()
        outside.chmod(0o711)
        script = f"""
for _ in range(3):
    os.makedirs("in/deep"); open("in/deep/x", "w").write("x"); os.chmod("in/deep", 0); os.chdir("in")
    os.symlink({str(outside)!r}, "out")
tried("seen", lambda: sorted(os.listdir(os.environ["TMPDIR"])))
if os.environ["OUTLAST_ATTEMPT"] != "3":
    for path in (os.environ["TMPDIR"], os.environ["TMPDIR"] + "/../work"): os.chmod(path, 0)
    sys.exit(os.environ["OUTLAST_ATTEMPT"] == "1")
os.chdir("../../.."); os.system("chmod -R u+rwx ."); os.system("rm -r in"); open("made", "w").write("x")
"""
        told = spawned(node, script, allow=["write:artifacts"])
        assert (told["status"], told["attempts"]) == ("done", 3), told["detail"]
        assert outside.stat().st_mode & 0o777 == 0o711
        until(lambda: node.status()["subagents"]["running"] == {}, what="nothing runs")


def test_the_third_that_is_given_up_switches_the_feature_off() -> None:
    """F5 to its end: each is told to the main agent and the person; the third switches off, over a restart, until a person acts."""
    with lone_node(_QUICK) as node:
        for count in (1, 2, 3):
            assert node.json("feature", "list")["features"]["subagents"]["on"]
            told = closed(node, spawn(node, _FAILING))
            assert (told["status"], told["attempts"], told["detail"]) == ("failed", 3, "exit 3: no luck")
            notes = [line for line in node.journal().splitlines() if " NOTE subagents " in line]
            assert len(notes) == count and f"{told['id']} failed 3 times, its task is yours: try it" in notes[-1]
            assert f"subagent-{told['id']}" in _alerts(node)
        assert "feature-subagents" in _alerts(node)
        # What it printed is shown on this machine; alerts go to services of others, and to peers, as does what is off.
        status = node.status()
        assert "no luck" not in f"{status['alerts']} {status['subagents']} {node.journal()}"
        for start in (False, True):
            if start:
                node.kill()
                node.start()
            refused = node.cli("spawn", "--task", "x", "true")
            assert refused.returncode == 2
            assert "they are switched off: 3 failed for good within a day" in refused.stderr
            assert "outlast feature on subagents" in refused.stderr
            listed = node.cli("feature", "list")
            assert listed.returncode == 1 and "subagents: off" in listed.stdout
            assert "feature-subagents" in _alerts(node)
        listed = node.cli("subagents").stdout
        assert listed.count("failed, 3 runs") == 3 and "exit 3: no luck" in listed
        assert node.cli("feature", "on", "subagents").returncode == 0
        assert not [one for one in _alerts(node) if one.startswith(("subagent-", "feature-"))]
        assert node.cli("feature", "list").returncode == 0
        assert spawned(node, "")["status"] == "done"
        # Counted anew: the next one that fails does not switch off at once.
        closed(node, spawn(node, _FAILING))
        assert node.status()["subagents"]["off"] == {}
        assert [one["event"] for kind in ("feature.off", "feature.on") for one in _events(node, kind)] == [
            "feature.off",
            "feature.on",
        ]


def test_kill_9_of_the_node_leaves_nothing_and_its_start_runs_it_again() -> None:
    """The whole tree dies with the runtime; the run counts; at the last one it is given up without being run."""
    with lone_node(_QUICK) as node:
        agent = spawn(node, "print('up', flush=True)\nsubprocess.Popen(['setsid', 'sleep', '600'])\ntime.sleep(600)")
        for attempt in (1, 2, 3):
            until(lambda: ticket(node, agent)["running"] and _marked(agent), what="it runs")
            until(lambda at=attempt: ticket(node, agent)["attempts"] == at, what=f"attempt {attempt}")
            node.kill()
            until(lambda: not _marked(agent), limit=10, what="nothing of it is left")
            node.start()
        told = closed(node, agent)
        assert (told["status"], told["attempts"]) == ("failed", 3)
        assert len(_events(node, "subagent.started")) == 3
        assert f"{agent} it was cut off, and is queued again" in node.journal()


def test_an_orderly_stop_is_no_fault_of_it() -> None:
    """What runs when the node is stopped is ended, and runs again at the next start as if it had not begun."""
    with lone_node(_QUICK) as node:
        agent = spawn(node, "print('up', flush=True)\ntime.sleep(600 if not os.path.exists('/usr/x') else 0)")
        until(lambda: ticket(node, agent)["running"] and _marked(agent), what="it runs")
        assert node.stop() == 0
        assert _marked(agent) == []
        assert json.loads((node.home.subagents / agent / "ticket.json").read_text())["attempts"] == 0
        node.start()
        until(lambda: _marked(agent), what="it runs again")
        assert ticket(node, agent)["attempts"] == 1


@pytest.mark.parametrize("moved", [False, True])
def test_what_was_made_before_a_crash_is_integrated_and_not_run_again(moved: bool) -> None:
    """Killed between "made" and the artifact, before or after its folder was handed to the steps: the start finishes it once."""
    with lone_node(_QUICK, start=False) as node:
        agent = name()
        if moved:
            node.start()
            node.order("step/begin", {"unit": agent, "artifacts": ["result.md"], "what": "do it"})
            node.kill()
        folder = node.home.subagents / agent
        work = node.home.steps / agent / "work" if moved else folder / "work"
        for path in (folder, work):
            path.mkdir(parents=True, exist_ok=True)
        (work / "result.md").write_text("made")
        made = {"id": agent, "task": "do it", "command": ["/bin/false"], "allow": ["write:artifacts"], "status": "made"}
        rest = {
            "timeout_s": 9.0,
            "heartbeat_s": 9.0,
            "expect": {},
            "accepted": "2026-11-21T05:09:07.123Z",
            "attempts": 1,
        }
        (folder / "ticket.json").write_text(json.dumps({**made, **rest}))
        node.start()
        assert closed(node, agent)["status"] == "done"
        assert (node.home.artifacts / agent / "result.md").read_text() == "made"
        assert len(node.records("INTENT", agent)) == len(node.records("CONFIRM", agent)) == 1
        assert _events(node, "subagent.started") == []


def test_the_queue_is_bounded_and_waits_for_better_times() -> None:
    """So many at once, so many waiting; in an emergency none begins, and none is lost."""
    with lone_node({"subagents": {"most": 1, "queue": 2, "timeout": "30s"}}) as node:
        node.order("emergency", {"reason": "drill"})
        agents = [spawn(node, "") for _ in range(2)]
        with pytest.raises(BadInput, match="2 are waiting; wait, or raise"):
            spawn(node, "")
        assert list(node.status()["subagents"]["queued"]) == agents
        assert not node.order("subagents/wait", {"id": agents[0], "seconds": 1})["running"]
        node.order("resume", {"reason": "over"})
        assert [closed(node, agent)["status"] for agent in agents] == ["done", "done"]
        ended = [one["correlation_id"] for one in _events(node, "subagent.ended")]
        assert ended == agents


def test_what_follows_the_command_is_the_commands() -> None:
    """With or without `--`; an option of ours that is misspelt is refused, and not taken for the command."""
    with lone_node(_QUICK) as node:
        told = json.loads(node.cli("spawn", "--task", "x", "--wait", "--json", "printf", "%s", "--json-is-mine").stdout)
        assert (node.home.ended / told["id"] / "output.log").read_text() == "--json-is-mine" and told[
            "status"
        ] == "done"
        wrong = node.cli("spawn", "--task", "x", "--tiemout", "5m", "--", "true")
        assert wrong.returncode == 2 and "--tiemout" in wrong.stderr and "No such option" in wrong.stderr


def test_the_same_id_is_taken_once() -> None:
    """Asking again, also after its end, changes nothing and tells how it is."""
    with lone_node(_QUICK) as node:
        order = {"id": name(), "task": "once", "command": ["true"]}
        node.order("subagents/spawn", order)
        closed(node, order["id"])
        assert node.order("subagents/spawn", order)["status"] == "done"
        assert len(_events(node, "subagent.started")) == 1


def test_a_person_can_end_one() -> None:
    """Running or waiting, it is closed with the reason, not run again, and nobody is alarmed."""
    with lone_node({"subagents": {"most": 1, "timeout": "60s"}}) as node:
        first, second = (spawn(node, "time.sleep(600)") for _ in range(2))
        until(lambda: ticket(node, first)["running"] and _marked(first), what="the first runs")
        for agent in (second, first):
            ended = node.cli("subagents", agent, "--end", "seen enough")
            assert ended.returncode == 0 and f"{agent}: ended" in ended.stdout and "  seen enough" in ended.stdout
        assert {ticket(node, agent)["status"] for agent in (first, second)} == {"ended"}
        assert node.status()["subagents"]["day"]["success"] is None
        assert _marked(first) == [] and _alerts(node) == []


def test_where_no_sandbox_can_be_had_it_refuses_unless_told_so(tmp_path: Path) -> None:
    """One line that says what to install; with sandbox: none it runs, still limited, watched and judged."""
    environment = {"PATH": str(tmp_path)}
    with lone_node({"subagents": {"attempts": 1, "timeout": "30s"}}, start=False) as node:
        node.start(env=environment)
        refused = node.cli("spawn", "--task", "x", "--", "/bin/true")
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert "bubblewrap is not installed; apt install bubblewrap" in refused.stderr
        assert list(node.home.subagents.glob("*")) == []
        node.stop()
        node.config["subagents"] |= {"sandbox": "none", "memory": "96MiB"}
        node.configure()
        node.start(env=environment)
        script = """
tried("token", lambda: outlast("token"))
tried("hog", lambda: len(bytearray(200 << 20)))
tried("home", lambda: os.environ["HOME"])
"""
        told = spawned(node, script, allow=["read:status"])
        assert told["found"]["token"][0] == 0 and told["found"]["hog"].startswith("MemoryError")
        assert told["found"]["home"].endswith("/tmp") and node.status()["subagents"]["sandbox"] == "none"
        stray = closed(node, spawn(node, "subprocess.Popen(['/usr/bin/setsid', '/bin/sleep', '600']); sys.exit(0)"))
        until(lambda: not _marked(stray["id"]), limit=10, what="its grandchild is gone")


def test_a_kind_of_sandbox_that_does_not_work_says_why() -> None:
    """As under a service manager that gives out no namespaces: refused when it is tried, with what bubblewrap said."""
    from outlast.home import Home
    from outlast.work import sandbox
    from outlast.work.sandbox import Cell

    with lone_node(start=False) as node:
        home = Home(node.home.root)
        cell = Cell(home, home.root, home.root, home.root, home.config, readable=sandbox.readable([]))
        said = sandbox._tried(Sandbox("bubblewrap", "/bin/false"), cell)
        assert said == "exit 1"
        assert sandbox._tried(Sandbox("bubblewrap", "/no/bwrap"), cell) == "No such file or directory"
        assert sandbox._tried(Sandbox("bubblewrap", "/usr/bin/bwrap"), cell) == ""
        assert os.listdir(home.root / "run") == []
