"""One job of launchd: its process, and the times at which it is started.

Keeps: at most one process; the whole process group ends with it unless AbandonProcessGroup says otherwise. Leaves to others:
when it is to be started again (keeping.py), and what orders say (daemon.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import grp
import os
import pwd
import resource
import signal
import subprocess
import sys

from launchd_double import keeping
from launchd_double.definition import LIMITS, Definition

# What launchctl shows of a job whose log or directory cannot be opened, and a good guess for a program that is not there.
EX_CONFIG = 78
PATH_LOOK_S = 0.5
# A wall clock may be set: what is due at a time of day is looked at this often.
CLOCK_LOOK_S = 15.0


class Job:
    """A job that is loaded."""

    def __init__(self, definition: Definition, patience: int) -> None:
        self.definition = definition
        self.patience = keeping.Patience(patience)
        self.process: subprocess.Popen[bytes] | None = None
        self.runs = 0
        self.ended: keeping.Ended | None = None
        self.removed: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._spawned_at = float("-inf")
        self._spawn: asyncio.TimerHandle | None = None
        self._timers: list[asyncio.Task[None]] = []

    @property
    def state(self) -> str:
        """What launchctl calls it."""
        if self.process:
            return "SIGTERMed" if self.removed else "running"
        return "spawn scheduled" if self._spawn else "not running"

    def load(self) -> None:
        """Start it if that is what loading it means, and begin to look at clock and paths."""
        job = self.definition
        if job.run_at_load or keeping.wanted(job.keep_alive, None, os.path.exists):
            self.spawn()
        if job.start_interval_s:
            self._timers.append(self._loop.create_task(self._every(job.start_interval_s)))
        if job.calendar:
            self._timers.append(self._loop.create_task(self._by_calendar()))
        if job.keep_alive.path_state:
            self._timers.append(self._loop.create_task(self._by_path()))

    def spawn(self) -> None:
        """Start it now, unless it runs or is about to go."""
        if self._spawn:
            self._spawn.cancel()
            self._spawn = None
        if self.process or self.removed:
            return
        self._spawned_at = self._loop.time()
        self.runs += 1
        try:
            self.process = subprocess.Popen(
                self.definition.arguments,
                executable=self.definition.program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(self.definition),
                start_new_session=True,
                preexec_fn=lambda: _become(self.definition),
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._log(f"could not be spawned: {error}")
            self._after(keeping.Ended(EX_CONFIG))

    def look(self) -> None:
        """Take note of it if its process ended."""
        if self.process is None or (code := self.process.poll()) is None:
            return
        pid, self.process = self.process.pid, None
        if not self.definition.abandon_group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self._after(keeping.Ended(code) if code >= 0 else keeping.Ended(signal=-code))

    def kickstart(self, kill: bool) -> None:
        """Start it whatever its conditions say; with kill, end a running one first, which is then started again."""
        self.patience.renew()
        if self.process and kill:
            self.process.kill()
            self.process.wait()
            self.look()
        self.spawn()

    def remove(self) -> asyncio.Future[None]:
        """Ask it to end, insist after ExitTimeOut, start it no more; the future is done when it is gone."""
        if self.removed:
            return self.removed
        self.removed = self._loop.create_future()
        for timer in self._timers:
            timer.cancel()
        if self._spawn:
            self._spawn.cancel()
            self._spawn = None
        if self.process:
            self.process.terminate()
            self._loop.call_later(self.definition.exit_timeout_s or 3600, self._insist, self.process)
        else:
            self.removed.set_result(None)
        return self.removed

    def _insist(self, process: subprocess.Popen[bytes]) -> None:
        if self.process is process:
            self._log(f"did not end within {self.definition.exit_timeout_s} s, killing it")
            process.kill()

    def _after(self, ended: keeping.Ended) -> None:
        self.ended = ended
        self._log(f"ended by signal {ended.signal}" if ended.signal else f"ended with {ended.code}")
        if self.removed:
            self.removed.set_result(None)
            return
        since = self._loop.time() - self._spawned_at
        self.patience.ended(ended, since, self.definition.throttle_s)
        self._keep()

    def _keep(self) -> None:
        if self.process or self._spawn or not keeping.wanted(self.definition.keep_alive, self.ended, os.path.exists):
            return
        if self.patience.over:
            self._log(f"failed {self.patience.failures} times in a row: not started again until it is kickstarted")
            return
        delay = keeping.delay_s(self.definition, self._loop.time() - self._spawned_at)
        self._spawn = self._loop.call_later(delay, self.spawn)

    async def _every(self, interval_s: int) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self.spawn()

    async def _by_calendar(self) -> None:
        looked = datetime.datetime.now()
        while due := keeping.next_time(self.definition.calendar, looked):
            while (now := datetime.datetime.now()) < due:
                await asyncio.sleep(min((due - now).total_seconds(), CLOCK_LOOK_S))
            looked = now
            self.spawn()

    async def _by_path(self) -> None:
        while True:
            await asyncio.sleep(PATH_LOOK_S)
            if not self.patience.over:
                self._keep()

    def _log(self, text: str) -> None:
        print(f"{self.definition.label}: {text}", file=sys.stderr, flush=True)


def _environment(job: Definition) -> dict[str, str]:
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "XPC_FLAGS": "0x0", "XPC_SERVICE_NAME": job.label}
    if job.user:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(job.user)
            environment |= {"HOME": user.pw_dir, "LOGNAME": job.user, "SHELL": user.pw_shell, "USER": job.user}
    return environment | dict(job.environment)


def _become(job: Definition) -> None:
    """Runs in the new process: limits, user, umask, directory, logs; ends it where one of them cannot be had."""
    try:
        for name, which in LIMITS.items():
            soft, hard = resource.getrlimit(which)
            hard = job.hard_limits.get(name, hard)
            soft = min(job.soft_limits.get(name, soft), hard) if hard >= 0 else job.soft_limits.get(name, soft)
            if name in job.soft_limits or name in job.hard_limits:
                resource.setrlimit(which, (soft, hard))
        if job.user or job.group:
            _change_user(job)
        os.umask(job.umask)
        os.chdir(job.directory)
        # As the job's user, with his rights: stricter than Apple's launchd, which opens them as root.
        for path, descriptor in ((job.out, 1), (job.err, 2)):
            if path:
                os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), descriptor)
    except (OSError, KeyError, ValueError):
        os._exit(EX_CONFIG)


def _change_user(job: Definition) -> None:
    user = pwd.getpwnam(job.user) if job.user else pwd.getpwuid(os.getuid())
    group = grp.getgrnam(job.group).gr_gid if job.group else user.pw_gid
    if os.getuid() == 0:
        os.initgroups(user.pw_name, group)
        os.setgid(group)
        os.setuid(user.pw_uid)
    elif (user.pw_uid, group) != (os.getuid(), os.getgid()):
        raise ValueError("only root may change users")
