"""The agent that ships with Outlast: what a person reads in its report, on a healthy host and on strange ones."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from outlast.work import host_report

TITLES = ["Host", "Disks", "Memory", "Load", "Temperature", "Processes", "Services", "Clock", "Network"]
Usage = namedtuple("Usage", "total used free percent")


def task(**node: Any) -> dict[str, Any]:
    about = {"name": "axiom", "mode": "normal", "services": {"ingress": "up"}, "skew_s": {"coz": 0.02}} | node
    return {"unit": "coz-1", "task": "host report", "from": "coz", "node": about, "attempt": 1, "trace_id": "ab"}


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host on which all is well, whatever the machine that runs the tests is doing; its report goes to ``tmp_path``."""
    memory = SimpleNamespace(total=8 << 30, available=4 << 30, percent=50.0)
    swap = SimpleNamespace(total=1 << 30, used=0, percent=0.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(psutil, "swap_memory", lambda: swap)
    monkeypatch.setattr(psutil, "disk_usage", lambda _: Usage(100 << 30, 40 << 30, 60 << 30, 40.0))
    monkeypatch.setattr(
        psutil, "sensors_temperatures", lambda: {"cpu_thermal": [SimpleNamespace(current=48.0)]}, raising=False
    )
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_files=100, f_favail=90))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {"eth0": SimpleNamespace(isup=True)})
    address = SimpleNamespace(address="192.0.2.7", family=SimpleNamespace(name="AF_INET"))
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth0": [address]})
    return tmp_path


def report(monkeypatch: pytest.MonkeyPatch, given: object) -> str:
    """Run the agent in this process; return its report."""
    data = given if isinstance(given, bytes) else json.dumps(given).encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))
    assert host_report.main() == 0
    return Path("report.md").read_text(encoding="utf-8")


def part(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def real(folder: Path, data: bytes, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the agent as the runtime does: a process of its own, nothing inherited."""
    command = [sys.executable, "-m", "outlast.work.host_report"]
    return subprocess.run(
        command, cwd=folder, input=data.decode("latin-1"), capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path), "LANG": "C.UTF-8", **environment},
    )  # fmt: skip


def test_real_host(tmp_path: Path) -> None:
    """On the machine at hand every part has something to say, and the summary is one line that begins with the node."""
    done = real(tmp_path, json.dumps(task()).encode())
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"axiom: (healthy|worth a look)[^\n]+\n", done.stdout)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert re.match(r"# axiom: (healthy|worth a look; .+)\n", text)
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == TITLES
    assert all(part(text, title).strip() for title in TITLES)
    assert "Could not be read:" not in part(text, "Host") + part(text, "Memory") + part(text, "Processes")
    assert "from coz, unit coz-1" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_healthy(calm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where all is well the verdict is one word, and the summary gives the figures."""
    text = report(monkeypatch, task(services={"ingress": "up", "agent": "working"}))
    assert text.startswith("# axiom: healthy\n")
    assert "healthy; up " in (out := capsys.readouterr().out) and "disk 40 %, memory 50 %, load" in out
    assert "- ingress: up" in part(text, "Services") and "192.0.2.7" in part(text, "Network")


def test_every_worry_is_in_the_verdict(
    calm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is beyond its threshold is named in the first line and in the summary."""
    cores = os.cpu_count() or 1
    monkeypatch.setattr(psutil, "disk_usage", lambda _: Usage(100, 93, 7, 93.0))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=100, available=5, percent=95.0))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=100, used=90, percent=90.0))
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0 * cores, 3.0 * cores, 0.0))
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"cpu": [SimpleNamespace(current=91.0)]}, raising=False)
    monkeypatch.setattr(psutil, "net_if_addrs", dict)
    text = report(monkeypatch, task(mode="degraded", services={"outbox": "down"}, skew_s={"coz": -120.0}))
    verdict = text.splitlines()[0]
    for worry in [
        "mode is degraded", "disk / is 93 % full", "memory is 95 % used", "swap is 90 % used", "load is 3.0 per core",
        "cpu is at 91 °C", "service outbox is down", "clock is 120 s away from coz's", "no network address",
    ]:  # fmt: skip
        assert worry in verdict
    assert verdict.removeprefix("# axiom: worth a look; ") in capsys.readouterr().out


def test_no_inodes_left(calm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room and without inodes is as good as full, and is named."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_files=100, f_favail=1))
    assert "99 % of its inodes" in report(monkeypatch, task()).splitlines()[0]


def test_skew_that_was_not_measured(calm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer whose clock is not known yet is no worry and no zero."""
    text = report(monkeypatch, task(skew_s={"coz": None, "witness": 1.25}))
    assert "- coz: not measured yet" in text and "- witness is 1.2 s ahead" in text


def test_thresholds_come_from_the_environment(calm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator can say from where on something is worth a look."""
    monkeypatch.setenv("OUTLAST_REPORT_DISK_PERCENT", "30")
    assert "disk / is 40 % full" in report(monkeypatch, task()).splitlines()[0]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("boot_time", "Host"),
        ("disk_usage", "Disks"),
        ("virtual_memory", "Memory"),
        ("sensors_temperatures", "Temperature"),
        ("process_iter", "Processes"),
        ("net_if_addrs", "Network"),
    ],
)
@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), psutil.AccessDenied(1), RuntimeError("odd"), KeyError("x")]
)
def test_what_cannot_be_read_is_said(
    calm: Path, monkeypatch: pytest.MonkeyPatch, name: str, title: str, error: Exception
) -> None:
    """One thing that the system refuses is said in its part, and spoils no other part."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(psutil, name, refuse, raising=False)
    text = report(monkeypatch, task())
    assert [each for each in TITLES if "Could not be read" in part(text, each)] == [title]


def test_root_disk_is_shown_without_the_list_of_mounts(calm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell what is mounted, the root's disk is looked at nevertheless."""

    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(psutil, "disk_partitions", refuse)
    assert "| / | 100 GiB | 60 GiB | 40 % | 10 % |" in part(report(monkeypatch, task()), "Disks")


@pytest.mark.skipif(sys.platform != "linux", reason="a copy of a Mac's Python does not run")
def test_no_command_line_is_shown(calm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in a process's command line is not in the report, not even where psutil completes the name from there."""
    program = calm / "openclaw-gateway"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen(["openclaw-gateway --token=hunter2", "600"], executable=program) as child:
        try:
            monkeypatch.setattr(psutil, "process_iter", lambda: [psutil.Process(child.pid)])
            text = report(monkeypatch, task())
            assert "hunter2" in psutil.Process(child.pid).name()
        finally:
            child.kill()
    assert f"| openclaw-gatewa | {child.pid} |" in text
    assert "hunter2" not in text and "token" not in text


def test_a_task_cannot_shape_the_report(calm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text from another machine stays on its line and makes no headings, links or tables."""
    given = task(name="a\n# b", services={"x|y": "up\n## Disks", "<b>": "[l](http://e)"}) | {"from": "c\x1b[31m\nd"}
    text = report(monkeypatch, given)
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == TITLES
    assert "\x1b" not in text and "<b>" not in text.replace("\\<b>", "") and "\\[l]" in text


@pytest.mark.parametrize(
    "given", [{}, {"node": None}, {"node": {}, "more": [1]}, {"node": {"services": None, "skew_s": None}}]
)
def test_missing_fields_are_no_failure(calm: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    """What the task does not say is said to be missing."""
    text = report(monkeypatch, given)
    assert "Not given with the task." in text and "No sibling given with the task." in text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"host report", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"node": 3}', "node is not an object"),
        (b'{"node": {"skew_s": [1]}}', "node.skew_s is not an object"),
        (b" " * (1 << 20) + b"{}", "larger than"),
    ],
    ids=["empty", "text", "not UTF-8", "deep", "array", "node", "skew", "large"],
)
def test_bad_input(tmp_path: Path, data: bytes, says: str) -> None:
    """Bad input is one line on standard error with the mend, exit code 2, and no report."""
    done = real(tmp_path, data)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("outlast-host-report: ") and says in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_bad_threshold(tmp_path: Path) -> None:
    """A threshold that is no number is named, with an example."""
    done = real(tmp_path, b"{}", OUTLAST_REPORT_CELSIUS="hot")
    assert done.returncode == 2 and "OUTLAST_REPORT_CELSIUS is hot" in done.stderr


def test_report_that_cannot_be_written(tmp_path: Path) -> None:
    """A place that cannot be written to is one line on standard error and exit code 1."""
    (tmp_path / "report.md").mkdir()
    done = real(tmp_path, b"{}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "report.md could not be written" in done.stderr and done.stderr.count("\n") == 1
