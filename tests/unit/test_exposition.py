"""What /metrics answers, judged by Prometheus's own promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

from support.needs import missing

from outlast.core.exposition import metrics_text
from outlast.core.metrics import BOUNDS, Counts

STATUS: dict[str, Any] = {
    "node": "coz", "version": "0.1.0", "pid": 7, "since": "2026-11-21T05:09:07.123Z", "ready": True, "mode": "degraded",
    "services": {"ingress": "up", "agent": "missing"},
    "supervised": {"web": {"state": "running", "restarts": 3}, "board": {"state": "resting", "restarts": 9}},
    "channels": {
        "axiom": {"sent": 5, "received": 7, "gaps": 0, "repeats": 1, "queued": 2, "breaker": "open"},
    },
    "external": {"search": {"state": "closed", "breaker": "closed"}, "never": {"state": "unasked"}},
    "jobs": {
        "nightly": {"state": "failed", "last": {"verdict": "failed", "ended": "2026-11-21T05:00:00.000Z"}},
        "new": {"state": "waiting", "last": None},
    },
    "tasks": {"open": 1}, "handoffs": {"open": 0}, "refused": {"rate": 3, 'odd "reason"\\\n': 1},
    "alerts": [{"name": "disk", "urgency": "now", "text": "…"}], "disk_percent": 41.7, "skew_s": {"axiom": -0.25, "pi": None},
}  # fmt: skip


def status() -> dict[str, Any]:
    """A status with everything in it."""
    counts = Counts()
    for seconds in (0.001, 0.2, 7.0, 9000.0):
        counts.hear({"event": "task.closed", "verdict": "done", "seconds": seconds})
    counts.hear({"event": "message.refused"})
    observed = {"kinds": counts.report(), "rss": 31_000_000, "cpu_s": 1.25, "lag_s": 0.002, "spans_dropped": 0}
    return {**STATUS, "observer": observed}


def check(text: bytes) -> None:
    """promtool has nothing to say."""
    if shutil.which("promtool") is None:
        missing("promtool")
    told = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (told.returncode, told.stdout + told.stderr) == (0, b""), told.stderr.decode()


def test_promtool_accepts_all_of_it() -> None:
    """Format, names, types, units and help are as Prometheus wants them, of a node with everything and of one with nothing."""
    check(metrics_text(status()))
    nothing = {"supervised": {}, "channels": {}, "external": {}, "jobs": {}, "refused": {}, "alerts": [], "skew_s": {}}
    check(metrics_text({**STATUS, **nothing}))


def test_every_figure_is_where_it_belongs() -> None:
    """Modes, breakers, services, jobs, counters and buckets say what the status says."""
    lines = metrics_text(status()).decode().splitlines()
    for line in (
        'outlast_mode{mode="degraded"} 1', 'outlast_mode{mode="normal"} 0', "outlast_ready 1",
        'outlast_breaker_open{target="axiom"} 1', 'outlast_breaker_open{target="search"} 0',
        'outlast_service_up{service="web"} 1', 'outlast_service_up{service="board"} 0', 'outlast_service_up{service="agent"} 0',
        'outlast_service_restarts_total{service="web"} 3', 'outlast_job_ok{job="nightly"} 0',
        'outlast_alert{alert="disk",urgency="now"} 1', "outlast_disk_used_ratio 0.417",
        'outlast_clock_skew_seconds{peer="axiom"} -0.25', 'outlast_operations_total{kind="task",outcome="ok"} 4',
        'outlast_operations_total{kind="message_in",outcome="error"} 1', "outlast_process_resident_memory_bytes 31000000",
        'outlast_operation_duration_seconds_count{kind="task"} 4',
        'outlast_operation_duration_seconds_bucket{kind="task",le="+Inf"} 4',
        'outlast_operation_duration_seconds_bucket{kind="task",le="0.25"} 2',
        'outlast_messages_refused_total{reason="odd \\"reason\\"\\\\\\n"} 1',
    ):  # fmt: skip
        assert line in lines, line
    assert not any("never" in line or 'job="new"' in line or 'peer="pi"' in line for line in lines)


def test_buckets_add_up() -> None:
    """Each bucket holds those before it, and the last holds all."""
    text = metrics_text(status()).decode()
    counts = [int(count) for count in re.findall(r'_bucket\{kind="task",le="[^"]+"\} (\d+)', text)]
    assert len(counts) == len(BOUNDS) + 1 and counts == sorted(counts) and counts[-1] == 4
