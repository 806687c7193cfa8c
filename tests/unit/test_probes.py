"""When probes are asked, what their answers lead to, and what they are not blamed for."""

from __future__ import annotations

import http.server
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.badjson import DEEP
from support.probed import NOW, Probed

from outlast.cli.health import health_lines
from outlast.core.overview import overview

Make = Callable[..., Probed]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes the probes of a node with these sections in its node.yml."""
    made: list[Probed] = []

    def one(**sections: Any) -> Probed:
        made.append(Probed(tmp_path, **sections))
        return made[-1]

    yield one
    for probed in made:
        probed.close()


def counting(tmp_path: Path, code: int = 0, says: str = "") -> tuple[list[str], Path]:
    """A command that notes each time it is run; and the file that it notes it in."""
    log = tmp_path / "asked"
    log.touch()
    return ["/bin/sh", "-c", f"echo x >> {log}; echo '{says}'; exit {code}"], log


def gateway(**probes: Any) -> dict[str, Any]:
    """A service with these probes."""
    return {"gateway": {"command": ["/bin/true"], "probes": probes}}


def test_probes_are_asked_as_often_as_the_spec_says(make: Make, tmp_path: Path) -> None:
    """Without an interval of its own: level 1 every 30 s, level 2 every 60 s, level 3 every 30 min; in degraded mode P1 as often."""
    logs = {}
    probes = {}
    for level in (1, 2, 3):
        (tmp_path / str(level)).mkdir()
        command, logs[level] = counting(tmp_path / str(level))
        probes[f"level-{level}"] = {"command": command, "level": level}
    scene = make(probes=probes)
    scene.mode = "degraded"
    scene.passes(3600)
    asked = {level: len(log.read_text().split()) for level, log in logs.items()}
    assert asked == {1: 120, 2: 60, 3: 2}


def test_shed_probes_rest_and_are_not_made_up_for(make: Make, tmp_path: Path) -> None:
    """In maintenance nothing of P1 is asked; afterwards each is asked once, however long that was."""
    command, log = counting(tmp_path)
    scene = make(probes={"disk": {"command": command}})
    scene.mode = "maintenance"
    scene.passes(3600)
    assert log.read_text() == ""
    scene.mode = "normal"
    scene.passes(60)
    assert log.read_text().split() == ["x"]


def test_a_machine_that_slept_is_asked_once(make: Make, tmp_path: Path) -> None:
    """A clock that steps an hour leads to one question, not to sixty."""
    command, log = counting(tmp_path)
    scene = make(probes={"disk": {"command": command}})
    scene.passes(3600, step=3600)
    assert log.read_text().split() == ["x"]


def test_a_hung_service_is_restarted_and_judged_anew(make: Make) -> None:
    """After as many failures it is restarted, once; the new process has as many chances; what does not help is told."""
    dead = {"http": "http://127.0.0.1:1/", "every": "10s", "then": "restart", "failures": 3}
    scene = make(services=gateway(http=dead))
    scene.passes(20)
    assert scene.services.restarts == []
    scene.passes(10)
    [(name, why)] = scene.services.restarts
    assert name == "gateway" and why.startswith("its probe http (responding) fails: ") and "Connection refused" in why
    assert scene.state("gateway") == "up, not working"
    scene.passes(20)
    assert len(scene.services.restarts) == 1 and scene.alerts.shown == []
    scene.passes(40)
    assert len(scene.services.restarts) == 3
    [alert] = scene.alerts.shown
    assert alert.name == "probe gateway http" and "2 restarts did not help" in alert.text
    assert "outlast logs gateway" in alert.text


class Plain(http.server.BaseHTTPRequestHandler):
    """HTTP/1.0, as the standard library speaks it: the end of the connection is the end of the answer."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"all is fine\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_server_that_ends_its_answers_by_hanging_up_works(make: Make) -> None:
    """Without a length, as curl takes it; what it answered is looked into."""
    with http.server.HTTPServer(("127.0.0.1", 0), Plain) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            scene = make(probes={"old": {"http": f"http://127.0.0.1:{server.server_port}/", "contains": "is fine"}})
            scene.passes(120)
            assert scene.state("old") == "working"
        finally:
            server.shutdown()
            thread.join()


def test_what_does_not_run_is_its_supervisors(make: Make) -> None:
    """A service that waits to be started, or rests, is down: nobody asks it, restarts it, or alerts a second time."""
    dead = {"http": "http://127.0.0.1:1/", "every": "10s", "then": "restart"}
    told = {"http": "http://127.0.0.1:1/", "every": "10s", "then": "alert"}
    scene = make(services=gateway(http=dead, told=told))
    scene.services.supervised["gateway"].update(state="resting", pid=None, last_reason="ended with exit code 3")
    scene.passes(600)
    assert scene.services.restarts == [] and scene.alerts.shown == []
    assert scene.state("gateway") == "down"
    assert "exit code 3" in scene.probes.report()["working"]["gateway"]["text"]


def test_what_is_shed_is_not_called_broken(make: Make) -> None:
    """A service that the mode stopped, or that ended well and is not to run again, is not looked at, and fails at nothing."""
    scene = make(services=gateway(http={"http": "http://127.0.0.1:1/", "every": "10s", "then": "degrade"}))
    for state in ({"state": "shed", "pid": None}, {"state": "ended", "pid": None, "last_exit": 0}):
        scene.services.supervised["gateway"].update(state)
        scene.passes(300)
        assert scene.state("gateway") == "not looked at"
        assert scene.around.causes == {} and scene.events("probe.failed") == []


@pytest.mark.parametrize("state", [{"state": "shed"}, {"state": "ended", "last_exit": 0}])
def test_what_a_service_failed_at_is_over_once_it_rests(make: Make, state: dict[str, Any]) -> None:
    """Shed, or ended well: its cause no longer degrades the node, and its alert ends, though nothing is asked any more."""
    dead = {"http": "http://127.0.0.1:1/", "every": "10s"}
    told = {**dead, "then": "alert"}
    scene = make(services=gateway(rpc={**dead, "then": "degrade"}, told=told))
    scene.passes(30)
    assert list(scene.around.causes) == ["probe gateway rpc"] and scene.alerts.holds("probe gateway told")
    # Of what is P1 nothing is asked in this mode.
    scene.mode = "maintenance"
    scene.services.supervised["gateway"].update(state, pid=None)
    scene.passes(10)
    assert scene.around.causes == {} and scene.alerts.raised == []
    assert scene.state("gateway") == "not looked at"


def test_a_probe_that_degrades_does_so_until_it_passed_twice(make: Make, tmp_path: Path) -> None:
    """The cause stands in words that do not change, and is gone after two good answers; each change is one event."""
    sign = tmp_path / "broken"
    sign.touch()
    check = ["/bin/sh", "-c", f"test ! -e {sign} || {{ echo no database; exit 3; }}"]
    scene = make(probes={"rpc": {"command": check, "every": "10s", "then": "degrade"}})
    scene.passes(20)
    assert scene.around.causes == {}
    scene.passes(300)
    assert scene.around.causes == {"probe rpc": "rpc (responding) fails: exit 3"}
    sign.unlink()
    scene.passes(10)
    assert scene.around.causes
    scene.passes(10)
    assert scene.around.causes == {}
    assert scene.state("rpc") == "working"
    assert [len(scene.events(name)) for name in ("probe.failed", "probe.passed")] == [1, 1]


def test_a_file_that_does_not_move(make: Make) -> None:
    """Level 3: a file below the workspace that was not changed for as long as it may is told to a person; and that it is over."""
    scene = make(probes={"study": {"file": "study.md", "fresh": "1h", "every": "30m", "failures": 1}})
    path = scene.home.workspace / "study.md"
    path.touch()
    os.utime(path, (scene.clock.now, scene.clock.now))
    scene.passes(3600, 60)
    assert scene.levels("study") == {"progress": True}
    scene.passes(1800, 60)
    assert [alert.name for alert in scene.alerts.shown] == ["probe study"]
    os.utime(path, (scene.clock.now + 3600, scene.clock.now + 3600))
    scene.passes(3600, 60)
    assert scene.alerts.shown == []


def test_progress_is_asked_for_only_while_work_is_open(make: Make) -> None:
    """PROGRESS.md that stands still is fine on an idle node, and before work is open for long; then it is told."""
    scene = make()
    scene.home.progress.write_text("page 1\n")
    os.utime(scene.home.progress, (0, 0))
    scene.passes(7200, 600)
    assert scene.probes.report()["health"] == {}
    scene.local.memory.intent("axiom-0123456789ab", "task", "axiom", "study")
    scene.passes(1800, 600)
    assert scene.levels("node") == {"progress": True}
    scene.passes(7200, 600)
    assert scene.levels("node") == {"progress": False}
    [alert] = scene.alerts.shown
    assert "PROGRESS.md changed" in alert.text
    scene.local.memory.confirm("axiom-0123456789ab", "done", "")
    scene.passes(7200, 600)
    assert scene.probes.report()["health"] == {}


def test_an_idle_node_is_not_woken(make: Make) -> None:
    """A node without services and probes has nothing to look at but PROGRESS.md, every half an hour."""
    scene = make()
    scene.passes(10)
    assert (scene.probes.look() or 0) >= 1700


def test_a_gateway_that_is_down_while_skills_run(make: Make) -> None:
    """Degraded, not dead: a service that does not run while skills left a status lately is a cause, until it is back for two looks."""
    scene = make(services=gateway())
    scene.skill("mail", 60)
    scene.skill("study", 7200)
    scene.passes(120)
    assert scene.around.causes == {}
    scene.services.supervised["gateway"].update(state="resting", pid=None)
    scene.passes(60)
    assert scene.around.causes == {"skills": "gateway down while skills run: mail"}
    skills = scene.probes.report()["skills"]
    assert (skills["mail"]["ok"], skills["mail"]["text"], skills["mail"]["fresh"]) == (True, "3 mails", True)
    assert not skills["study"]["fresh"]
    scene.services.supervised["gateway"].update(state="running", pid=7)
    scene.passes(60)
    assert scene.around.causes == {}


def test_a_gateway_that_is_down_and_no_skill_runs(make: Make) -> None:
    """Nothing is degraded by a gateway alone: its supervisor tells of it; old, odd and hostile status files are no skills that run."""
    scene = make(services=gateway())
    scene.skill("old", 7200)
    (scene.home.skills / "torn.json").write_text('{"at": "2026-')
    (scene.home.skills / "deep.json").write_text(f'{{"at": "2026-11-21T12:00:00Z", "more": {DEEP}}}')
    (scene.home.skills / "noise.json").write_bytes(b"\xff\x00" * 40_000)
    os.mkfifo(scene.home.skills / "fifo.json")
    (scene.home.skills / "folder.json").mkdir()
    scene.services.supervised["gateway"].update(state="resting", pid=None)
    scene.passes(300)
    assert scene.around.causes == {}
    skills = scene.probes.report()["skills"]
    assert set(skills) == {"old", "torn", "deep", "noise", "fifo", "folder"}
    assert all("cannot be read" in skills[name]["text"] for name in ("torn", "deep", "noise", "fifo", "folder"))


def test_every_completed_artifact_is_validated(make: Make) -> None:
    """The command is given its folder; a bad one is told at once, noted in the journal, and over after two good ones."""
    check = ["/bin/sh", "-c", 'grep -q title "$0/report.md" || { echo "$OUTLAST_UNIT has no title"; exit 1; }']
    scene = make(probes={"reports": {"artifacts": check}})
    memory = scene.local.memory

    def complete(unit: str, text: str) -> None:
        folder = scene.home.artifacts / unit
        folder.mkdir()
        (folder / "report.md").write_text(text)
        memory.intent(unit, "step", "", "write", ("report.md",))
        memory.update(unit, "done", "", artifact=True)
        scene.passes(1)

    assert scene.state("reports") == "not looked at"
    complete("coz-000000000001", "title\n")
    assert scene.levels("reports") == {"quality": True}
    complete("coz-000000000002", "nothing\n")
    assert scene.levels("reports") == {"quality": False}
    [alert] = scene.alerts.shown
    assert "coz-000000000002: exit 1" in alert.text and alert.text.endswith("mend: outlast logs probe.reports")
    assert scene.printed("probe.reports").endswith("exit 1: coz-000000000002 has no title\n")
    assert "NOTE coz-000000000002 its artifact is not valid (reports): exit 1" in scene.journal()
    assert [one["correlation_id"] for one in scene.events("artifact.invalid")] == ["coz-000000000002"]
    complete("coz-000000000003", "title\n")
    complete("coz-000000000004", "title\n")
    assert scene.levels("reports") == {"quality": True} and scene.alerts.shown == []


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["/bin/sh", "-c", "sleep 60"], "not done after 0.2 s, so it was ended"),
        (["/bin/sh", "-c", "trap '' TERM; while :; do :; done"], "not done after 0.2 s, so it was ended"),
        (["/bin/sh", "-c", "kill -9 $$"], "ended by signal 9"),
        (["/nowhere"], "/nowhere does not exist"),
        (["/bin/sh", "-c", "yes"], "not done after 0.2 s, so it was ended"),
    ],
)
def test_a_command_that_behaves_badly_is_an_answer(make: Make, command: list[str], text: str) -> None:
    """One that hangs, dies, is missing, or prints without measure fails its probe, in words of ours."""
    scene = make(probes={"odd": {"command": command, "timeout": "200ms", "every": "10s"}})
    scene.passes(10)
    shown = scene.probes.report()["health"]["odd"]["responding"]
    assert (shown["ok"], shown["failures"]) == (None, 1)
    assert text in shown["text"]


@pytest.mark.parametrize("then", ["alert", "degrade"])
def test_what_a_command_prints_stays_here(make: Make, then: str) -> None:
    """It may be a secret: no event, alert, cause, journal or peer's view has it, well or not; a log of its owner's has the last
    line of what failed, harmless to a terminal."""
    script = "yes | head -c 30000; printf 'token\\033[2J=hunter2\\n'"
    bad, good = (["/bin/sh", "-c", f"{script}; exit {code}"] for code in (2, 0))
    probes = {"rpc": {"command": bad, "every": "10s", "then": then}, "fine": {"command": good, "every": "10s"}}
    scene = make(probes=probes, services=gateway(db={"command": bad, "every": "10s", "then": then}))
    scene.passes(60)
    report = scene.probes.report()
    assert report["health"]["rpc"]["responding"]["text"] == "exit 2"
    assert report["health"]["fine"]["responding"]["text"] == "exit 0"
    logs = "".join(path.read_text() for path in scene.home.logs.iterdir())
    seen = [report, scene.around.causes, scene.alerts.raised, scene.journal(), logs, overview({"probes": report})]
    assert "probe.failed" in logs and "hunter2" not in str(seen)
    for name in ("probe.rpc", "probe.gateway.db"):
        assert scene.printed(name).splitlines()[-1].endswith(" exit 2: token [2J=hunter2")
        assert stat.S_IMODE((scene.home.outputs / f"{name}.log").stat().st_mode) == 0o600
    assert not (scene.home.outputs / "probe.fine.log").exists()
    told = {"node": "coz", "mode": "degraded", "mode_reasons": [], **report}
    assert "  what its command printed: outlast logs probe.rpc" in health_lines(told, NOW, ["probe.fine", "probe.rpc"])


def test_what_is_printed_is_kept_within_a_limit(make: Make) -> None:
    """A probe that fails for months does not fill the disk."""
    scene = make(probes={"rpc": {"command": ["/bin/sh", "-c", "echo no; exit 1"], "every": "10s"}})
    log = scene.home.outputs / "probe.rpc.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * (64 << 10))
    scene.passes(10)
    assert log.stat().st_size < 100 and log.with_suffix(".1.log").exists()
