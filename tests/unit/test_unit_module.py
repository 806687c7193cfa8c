"""A service under a real manager: what is seen of it, what follows from that, and how little is believed of what it says."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.module_utils import look_unit, managers, systemd  # noqa: E402
from ansible_collections.outlast.agents.plugins.module_utils.managers import Seen, plan  # noqa: E402
from ansible_collections.outlast.agents.plugins.module_utils.systemd import Manager  # noqa: E402

WELL = Seen(loaded=True, enabled=True, running=True, pid=7)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose runtime says what it read: its configuration, and a key that is not there."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "releases/one").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/one")
    (tmp_path / "etc/node.yml").write_text("node: coz\n")
    say(tmp_path)
    return tmp_path


def say(home: Path, **more: Any) -> None:
    """Have the runtime write run/loaded as it does at its start."""
    digest = hashlib.sha256((home / "etc/node.yml").read_bytes()).hexdigest()
    said = {"pid": 7, "release": str(home / "releases/one"), "files": {"etc/node.yml": digest, "etc/keys/coz.key": ""}}
    (home / "run/loaded").write_text(json.dumps({**said, **more}))


def outdated(home: Path, *definitions: Path) -> str:
    """What look_unit finds in a home."""
    return look_unit.outdated(str(home), "run/loaded", [str(path) for path in definitions])


@pytest.mark.parametrize(
    ("seen", "changed", "outdated", "steps"),
    [
        (WELL, False, False, []),
        (WELL, True, False, ["load", "restart"]),
        (WELL, False, True, ["restart"]),
        (Seen(), False, False, ["load", "start"]),
        (Seen(), True, True, ["load", "start"]),
        (Seen(loaded=True, enabled=True), False, False, ["start"]),
        (Seen(loaded=True, enabled=True), False, True, ["start"]),
        (Seen(loaded=True, enabled=True, failed=True), False, False, ["rearm", "start"]),
        (Seen(loaded=True, running=True, pid=7), False, False, ["load"]),
        (Seen(loaded=True, enabled=True, running=True, stale=True), False, False, ["load", "restart"]),
        # One that runs by the clock waits for its next run; that its last one failed is no reason to start it now.
        (Seen(loaded=True, enabled=True, running=True, failed=True), False, False, []),
        (Seen(loaded=True, enabled=True, running=True, failed=True), True, False, ["load", "rearm", "restart"]),
    ],
)
def test_only_what_is_needed_is_done(seen: Seen, changed: bool, outdated: bool, steps: list[str]) -> None:
    """A service is loaded, re-armed, started or restarted where that is called for, and left alone otherwise."""
    assert plan("started", seen, changed=changed, outdated=outdated) == steps


@pytest.mark.parametrize(
    ("state", "seen", "steps"),
    [
        ("stopped", WELL, ["stop"]),
        ("stopped", Seen(loaded=True, enabled=True), []),
        ("absent", WELL, ["forget"]),
        ("absent", Seen(failed=True), ["forget"]),
        ("absent", Seen(), []),
    ],
)
def test_what_is_stopped_or_gone_already_is_left_alone(state: str, seen: Seen, steps: list[str]) -> None:
    """A stop stops what runs, and what is not known needs no forgetting."""
    assert plan(state, seen, changed=True, outdated=True) == steps


def test_all_is_well_where_the_runtime_has_all_that_lies_there(home: Path) -> None:
    """Nothing is outdated as long as every file, missing ones as well, is as the runtime says that it read it."""
    assert outdated(home) == ""


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("echo node: axiom > etc/node.yml", "etc/node.yml"),
        ("rm etc/node.yml", "etc/node.yml"),
        ("mkdir etc/keys; echo x > etc/keys/coz.key", "etc/keys/coz.key"),
        ("mkdir releases/two; ln -sfn releases/two current", "current"),
        ("rm run/loaded", "run/loaded"),
        ("echo '{half' > run/loaded", "run/loaded"),
        ("echo '[]' > run/loaded", "run/loaded"),
        ("echo '{\"pid\": 7}' > run/loaded", "run/loaded"),
        ("head -c 200000 /dev/zero | tr '\\0' '[' > run/loaded", "run/loaded"),
    ],
)
def test_whatever_it_did_not_start_with_is_found(home: Path, change: str, found: str) -> None:
    """A file that changed, went or came, another release, and a runtime that does not say what it read."""
    subprocess.run(["/bin/sh", "-ec", change], cwd=home, check=True)
    assert outdated(home) == found


def test_a_definition_that_is_newer_is_found(home: Path) -> None:
    """A run that was interrupted between the writing of a definition and the restart is made good by the next one."""
    definition, since = home / "outlast-runtime.service", (home / "run/loaded").stat().st_mtime_ns
    assert outdated(home, definition) == ""
    definition.write_text("[Service]\n")
    os.utime(definition, ns=(since - 1, since - 1))
    assert outdated(home, definition) == ""
    os.utime(definition, ns=(since + 1, since + 1))
    assert outdated(home, definition) == str(definition)


def test_an_absolute_path_is_taken_as_such(home: Path, tmp_path: Path) -> None:
    """The time zone lies outside of the home."""
    zone = tmp_path / "zone"
    zone.write_text("TZif")
    say(home, files={str(zone): hashlib.sha256(b"TZif").hexdigest()})
    assert outdated(home) == ""
    zone.write_text("TZif2")
    assert outdated(home) == str(zone)


@pytest.mark.parametrize("place", ["run/loaded", "etc/node.yml"])
@pytest.mark.timeout(20)
def test_nobody_is_kept_waiting(home: Path, place: str) -> None:
    """A pipe in the place of a file, which an agent may put there, or a device without an end, is no file: nobody reads it."""
    (home / place).unlink()
    os.mkfifo(home / place)
    assert outdated(home) == place
    say_zero = {"pid": 7, "release": str(home / "releases/one"), "files": {"/dev/zero": "x"}}
    (home / "run/loaded").unlink()
    (home / "run/loaded").write_text(json.dumps(say_zero))
    assert outdated(home) == "/dev/zero"


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5000])
def test_a_path_that_nobody_can_open_is_no_file(home: Path, path: str) -> None:
    """Whatever an agent writes there, the look comes to an end."""
    say(home, files={path: "x"})
    assert outdated(home) == path


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="only Linux can look at what it then opens")
def test_what_is_no_file_is_not_even_opened(home: Path, tmp_path: Path) -> None:
    """Opening some devices is an act: here a pipe, whose writer would see that somebody came."""
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["/bin/sh", "-c", "echo > pipe"], cwd=tmp_path)
    try:
        say(home, files={str(tmp_path / "pipe"): "x"})
        assert outdated(home) == str(tmp_path / "pipe")
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.3)
    finally:
        writer.kill()
        writer.wait()


SHOW = """Id=outlast-runtime.service
LoadState={load}
UnitFileState={file}
ActiveState={active}
SubState={sub}
MainPID={pid}
NeedDaemonReload={reload}

Id=outlast-runtime.timer
LoadState={timer_load}
UnitFileState={timer_file}
ActiveState={timer}
SubState=
NeedDaemonReload=no
"""
SHOWN = {
    "load": "loaded", "file": "enabled", "active": "active", "sub": "running", "pid": 7, "reload": "no",
    "timer_load": "not-found", "timer_file": "", "timer": "inactive",
}  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "told", "seen"),
    [
        ("", {}, WELL),
        ("", {"reload": "yes"}, Seen(True, True, True, 7, stale=True)),
        ("", {"active": "activating", "sub": "start"}, WELL),
        ("", {"active": "activating", "sub": "auto-restart", "pid": 0}, Seen(True, True)),
        ("", {"active": "failed", "sub": "failed", "pid": 0}, Seen(True, True, failed=True)),
        ("", {"load": "not-found", "file": "", "active": "inactive", "pid": 0}, Seen()),
        ("", {"load": "masked", "file": "masked", "active": "inactive", "pid": 0}, Seen()),
        ("", {"file": "disabled"}, Seen(True, False, True, 7)),
        ("boot", {"sub": "exited", "pid": 0}, Seen(True, True, True)),
        (
            "5m",
            {
                "file": "static",
                "active": "inactive",
                "pid": 0,
                "timer_load": "loaded",
                "timer_file": "enabled",
                "timer": "active",
            },
            Seen(True, True, True),
        ),
        (
            "04:30",
            {
                "file": "static",
                "active": "failed",
                "pid": 0,
                "timer_load": "loaded",
                "timer_file": "enabled",
                "timer": "active",
            },
            Seen(True, True, True, failed=True),
        ),
    ],
)
def test_what_systemd_says_is_understood(schedule: str, told: dict[str, Any], seen: Seen) -> None:
    """Running, waiting, given up, between two tries, not there: as systemctl show tells it."""
    found = Manager("runtime", schedule).understand([(0, SHOW.format(**{**SHOWN, **told}))])
    assert found == seen


def test_a_machine_without_systemd_tells_nothing() -> None:
    """Where systemctl is not there nothing is seen, and nothing fails."""
    assert Manager("runtime").understand([(127, "")]) == Seen()


def test_a_command_that_fails_is_one_line() -> None:
    """What a manager refuses is told in one line: field, what it says last, and the mend."""
    with pytest.raises(managers.ManagerTrouble) as caught:
        managers.order(["/bin/sh", "-c", "echo first >&2; echo Unit is masked. >&2; exit 4"], "x.service", "unmask it")
    assert str(caught.value) == "x.service: Unit is masked.; mend: unmask it"
    with pytest.raises(managers.ManagerTrouble, match="/no/such.*; mend: "):
        managers.ask(["/no/such"])


class Door(BaseHTTPRequestHandler):
    """Answers 503 with what no terminal should see, and 200 to /readyz."""

    def do_GET(self) -> None:
        ready = self.path == "/readyz"
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(b"" if ready else b"mode emergency\x1b[2J" + b"x" * 100_000)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def door() -> Iterator[str]:
    """A server on a port of its own."""
    with HTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_why_it_is_not_ready_is_told(door: str) -> None:
    """Ready is 200; else it is said what was answered, short and without control characters, or that nobody answers."""
    assert look_unit.unready(f"{door}/readyz") == ""
    told = look_unit.unready(f"{door}/sick")
    assert told.startswith("503 mode emergency")
    assert told.isprintable()
    assert len(told) < 320
    assert look_unit.unready("http://127.0.0.1:1/readyz") == "Connection refused"


def test_one_look_tells_an_action_all_of_it(home: Path, door: str) -> None:
    """The module's text, run by a bare Python, prints what the module itself would see."""
    asked = {
        "questions": [["/bin/echo", "Id=x"], ["/no/such"]],
        "definitions": [],
        "home": str(home),
        "loaded": "run/loaded",
        "ready_url": f"{door}/readyz",
    }
    source = Path(look_unit.__file__).read_text()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", source, json.dumps(asked)], capture_output=True, text=True, check=True
    )
    seen = {"answers": [[0, "Id=x\n"], [127, ""]], "outdated": "", "pid": 7, "unready": ""}
    assert json.loads(done.stdout) == seen
    assert json.loads(json.dumps(look_unit.look(asked))) == seen


def test_another_process_in_its_place_is_found() -> None:
    """Where the one that wrote run/loaded is not the one that the manager keeps, the service is restarted."""
    backend = Manager("runtime")
    told = {"answers": [(0, SHOW.format(**SHOWN))], "outdated": "", "pid": 7, "unready": ""}
    values = {"home": "/h", "loaded": "run/loaded"}
    assert managers.todo(values, backend, told) == []
    assert managers.todo(values, backend, {**told, "pid": 8}) == ["restart"]
    assert managers.todo({"home": "/h"}, backend, {**told, "pid": 8}) == []


@pytest.mark.parametrize(("refusals", "is_stopped"), [(0, True), (1, True), (9, False)])
@pytest.mark.parametrize("wanted", ["stop", "forget"])
def test_a_stop_that_meets_a_restart_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, refusals: int, is_stopped: bool
) -> None:
    """systemd that starts a crashed service just then cancels what was to stop its timer: once is no failure, twice is one."""
    log, unit = tmp_path / "log", tmp_path / "outlast-runtime.service"
    unit.touch()
    fake = tmp_path / "bin/systemctl"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n[ "$(wc -l < {log})" -gt {refusals} ] || {{ echo "Job canceled." >&2; exit 1; }}\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(systemd, "UNITS", str(tmp_path))
    if is_stopped:
        getattr(Manager("runtime"), wanted)()
    else:
        with pytest.raises(managers.ManagerTrouble, match=r"Job canceled\.; mend: look at journalctl"):
            getattr(Manager("runtime"), wanted)()
    asked = [line for line in log.read_text().splitlines() if line.startswith("stop")]
    assert asked == ["stop outlast-runtime.service"] * (2 if refusals else 1)
    assert ("disable outlast-runtime.service" in log.read_text()) == (wanted == "forget" and is_stopped)
