"""The short-lived program that sends one message through apprise: ``python -m outlast.work.send_alert``.

Where to and what come as JSON on standard input; what became of it goes to standard output as JSON, a line for each URL as soon
as it is known: which one, what the service is called, whether it took the message, and why not.

Rules kept here: nothing of a URL is ever printed; what apprise and the libraries under it log is looked at for the few words
that are told, and thrown away; it ends by itself in time, also where whoever started it is gone.

Left to others: when to send, and again (work.notifier).
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

_AT_ONCE = 8
_CODE = re.compile(r"\berror=(\d{3})\b")
_LATE_S = 5


class _Heard(logging.Handler):
    """What apprise logged last in each thread, in words that hold nothing of a URL."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: dict[int, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the status of the answer, or that there was none."""
        text = record.getMessage()
        if code := _CODE.search(text):
            self.said[threading.get_ident()] = f"it answered HTTP {code[1]}"
        elif "onnection error" in text or "Socket Exception" in text:
            self.said[threading.get_ident()] = "no connection"


def _send(url: str, number: int, order: dict[str, Any], heard: _Heard) -> dict[str, Any]:
    import apprise

    asset = apprise.AppriseAsset(async_mode=False, app_id="Outlast", app_desc="Outlast", app_url="")
    try:
        service = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            return {"to": f"line {number}", "ok": False, "why": "it is no URL that apprise knows"}
        name = f"{service.service_name} (line {number})"
        heard.said.pop(threading.get_ident(), None)
        ok = bool(service.notify(body=order["body"], title=order["title"], notify_type=order["kind"]))
        why = "" if ok else heard.said.get(threading.get_ident(), "it did not take the message")
    except Exception as error:  # noqa: BLE001 - the libraries of a hundred services; their words may hold a URL
        return {"to": f"line {number}", "ok": False, "why": f"apprise failed ({type(error).__name__})"}
    return {"to": name, "ok": ok, "why": why}


def main() -> int:
    """Send what standard input says. Returns the exit code: 0 also where nobody took it."""
    order = json.load(sys.stdin.buffer)
    # The alarm ends the process, whatever a service's library waits for.
    signal.alarm(int(order["seconds"]) + _LATE_S)
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    heard = _Heard()
    for name in ("apprise", "urllib3", "requests"):
        logging.getLogger(name).propagate = False
    logging.getLogger("apprise").addHandler(heard)
    urls: list[str] = order["urls"]
    with ThreadPoolExecutor(min(_AT_ONCE, len(urls))) as pool:
        asked = {pool.submit(_send, url, number, order, heard): number for number, url in enumerate(urls, 1)}
        for done in as_completed(asked):
            print(json.dumps([asked[done], done.result()]), file=answer, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
