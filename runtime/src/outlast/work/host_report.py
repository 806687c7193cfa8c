"""The agent that ships with Outlast: writes ``report.md``, what a person wants to know of this host.

Rules kept here: the first line is the verdict; a part that cannot be read says so and spoils no other part; processes are
shown by their names only, because command lines hold other people's secrets; the task is data and is never followed.
It is an agent like any other (docs/agents.md): task as JSON on standard input, file in the working directory, exit code.

Left to others: everything that is done about what it finds.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

__all__ = ["main"]

_TASK_BYTES = 1 << 20
_TOP = 5
_NAME_CHARS = 15  # the kernel's own name; psutil lengthens it from the command line, which may be anything
_FIGURES = {
    "DISK_PERCENT": 85,
    "MEMORY_PERCENT": 90,
    "SWAP_PERCENT": 80,
    "LOAD_PER_CORE": 2,
    "CELSIUS": 80,
    "SKEW_S": 60,
}
_WELL = {"up", "ready", "running", "active", "working", "busy", "idle", "ok", "closed", "starting"}
# What psutil and platform were seen to raise on machines that they do not know: one part fails, the others are of use.
_STRANGE = (psutil.Error, OSError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_UNSHOWN_TYPES = {"squashfs", "iso9660", "devfs", "autofs"}


class _BadInput(Exception):
    """What was given cannot be used; the text is one line for a person."""


def main() -> int:
    """Write the report of this host. Returns the exit code: 0 written, 1 it could not be written, 2 bad input."""
    try:
        report = _Report(_read_task(), _figures())
    except _BadInput as error:
        print(f"outlast-host-report: {error}", file=sys.stderr)
        return 2
    text = report.write()
    try:
        Path("report.md").write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"outlast-host-report: report.md could not be written: {error.strerror}", file=sys.stderr)
        return 1
    print(report.summary())
    return 0


class _Report:
    """The report as it grows: what is worth a look is collected while the parts are written."""

    def __init__(self, task: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        self._task = task
        self._node: Mapping[str, Any] = task.get("node") or {}
        self._name = _plain(self._node.get("name") or platform.node() or "this host")
        self._most = figures
        self._worries: list[str] = []
        self._gist: list[str] = []

    def write(self) -> str:
        """Read the host and return the report as Markdown."""
        parts: list[tuple[str, Callable[[], Iterator[str]]]] = [
            ("Host", self._host),
            ("Disks", self._disks),
            ("Memory", self._memory),
            ("Load", self._load),
            ("Temperature", self._temperature),
            ("Processes", self._processes),
            ("Services", self._services),
            ("Clock", self._clock),
            ("Network", self._network),
        ]
        body: list[str] = []
        for title, part in parts:
            body += ["", f"## {title}", ""]
            try:
                body += part()
            except _STRANGE as error:
                body.append(f"Could not be read: {_plain(str(error) or type(error).__name__, 120)}.")
        verdict = "healthy" if not self._worries else "worth a look"
        asked = ", ".join(f"{field} {_plain(self._task[field])}" for field in ("from", "unit") if self._task.get(field))
        head = [f"# {self._name}: {'; '.join([verdict, *self._worries]) if self._worries else verdict}", ""]
        head.append(time.strftime("Written %Y-%m-%d %H:%M:%S %Z") + (f" ({asked})." if asked else "."))
        return "\n".join([*head, *body, ""])

    def summary(self) -> str:
        """One line: the verdict, or the figures where all is well."""
        if self._worries:
            return f"{self._name}: worth a look: {'; '.join(self._worries)}"
        return f"{self._name}: healthy; {', '.join(self._gist)}"

    def _host(self) -> Iterator[str]:
        machine = platform.uname()
        if machine.system == "Darwin":
            system = f"macOS {platform.mac_ver()[0]}"
        else:
            system = machine.system
            with contextlib.suppress(OSError, KeyError):
                system = platform.freedesktop_os_release()["PRETTY_NAME"]
        with contextlib.suppress(OSError):
            model = Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace")
            yield f"- {_plain(model)}"
        yield f"- {_plain(machine.node)}: {_plain(system)}, {machine.system} {_plain(machine.release)}, {machine.machine}"
        booted = psutil.boot_time()
        up = _span(time.time() - booted)
        self._gist.append(f"up {up}")
        yield f"- up {up}, since {time.strftime('%Y-%m-%d %H:%M', time.localtime(booted))}"
        mode = _plain(self._node.get("mode") or "not given")
        if mode not in ("normal", "not given"):
            self._worries.append(f"mode is {mode}")
        yield f"- operating mode: {mode}"

    def _disks(self) -> Iterator[str]:
        yield from _table("Mounted at", "Size", "Free", "Used", "Inodes used")
        unread = []
        for mount in _mounts():
            try:
                usage, inodes = psutil.disk_usage(mount), os.statvfs(mount)
            except OSError as error:
                unread.append(f"{_plain(mount)} ({error.strerror})")
                continue
            named = 100 * (inodes.f_files - inodes.f_favail) / inodes.f_files if inodes.f_files else 0.0
            if usage.percent >= self._most["DISK_PERCENT"]:
                self._worries.append(f"disk {_plain(mount)} is {usage.percent:.0f} % full")
            elif named >= self._most["DISK_PERCENT"]:
                self._worries.append(f"disk {_plain(mount)} has used {named:.0f} % of its inodes")
            if mount == "/":
                self._gist.append(f"disk {usage.percent:.0f} %")
            figures = f"{_bytes(usage.total)} | {_bytes(usage.free)} | {usage.percent:.0f} % | {named:.0f} %"
            yield f"| {_plain(mount)} | {figures} |"
        if unread:
            yield from ("", f"Could not be read: {', '.join(unread)}.")

    def _memory(self) -> Iterator[str]:
        memory = psutil.virtual_memory()
        if memory.percent >= self._most["MEMORY_PERCENT"]:
            self._worries.append(f"memory is {memory.percent:.0f} % used")
        self._gist.append(f"memory {memory.percent:.0f} %")
        yield f"- memory: {_bytes(memory.available)} of {_bytes(memory.total)} available ({memory.percent:.0f} % used)"
        swap = psutil.swap_memory()
        if swap.total and swap.percent >= self._most["SWAP_PERCENT"]:
            self._worries.append(f"swap is {swap.percent:.0f} % used")
        used = f"{_bytes(swap.used)} of {_bytes(swap.total)} used ({swap.percent:.0f} %)"
        yield f"- swap: {used if swap.total else 'none'}"

    def _load(self) -> Iterator[str]:
        cores = os.cpu_count() or 1
        one, five, fifteen = (load / cores for load in os.getloadavg())
        if five >= self._most["LOAD_PER_CORE"]:
            self._worries.append(f"load is {five:.1f} per core")
        self._gist.append(f"load {five:.2f} per core")
        yield f"- per core, over 1, 5 and 15 minutes: {one:.2f}, {five:.2f}, {fifteen:.2f} ({cores} cores)"

    def _temperature(self) -> Iterator[str]:
        read = getattr(psutil, "sensors_temperatures", None)
        sensors = read() if read else {}
        for chip, values in sorted(sensors.items()):
            hottest = max(value.current for value in values)
            if hottest >= self._most["CELSIUS"]:
                self._worries.append(f"{_plain(chip)} is at {hottest:.0f} °C")
            yield f"- {_plain(chip)}: {hottest:.0f} °C"
        if not sensors:
            yield "No sensor that can be read here."

    def _processes(self) -> Iterator[str]:
        seen: list[tuple[int, float, psutil.Process]] = []
        hidden = 0
        for process in psutil.process_iter():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    seen.append((process.memory_info().rss, times.user + times.system, process))
            except psutil.NoSuchProcess:
                continue
            except (psutil.Error, OSError):
                hidden += 1
        busy = [found for found in seen if found[1] >= 1]
        largest = heapq.nlargest(_TOP, seen, key=lambda found: found[0])
        largest += heapq.nlargest(_TOP, busy, key=lambda found: found[1])
        top = {found[2].pid: found for found in largest}
        yield from _table("Process", "Id", "Memory", "CPU time since its start")
        for rss, seconds, process in sorted(top.values(), key=lambda found: -found[0]):
            with contextlib.suppress(psutil.Error, OSError):
                yield f"| {_plain(process.name()[:_NAME_CHARS])} | {process.pid} | {_bytes(rss)} | {_span(seconds)} |"
        rest = f" {hidden} more belong to others and could not be read." if hidden else ""
        yield from ("", f"The largest {_TOP} by memory and by CPU time, of {len(seen)}.{rest}")

    def _services(self) -> Iterator[str]:
        services: Mapping[str, Any] = self._node.get("services") or {}
        for name, state in sorted(services.items()):
            if str(state) not in _WELL:
                self._worries.append(f"service {_plain(name)} is {_plain(state)}")
            yield f"- {_plain(name)}: {_plain(state)}"
        if not services:
            yield "Not given with the task."

    def _clock(self) -> Iterator[str]:
        skews: Mapping[str, Any] = self._node.get("skew_s") or {}
        for peer, skew in sorted(skews.items()):
            if skew is None:
                yield f"- {_plain(peer)}: not measured yet"
                continue
            if abs(skew) >= self._most["SKEW_S"]:
                self._worries.append(f"clock is {abs(skew):.0f} s away from {_plain(peer)}'s")
            yield f"- {_plain(peer)} is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
        if not skews:
            yield "No sibling given with the task."

    def _network(self) -> Iterator[str]:
        up = {name for name, state in psutil.net_if_stats().items() if state.isup}
        found = False
        for name, addresses in sorted(psutil.net_if_addrs().items()):
            shown = [a.address.partition("%")[0] for a in addresses if a.family.name in ("AF_INET", "AF_INET6")]
            shown = [address for address in shown if not address.startswith(("127.", "fe80:")) and address != "::1"]
            if shown and name in up:
                found = True
                yield f"- {_plain(name)}: {', '.join(shown)}"
        if not found:
            self._worries.append("no network address besides its own loopback")
            yield "No address besides loopback."


def _read_task() -> dict[str, Any]:
    """The task from standard input. Raises _BadInput."""
    hint = "give the task as JSON on standard input, such as: echo '{}' | outlast-host-report"
    if sys.stdin is None or sys.stdin.isatty():
        raise _BadInput(f"no task; {hint}")
    data = sys.stdin.buffer.read(_TASK_BYTES + 1)
    if len(data) > _TASK_BYTES:
        raise _BadInput(f"the task is larger than {_TASK_BYTES} bytes; send a smaller one")
    try:
        task = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = str(error) if data.strip() else "it is empty"
        raise _BadInput(f"the task is not JSON ({reason}); {hint}") from error
    if not isinstance(task, dict):
        raise _BadInput(f"the task is not a JSON object; {hint}")
    node = task.get("node")
    if node is not None and not isinstance(node, dict):
        raise _BadInput("the task's field node is not an object; leave it out or see docs/agents.md")
    for field in ("services", "skew_s"):
        if node and not isinstance(node.get(field) or {}, dict):
            raise _BadInput(f"the task's field node.{field} is not an object; leave it out or see docs/agents.md")
    return task


def _figures() -> dict[str, float]:
    """From which figure on something is worth a look: the defaults, or OUTLAST_REPORT_... of the environment."""
    figures = {}
    for name, default in _FIGURES.items():
        text = os.environ.get(f"OUTLAST_REPORT_{name}", str(default))
        try:
            figures[name] = float(text)
        except ValueError as error:
            raise _BadInput(
                f"OUTLAST_REPORT_{name} is {_plain(text)}, which is not a number; such as {default}"
            ) from error
    return figures


def _mounts() -> list[str]:
    """Where real file systems are mounted, with the root's and the working directory's in any case, each once."""
    here = Path.cwd()
    while not here.is_mount():
        here = here.parent
    mounts = ["/", str(here)]
    with contextlib.suppress(*_STRANGE):
        mounts += [p.mountpoint for p in psutil.disk_partitions() if p.fstype not in _UNSHOWN_TYPES]
    by_device: dict[int, str] = {}
    for mount in mounts:
        if not mount.startswith("/System/Volumes/") or mount == "/System/Volumes/Data":
            with contextlib.suppress(OSError):
                by_device.setdefault(os.stat(mount).st_dev, mount)
    return list(by_device.values())


def _table(*titles: str) -> tuple[str, str]:
    return f"| {' | '.join(titles)} |", "|---" + "|---:" * (len(titles) - 1) + "|"


def _plain(value: object, most: int = 60) -> str:
    """Any value as text that is safe in a line of Markdown."""
    text = "".join(c if c.isprintable() else " " for c in str(value)[: 4 * most])
    text = " ".join(text.split())[:most]
    return "".join(f"\\{c}" if c in "\\|<`*[" else c for c in text)


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _span(seconds: float) -> str:
    """A duration in its two largest units."""
    seconds = max(int(seconds), 0)
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


if __name__ == "__main__":
    sys.exit(main())
