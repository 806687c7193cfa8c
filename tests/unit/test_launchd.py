"""Services under launchd: the definitions are right, and what is asked of launchd is done and waited for."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.mac import PACKAGE, Mac, mac

ROOT = Path(__file__).parents[2]
sys.path += [str(PACKAGE), str(ROOT / "collections")]

from ansible_collections.outlast.agents.plugins.module_utils import launchd, managers  # noqa: E402
from ansible_collections.outlast.agents.plugins.modules import unit  # noqa: E402
from launchd_double import definition  # noqa: E402

TEMPLATES = ROOT / "roles" / "service" / "templates"
SERVICE = {
    "outlast_home": "/usr/local/var/outlast",
    "service_name": "runtime",
    "service_command": ["/usr/local/var/outlast/current/bin/python", "-m", "outlast.daemon", "a <b> & 'c' \"d\""],
    "service_environment": {},
    "service_restart": "on-failure",
    "service_limits": {"open_files": 1024, "memory": "75%"},
    "service_schedule": "",
    "service_stop_timeout": 30,
    "service_rearm": "5m",
    "__service_user": "outlast",
    "__service_environment_file": "/usr/local/var/outlast/etc/runtime.env",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "kept": {},
    "always": {"service_restart": "always"},
    "secret": {"service_environment": {"TOKEN": "s3cret"}},
    "boot": {"service_schedule": "boot", "__service_user": "root"},
    "often": {"service_schedule": "5m"},
    "daily": {"service_schedule": "04:30"},
}
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        content: >-
          {%- set texts = {} -%}
          {%- for name, values in variants.items() -%}
          {%- for template in ['launchd', 'launchd_rearm'] -%}
          {%- set text = lookup('ansible.builtin.template', templates ~ '/' ~ template ~ '.plist.j2', template_vars=values) -%}
          {%- set _ = texts.update({name ~ '.' ~ template ~ '.plist': text}) -%}
          {%- endfor -%}
          {%- endfor -%}
          {{ texts | to_json }}
        dest: "{{ into }}"
        mode: "0644"
"""


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All variants of the templates, rendered by Ansible: VARIANT.TEMPLATE.plist."""
    directory = tmp_path_factory.mktemp("plists")
    play, texts = directory / "play.yml", directory / "texts.json"
    play.write_text(PLAY)
    given = {
        "variants": {name: SERVICE | changed for name, changed in VARIANTS.items()},
        "templates": str(TEMPLATES),
        "into": str(texts),
        "ansible_python_interpreter": sys.executable,
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "-i", "localhost,", "-e", json.dumps(given), play],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name, text in json.loads(texts.read_text()).items():
        (directory / name).write_text(text)
    return directory


def rendered(definitions: Path, variant: str, template: str = "launchd") -> dict[str, Any]:
    return dict(plistlib.loads((definitions / f"{variant}.{template}.plist").read_bytes()))


@pytest.mark.parametrize("template", ["launchd", "launchd_rearm"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_definitions_are_property_lists_of_known_keys(definitions: Path, variant: str, template: str) -> None:
    """Each definition is taken by the double, which refuses what it does not do."""
    definition.read(str(definitions / f"{variant}.{template}.plist"), os.getuid())


@pytest.mark.skipif(
    shutil.which("plistutil") is None, reason="plistutil is not installed; `make molecule` asks it as well"
)
def test_definitions_are_taken_by_plistutil(definitions: Path) -> None:
    """Somebody else's reader reads the same out of them."""
    for path in sorted(definitions.glob("*.plist")):
        done = subprocess.run(["plistutil", "-i", path, "-f", "bin", "-o", f"{path}.bin"], check=False)
        assert done.returncode == 0, path.name
        assert plistlib.loads(Path(f"{path}.bin").read_bytes()) == plistlib.loads(path.read_bytes()), path.name


def test_the_runtime_is_kept_on_failure_only(definitions: Path) -> None:
    """It starts when it is loaded, again when it failed, at most every ten seconds, in the background, as the node's user."""
    job = rendered(definitions, "kept")
    assert job["ProgramArguments"] == SERVICE["service_command"]
    assert (job["RunAtLoad"], job["KeepAlive"], job["ThrottleInterval"]) == (True, {"SuccessfulExit": False}, 10)
    assert (job["UserName"], job["ProcessType"], job["Umask"], job["ExitTimeOut"]) == (
        "outlast",
        "Background",
        0o077,
        30,
    )
    assert job["SoftResourceLimits"] == job["HardResourceLimits"] == {"NumberOfFiles": 1024}
    assert job["StandardErrorPath"] == job["StandardOutPath"] == job["EnvironmentVariables"]["OUTLAST_LOG"]
    assert rendered(definitions, "always")["KeepAlive"] is True


def test_schedules_become_launchd_s(definitions: Path) -> None:
    """What runs by the clock is not kept alive; `boot` and spans run at boot, a time of day does not."""
    keys = {"KeepAlive", "RunAtLoad", "StartInterval", "StartCalendarInterval", "UserName"}
    told = {
        name: {key: value for key, value in rendered(definitions, name).items() if key in keys} for name in VARIANTS
    }
    assert told["boot"] == {"RunAtLoad": True}
    assert told["often"] == {"RunAtLoad": True, "StartInterval": 300, "UserName": "outlast"}
    assert told["daily"] == {
        "RunAtLoad": False,
        "StartCalendarInterval": {"Hour": 4, "Minute": 30},
        "UserName": "outlast",
    }


def test_no_secret_is_in_a_definition(definitions: Path) -> None:
    """Anybody may ask launchd for a job's environment: what an operator sets is read by the job out of a file."""
    assert "s3cret" not in (definitions / "secret.launchd.plist").read_text()
    job = rendered(definitions, "secret")
    assert SERVICE["__service_environment_file"] in job["ProgramArguments"]
    assert job["ProgramArguments"][-4:] == SERVICE["service_command"]


def test_each_definition_has_a_mark_of_its_own(definitions: Path) -> None:
    """By its mark launchd tells which definition it has loaded: two that differ have two."""
    marks = [rendered(definitions, name)["EnvironmentVariables"][launchd.MARK] for name in VARIANTS]
    assert len(set(marks)) == len(marks)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mac]:
    with mac(tmp_path, patience=2) as double:
        (tmp_path / "log").mkdir()
        monkeypatch.setattr(launchd, "LAUNCHCTL", str(double.program()))
        monkeypatch.setattr(launchd, "DAEMONS", str(double.daemons))
        monkeypatch.setattr(launchd, "LOGS", str(tmp_path / "log"))
        yield double


def write(double: Mac, mark: str = "a", name: str = "outlast.x", **values: Any) -> None:
    log = str(double.root / "log" / "x.log")
    defaults = {"EnvironmentVariables": {launchd.MARK: mark}, "RunAtLoad": True, "StandardErrorPath": log}
    double.define(name, **{**defaults, **values})


def settled(manager: launchd.Manager, condition: Callable[[managers.Seen], object], double: Mac) -> managers.Seen:
    double.until(lambda: condition(manager.seen()))
    return manager.seen()


def test_what_is_not_loaded_is_seen_so(here: Mac) -> None:
    """Without a definition, and with one that nobody loaded, nothing is loaded, enabled or running."""
    assert launchd.Manager("x").seen() == managers.Seen()
    write(here)
    assert launchd.Manager("x").seen() == managers.Seen()
    assert launchd.Manager.known() == ["x"]


def test_load_has_it_run_and_start_after_a_boot(here: Mac) -> None:
    """Loading enables, also what somebody had disabled, and makes the log that launchd may not."""
    write(here)
    here.ctl("disable", "system/outlast.x")
    launchd.Manager("x").load()
    seen = settled(launchd.Manager("x"), lambda seen: seen.running, here)
    assert seen == managers.Seen(loaded=True, enabled=True, running=True, pid=seen.pid)
    assert (here.root / "log" / "x.log").stat().st_mode & 0o777 == 0o600
    here.ctl("disable", "system/outlast.x")
    assert not launchd.Manager("x").seen().enabled


def test_a_definition_that_is_not_the_loaded_one_is_stale_until_it_is_loaded(here: Mac) -> None:
    """launchd itself tells what it has loaded, so an interrupted run is found out by the next one; one load ends it."""
    write(here)
    launchd.Manager("x").load()
    write(here, mark="b")
    manager = launchd.Manager("x")
    before = manager.seen()
    assert before.stale
    manager.load()
    fresh = manager.seen().pid
    manager.restart()
    assert not manager.seen().stale
    assert manager.seen().pid == fresh != before.pid


def test_a_restart_is_another_process(here: Mac) -> None:
    """What was not just loaded is ended in order and run again."""
    write(here)
    launchd.Manager("x").load()
    pid = launchd.Manager("x").seen().pid
    launchd.Manager("x").restart()
    assert settled(launchd.Manager("x"), lambda seen: seen.running, here).pid != pid


def test_stop_waits_until_a_slow_job_is_gone(here: Mac) -> None:
    """bootout comes back before the end of a job that takes its time; stop does not. It may be stopped again."""
    ready = here.root / "ready"
    script = f"trap 'sleep 2; exit 0' TERM; touch {ready}; while :; do sleep 0.1; done"
    write(here, ProgramArguments=["/bin/sh", "-c", script])
    manager = launchd.Manager("x")
    manager.load()
    here.until(ready.exists)
    manager.stop()
    assert manager.seen() == managers.Seen()
    manager.stop()
    manager.load()
    assert manager.seen().loaded


def test_what_is_stopped_with_the_runtime_is_started_with_it(here: Mac) -> None:
    """A gateway that recover-state.yml or restore.yml stopped runs again; one that was never set up is left alone."""
    managed = [launchd.Manager("gateway"), launchd.Manager("runtime")]
    for manager in managed:
        write(here, name=manager.label)
        manager.load()
    values = {"home": str(here.root / "none"), "ready_url": ""}
    unit.stop({**values, "state": "stopped"}, managed, False)
    assert [manager.seen().running for manager in managed] == [False, False]
    unit.again(values, [launchd.Manager("gateway"), launchd.Manager("other")], False)
    assert managed[0].seen().running


def test_both_definitions_are_loaded_and_forgotten_together(here: Mac) -> None:
    """The job that starts a service again when launchd gave it up comes and goes with it, or it is not all there."""
    write(here)
    write(here, name="outlast.x.rearm", ProgramArguments=["/bin/true"], RunAtLoad=False)
    manager = launchd.Manager("x")
    manager.load()
    assert manager.seen().loaded
    here.ctl("bootout", "system/outlast.x.rearm")
    assert not manager.seen().loaded
    manager.load()
    manager.forget()
    assert here.ctl("list").stdout.splitlines() == ["PID\tStatus\tLabel"]


def test_what_launchd_gave_up_is_failed_and_can_be_re_armed(here: Mac) -> None:
    """A job that failed too often is failed, says why in its log, and runs after rearm once it can."""
    broken = here.root / "broken"
    broken.touch()
    script = f"test -e {broken} && {{ echo first; echo field: is wrong >&2; exit 1; }}; exec sleep 600"
    write(here, ProgramArguments=["/bin/sh", "-c", script], KeepAlive={"SuccessfulExit": False}, ThrottleInterval=1)
    manager = launchd.Manager("x")
    manager.load()
    here.until(lambda: here.told("excessive crashing", "outlast.x"))
    assert manager.seen() == managers.Seen(loaded=True, enabled=True, failed=True)
    assert manager.last_words() == "field: is wrong"
    broken.unlink()
    manager.rearm()
    manager.start()
    assert settled(manager, lambda seen: seen.running, here).pid


@pytest.mark.parametrize(("schedule", "values"), [("1h", {"StartInterval": 3600}), ("boot", {})])
def test_what_ended_well_waits_for_its_time(here: Mac, schedule: str, values: dict[str, Any]) -> None:
    """A job with a schedule that is loaded and did not fail is at work, though it has no process."""
    write(here, ProgramArguments=["/bin/true"], **values)
    manager = launchd.Manager("x", schedule)
    manager.load()
    assert settled(manager, lambda seen: seen.running and not seen.pid, here).failed is False
    write(here, mark="b", ProgramArguments=["/bin/false"], **values)
    manager.load()
    assert settled(manager, lambda seen: seen.failed, here).running is (schedule != "boot")


def test_a_definition_that_launchd_refuses_is_one_line(here: Mac) -> None:
    """What launchd says, where to look, what to do."""
    write(here)
    (here.daemons / "outlast.x.plist").chmod(0o666)
    with pytest.raises(managers.ManagerTrouble) as trouble:
        launchd.Manager("x").load()
    log = here.root / "log" / "x.log"
    wrong = "outlast.x: Bootstrap failed: 122: Path had bad ownership/permissions"
    assert str(trouble.value) == f"{wrong}; mend: look at {log}, then run the same command again"


def test_the_mend_starts_what_launchd_gave_up_and_nothing_that_was_stopped(here: Mac, definitions: Path) -> None:
    """The rearm job kickstarts what failed, leaves alone what ended well or was unloaded, and says SIGHUP after a rotation."""
    script = rendered(definitions, "kept", "launchd_rearm")["ProgramArguments"][-1]
    log = here.root / "log" / "runtime.log"
    script = script.replace("/bin/launchctl", launchd.LAUNCHCTL).replace("/var/log/outlast", str(log.parent))

    def tend() -> None:
        assert subprocess.run(["/bin/sh", "-c", script], check=False).returncode == 0

    def state(*expected: str) -> None:
        here.until(lambda: here.told("state", "outlast.runtime") in expected)

    tend()
    code, hung = here.root / "code", here.root / "hung up"
    code.write_text("3")
    program = f"trap 'touch \"{hung}\"' HUP; test -s {code} && exit $(cat {code}); while :; do sleep 0.1; done"
    write(here, name="outlast.runtime", ProgramArguments=["/bin/sh", "-c", program])
    here.ctl("bootstrap", "system", str(here.daemons / "outlast.runtime.plist"))
    for runs, ends in (("1", "3"), ("2", "78: EX_CONFIG"), ("2", "78: EX_CONFIG")):
        here.until(lambda ends=ends: here.told("last exit code", "outlast.runtime") == ends)  # type: ignore[misc]
        assert here.told("runs", "outlast.runtime") == runs
        code.write_text("78")
        tend()
    code.write_text("0")
    here.ctl("kickstart", "system/outlast.runtime")
    here.until(lambda: here.told("last exit code", "outlast.runtime") == "0")
    tend()
    assert here.told("runs", "outlast.runtime") == "3"
    code.write_text("")
    here.ctl("kickstart", "system/outlast.runtime")
    state("running")
    tend()
    assert not hung.exists()
    # After a rotation the new file is there, and the old one is what is written to.
    log.write_text("")
    os.utime(log, (1, 1))
    Path(f"{log}.0").write_text("more")
    here.until(lambda: tend() or hung.exists())
    here.ctl("bootout", "system/outlast.runtime")
    tend()
    assert here.ctl("print", "system/outlast.runtime").returncode == 113
