"""No secret reaches a log, a diff, a process list or a file that others can read."""

from __future__ import annotations

import stat
import threading

import psutil

from .conftest import NODES, Clone


class Watch(threading.Thread):
    """Reads all command lines again and again until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.seen: set[str] = set()

    def run(self) -> None:
        """Collect command lines."""
        while not self.over.wait(0.02):
            for process in psutil.process_iter(["cmdline"]):
                self.seen.add(" ".join(process.info["cmdline"] or []))


def test_no_secret_is_shown(clone: Clone) -> None:
    """Keys, the agent's environment and where alerts go stay out of `-vvv --diff`, old values too, and of all command lines."""
    clone.forget()
    settings = clone.root / "inventory/local/group_vars/all/agent.yml"
    texts = []
    watch = Watch()
    watch.start()
    try:
        for canary in ("canary-one-7f3a", "canary-two-9b1c"):
            agent = f"outlast_agent: {{environment: {{TOKEN: {canary}}}}}\n"
            settings.write_text(f"{agent}outlast_alert_urls: ['json://person:{canary}@127.0.0.1:1/']\n")
            done = clone.make("up", "-vvv --diff")
            assert done.code == 0, done.text
            texts.append(done.text)
        config = (clone.home("coz") / "etc/node.yml").read_text()
    finally:
        watch.over.set()
        watch.join()
        settings.unlink()
    assert "canary-two-9b1c" in config
    alerts = clone.home("coz") / "etc/keys/alerts"
    assert alerts.read_text() == "json://person:canary-two-9b1c@127.0.0.1:1/\n"
    assert stat.S_IMODE(alerts.stat().st_mode) == 0o600
    assert "environment" in texts[1]
    rings = [path.read_text() for node in NODES for path in clone.home(node).glob("etc/keys/*.key")]
    keys = [line.split()[0] for ring in rings for line in ring.splitlines()]
    assert len(keys) == 4
    assert len(set(keys)) == 2
    for secret in [*keys, *(key.removeprefix("whsec_") for key in keys), "canary-one-7f3a", "canary-two-9b1c"]:
        assert not [text for text in texts if secret in text], "a secret is in Ansible's output"
        assert not [line for line in watch.seen if secret in line], "a secret is in a process list"
    logs = [path for node in NODES for path in clone.home(node).glob("**/*") if path.is_file() and "log" in path.parts]
    assert logs
    assert not [path for path in logs for key in keys if key.encode() in path.read_bytes()]
