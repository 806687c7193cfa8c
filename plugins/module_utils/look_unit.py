"""How a service is: what its manager says, what it read at its start, whether it is ready.

Keeps: standard library only and nothing else of ours, because it runs in two ways: imported by a module, and as the text of
a program that an action sends to a node's Python. Changes nothing; of files only digests are taken. What the service itself
says may be a lie, as agents run under its name: what it names is read with bounds, and only compared. Leaves to others:
what is to be done about it (managers.py).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import stat
import subprocess
import sys
import urllib.parse
from typing import Any

MOST_BYTES = 1 << 20
MOST_FILES = 1000
PATIENCE_S = 5.0


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """Answer `questions` (the manager's commands), and tell of `loaded` in `home`, `definitions` and `ready_url`."""
    return {
        "answers": [answer(question) for question in asked["questions"]],
        "outdated": outdated(asked["home"], asked["loaded"], asked["definitions"]) if asked["loaded"] else "",
        "pid": told(asked["home"], asked["loaded"]).get("pid", 0) if asked["loaded"] else 0,
        "unready": unready(asked["ready_url"]) if asked["ready_url"] else "",
    }


def answer(question: list[str]) -> tuple[int, str]:
    """Exit code and output of a command; a program that is not there is 127, as in a shell."""
    try:
        done = subprocess.run(
            question,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 127, ""
    return done.returncode, done.stdout


def told(home: str, loaded: str) -> dict[str, Any]:
    """What the program that started last says of itself in the file `loaded` below its home; empty where it says nothing.

    `pid`, `release` (the environment it runs in) and `files`: SHA-256 by path below the home, "" for what it did not find.
    """
    try:
        said = json.loads(_read(os.path.join(home, loaded)) or b"{}")
    except (ValueError, RecursionError):
        return {}
    files = said.get("files") if isinstance(said, dict) else None
    return said if isinstance(files, dict) and len(files) <= MOST_FILES else {}


def outdated(home: str, loaded: str, definitions: list[str]) -> str:
    """What lies there now and is not what the program started with, or "" where it has all of it."""
    said = told(home, loaded)
    if not said:
        return loaded
    current = os.path.join(home, "current")
    if os.path.exists(current) and os.path.realpath(current) != said.get("release"):
        return "current"
    for path, digest in said["files"].items():
        content = _read(os.path.join(home, path))
        if ("" if content is None else hashlib.sha256(content).hexdigest()) != digest:
            return str(path)
    # The program wrote it at its start: a definition that is newer came after that.
    since = os.lstat(os.path.join(home, loaded)).st_mtime_ns
    newer = [path for path in definitions if os.path.exists(path) and os.lstat(path).st_mtime_ns > since]
    return newer[0] if newer else ""


def unready(url: str) -> str:
    """Why 200 is not what is answered to a GET of `http(s)://host:port/path`, or "" where it is."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
    if parts.scheme == "https":
        import ssl

        # Any certificate will do: nothing is told, and what answers is only compared.
        anyone = ssl.create_default_context()
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S, context=anyone)
    try:
        connection.request("GET", parts.path)
        got = connection.getresponse()
        body = got.read(300).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return getattr(error, "strerror", None) or str(error) or repr(error)
    finally:
        connection.close()
    return "" if got.status == 200 else "".join(c if c.isprintable() else " " for c in f"{got.status} {body}")


def _read(path: str) -> bytes | None:
    """A regular file's content, up to a bound; None where there is none. Waits for nobody.

    Nothing else is opened: to open a watchdog is to start it, and nobody would feed it.
    """
    held = -1
    try:
        if hasattr(os, "O_PATH"):
            # What is looked at is what is opened, whatever takes its place meanwhile.
            held = os.open(path, os.O_PATH)
            path = f"/proc/self/fd/{held}"
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
            return file.read(MOST_BYTES)
    except (OSError, ValueError):
        return None
    finally:
        if held >= 0:
            os.close(held)


if __name__ == "__main__":
    print(json.dumps(look(json.loads(sys.argv[1]))))
