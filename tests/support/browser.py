"""A headless Chromium, driven over its DevTools protocol through a pair of pipes: no port, no driver, no download.

Rules kept here: the browser is Debian's, with a profile of its own that is gone afterwards, and is ended by who started it; a page
counts what it asked of the network and what it complained of, so that a test can say that there was nothing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from .needs import missing

__all__ = ["Browser", "Page", "browser"]

_PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")
_FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--force-color-profile=srgb",
    "--font-render-hinting=none", "--lang=en-GB",
)  # fmt: skip
_PATIENCE_S = 30.0


@dataclass
class Page:
    """One tab. ``asked``: the addresses of its requests; ``complaints``: errors, refusals and what its scripts threw."""

    _browser: Browser
    _session: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def order(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        return self._browser.order(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self.order("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def see(self, width: int, height: int, *, scheme: str = "light", scale: float = 1) -> None:
        """How large the window is, in CSS pixels, and which colours the person prefers."""
        self.order(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        self.order("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self.order("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str, *, limit: float = _PATIENCE_S) -> Any:
        """Wait until a JavaScript expression is true; its value."""
        deadline = time.monotonic() + limit
        while not (value := self.run(script)):
            text = self.run("document.body && document.body.innerText")
            assert time.monotonic() < deadline, f"{script} did not come true within {limit} s; the page says:\n{text}"
            time.sleep(0.05)
        return value

    def text(self, selector: str = "body") -> str:
        """What a person reads there."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def press(self, key: str, code: int) -> None:
        """Press one key, such as Tab (9) or Enter (13)."""
        more = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.order("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page, all of it or what the window shows."""
        answer = self.order("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))

    def heard(self, event: dict[str, Any]) -> None:
        """What the browser tells of this page."""
        told = event["params"]
        match event["method"]:
            case "Network.requestWillBeSent":
                self.asked.append(told["request"]["url"])
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.complaints.append(told["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "assert"):
                self.complaints.append(json.dumps(told["args"]))


class Browser:
    """A running browser."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._number = 0
        self._answers: dict[int, Queue[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    def page(self) -> Page:
        """A new tab."""
        target = self.order("Target.createTarget", url="about:blank")["targetId"]
        session = self.order("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.order(f"{domain}.enable")
        return page

    def order(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._number += 1
        number, waiting = self._number, Queue[dict[str, Any]]()
        self._answers[number] = waiting
        asked = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        self._write(json.dumps(asked).encode() + b"\0")
        try:
            answer = waiting.get(timeout=_PATIENCE_S)
        except Empty:
            raise AssertionError(f"the browser did not answer {method}") from None
        assert "error" not in answer, (method, answer["error"])
        found: dict[str, Any] = answer["result"]
        return found

    def listen(self, pipe: int) -> None:
        """Read what it says until it ends."""
        rest = b""
        while data := os.read(pipe, 1 << 16):
            *whole, rest = (rest + data).split(b"\0")
            for message in map(json.loads, whole):
                if "id" in message:
                    self._answers.pop(message["id"]).put(message)
                elif message.get("sessionId") in self._pages:
                    self._pages[message["sessionId"]].heard(message)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser, for the length of the block."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        missing("a Chromium (Debian: chromium-headless-shell)")
    profile = tempfile.mkdtemp(prefix="chromium-")
    there, here = os.pipe(), os.pipe()
    # It reads its orders from descriptor 3, and answers on 4; its own sandbox wants rights that containers do not give.
    script = 'exec "$0" "$@" 3<&"$READS" 4>&"$WRITES"'
    words = [program, *_FLAGS, "--no-sandbox", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        ["bash", "-c", script, *words],
        env={**os.environ, "READS": str(there[0]), "WRITES": str(here[1]), "TZ": "UTC"},
        pass_fds=(there[0], here[1]), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    os.close(there[0])
    os.close(here[1])

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(there[1], view) :]

    running = Browser(write)
    reader = threading.Thread(target=running.listen, args=(here[0],), daemon=True)
    reader.start()
    try:
        yield running
    finally:
        # Its process group is its own: none of its helpers outlives the test.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        reader.join(10)
        for pipe in (there[1], here[0]):
            os.close(pipe)
        shutil.rmtree(profile, ignore_errors=True)
