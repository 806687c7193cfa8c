"""The real OpenClaw for tests: the release that we pin, installed once a machine, and a gateway on it in a minimal home.

Rules kept here: the release lies outside the checkout, where the images of test hosts lie (OUTLAST_IMAGES), under the name that
its locks give it, and is made by the product's own module, one run at a time, which says how far it is.
OUTLAST_OPENCLAW_RELEASE names one that is there already. Whoever starts a gateway stops it by process id, and it is proven
gone with all that it started.

Left to others: models (a test brings a provider of its own), services (the product's own launcher).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.action.openclaw_release import FILES, digest, sources  # noqa: E402
from ansible_collections.outlast.agents.plugins.module_utils.builds import BuildError, linked  # noqa: E402
from ansible_collections.outlast.agents.plugins.modules.openclaw_release import Releases, ensure  # noqa: E402

from outlast.home import Home
from outlast.openclaw import ingress, tokens
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw

from .live import free_port, until
from .needs import missing

__all__ = ["Gateway", "installed", "release"]

_START_S, _STOP_S = 240.0, 30.0
_HEARTBEAT_S = 20.0


def installed() -> Path:
    """The folder that an inventory calls openclaw_dir, with the release that we pin as the current one; made where it is not
    there yet, as the product makes it. Skips the test where that cannot be."""
    version = json.loads((FILES / "package.json").read_text())["dependencies"]["openclaw"]
    name = f"{version}-{digest(sources(version))}"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kept = Path(os.environ.get("OUTLAST_IMAGES") or Path(cache) / "outlast" / "images").parent
    folder = kept / "openclaw" / name
    found = Releases(str(folder), name)
    if linked(found.current) != name or not found.is_complete():
        values = {"version": version, "sources": sources(version), "wheelhouse": None, "keep": 2, "shared": False}
        began, failed = time.monotonic(), list[BuildError]()

        def build() -> None:
            try:
                ensure(found, {**values, "npm_cache": str(kept / "npm")}, False)
            except BuildError as error:
                failed.append(error)

        builder = threading.Thread(target=build)
        builder.start()
        while builder.is_alive():
            builder.join(_HEARTBEAT_S)
            print(f"openclaw: installing: {time.monotonic() - began:.0f} s", file=sys.__stderr__, flush=True)
        if failed:
            missing(f"OpenClaw: {failed[0]}")
    return folder


def release() -> Path:
    """The folder of the release."""
    named = os.environ.get("OUTLAST_OPENCLAW_RELEASE")
    return Path(named) if named else (installed() / "current").resolve()


class Gateway:
    """The real gateway of one node, in ``root/node``. Not started when made.

    ``providers``: a model provider's name to the port on loopback where it answers as OpenAI's API does; the first one is
    primary, the others are fallbacks. ``extra`` is laid over the configuration. ``home`` names a home that is there.
    """

    def __init__(
        self,
        root: Path,
        folder: Path | None = None,
        *,
        node: str = "axiom",
        agent: str = "axiom",
        providers: Mapping[str, int] | None = None,
        extra: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        port: int = 0,
    ) -> None:
        self.home = Home(root / node)
        told = OpenClaw(release=str(folder or release()), port=port or free_port(), agent=agent)
        self.place = Place(
            self.home, OpenClaw(**{name: getattr(told, name) for name in told.__struct_fields__} | dict(settings or {}))
        )
        self.token, self.hook_token = secrets.token_hex(24), secrets.token_hex(24)
        self.process: subprocess.Popen[bytes] | None = None
        self._layout()
        self.configure(agent, providers or {"one": 9}, extra or {})

    def _layout(self) -> None:
        """The folders as the roles lay them out: the agent's workspace is the node's."""
        home, place = self.home, self.place
        for folder in (
            home.config.parent,
            place.folder,
            home.workspace,
            place.state,
            home.outputs,
            home.root / "var/tmp",
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = place.state / "workspace"
        if not link.is_symlink():
            link.symlink_to(home.workspace)

    def configure(self, agent: str, providers: Mapping[str, int], extra: Mapping[str, Any]) -> None:
        """Write its configuration and its secrets anew."""
        place = self.place

        def model(name: str, port: int) -> dict[str, Any]:
            free = dict.fromkeys(("input", "output", "cacheRead", "cacheWrite"), 0)
            about = {"id": "fake-1", "name": name, "reasoning": False, "input": ["text"], "contextWindow": 128000}
            return {
                "baseUrl": f"http://127.0.0.1:{port}/v1",
                "api": "openai-completions",
                "apiKey": {"source": "file", "provider": "outlast", "id": f"/{name.upper()}_KEY"},
                "models": [{**about, "maxTokens": 4096, "cost": free}],
            }

        models = [f"{name}/fake-1" for name in providers]
        config = {
            "gateway": {
                "mode": "local",
                "port": place.settings.port,
                "bind": "loopback",
                "auth": {
                    "mode": "token",
                    "token": {"source": "file", "provider": "outlast-tokens", "id": "/gateway/token"},
                },
                "controlUi": {"enabled": False},
            },
            "hooks": {"$include": "./hooks.json"},
            "update": {"checkOnStart": False},
            "discovery": {"mdns": {"mode": "off"}},
            "models": {
                "mode": "replace",
                "catalogRefresh": {"enabled": False},
                "providers": {name: model(name, port) for name, port in providers.items()},
            },
            "agents": {
                "defaults": {
                    "skipBootstrap": True,
                    "heartbeat": {"every": "0m"},
                    "model": {"primary": models[0], "fallbacks": models[1:]},
                },
                "entries": {agent: {"name": agent, "workspace": str(self.home.workspace)}},
            },
            "tools": {"exec": {"mode": "full"}},
            "secrets": {
                "providers": {
                    "outlast": {"source": "file", "path": str(place.secrets), "mode": "json"},
                    "outlast-tokens": {"source": "file", "path": str(place.tokens), "mode": "json"},
                }
            },
            "logging": {"file": str(place.log), "consoleStyle": "json"},
            **extra,
        }
        hooks = ingress.held(place, self.hook_token)
        for path, value in (
            (place.secrets, {f"{name.upper()}_KEY": f"sk-{name}" for name in providers}),
            (place.tokens, {"gateway": {"token": self.token}}),
            (place.hooks, hooks),
            (place.config, config),
        ):
            path.touch(mode=0o600)
            path.write_text(json.dumps(value, indent=2))

    def start(self, *, wait: bool = True, limit: float = _START_S) -> None:
        """Start it; with ``wait`` return when it is ready."""
        assert self.process is None, "it runs already"
        with self.place.printed.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.place.command, "gateway", "run"],
                cwd=self.home.root, env=self.place.environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        if wait:
            until(lambda: self.ended() or self.ready(), limit=limit, what="a gateway that is ready")
            assert not self.ended(), f"the gateway did not start: {self.printed()[-2000:]}"

    def ended(self) -> bool:
        """Is its process over?"""
        return self.process is None or self.process.poll() is not None

    def ready(self) -> bool:
        """Does /readyz say so?"""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.place.url}/readyz", timeout=2.0) as answer:
            return bool(answer.status == 200)
        return False

    def printed(self) -> str:
        """All that it printed."""
        return self.place.printed.read_text(errors="replace") if self.place.printed.exists() else ""

    def run(self, *words: str, timeout: float = 180.0) -> subprocess.CompletedProcess[str]:
        """One of OpenClaw's own commands, with the environment that Outlast gives it."""
        command = [*self.place.command, *words]
        environment = self.place.environment()
        return subprocess.run(
            command, env=environment, cwd=self.home.root, capture_output=True, text=True, timeout=timeout, check=False
        )

    def turn(self, text: str, *, timeout: float = 180.0) -> str:
        """Let its agent take a turn; what it said."""
        done = self.run("agent", "--agent", self.place.settings.agent, "--message", text, "--json", timeout=timeout)
        assert done.returncode == 0, done.stderr[-1000:]
        said = json.loads(done.stdout[done.stdout.index("{") :])
        return "\n".join(part.get("text", "") for part in said["result"]["payloads"])

    def post(self, path: str, body: Mapping[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
        """POST to one of its hooks, with the token that it has now; status and answer."""
        request = urllib.request.Request(
            f"{self.place.url}{path}", json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {tokens.hooks(self.place)}", **headers},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60.0) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            text = refused.read()
            return refused.code, json.loads(text) if text.startswith(b"{") else {"text": text.decode(errors="replace")}

    def kill(self) -> None:
        """kill -9 of the gateway; what it started ends by itself, which is proven."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, then SIGKILL where it does not end; the exit code. It is proven gone with all that it started."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        process, self.process = self.process, None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            code = process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait(_STOP_S)
        with contextlib.suppress(AssertionError):
            until(lambda: not _session(process.pid), limit=5.0)
        for pid in _session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not _session(process.pid), limit=10.0, what="an end of all that the gateway started")
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", self.place.settings.port)), "the gateway's port is still open"
        return code

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _session(leader: int) -> list[int]:
    """The processes of a session that live (Linux; elsewhere the group alone can be asked, and nothing is said)."""
    return list(_members(leader)) if Path("/proc/self/stat").exists() else []


def _members(leader: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                yield int(stat.parent.name)
