"""The commands of ``outlast``."""

from __future__ import annotations

import re
import secrets
import time
from importlib import import_module
from typing import Any

import click
from click.shell_completion import get_completion_class

from outlast import __version__
from outlast.cli.common import Where, as_json, emit, fits
from outlast.cli.show import event_line, status_lines, tell, whose
from outlast.cli.tail import follow
from outlast.cli.talk import NotRunning, order
from outlast.core.ids import new_unit
from outlast.core.plainjson import from_json
from outlast.errors import BadInput, ControlError
from outlast.home import Home
from outlast.quantity import duration

__all__ = ["outlast"]

_EPILOG = (
    "Exit codes: 0 yes; 1 no (failed, not ready); 2 wrong usage; 3 the node is not running or the peer not reachable; "
    "4 not finished in time; 78 the configuration is wrong."
)


# Commands that live in modules of their own, imported when they are used: each import costs whoever types another one.
_ELSEWHERE: dict[str, str] = {
    "alert": "outlast.cli.alert:alert",
    "audit": "outlast.cli.audit:audit",
    "backup": "outlast.cli.backup:backup",
    "channel": "outlast.cli.channel:channel",
    "clean": "outlast.cli.clean:clean",
    "config": "outlast.cli.config:config",
    "dashboard": "outlast.cli.dashboard:dashboard",
    "doctor": "outlast.cli.doctor:doctor",
    "emergency": "outlast.cli.emergency:emergency",
    "health": "outlast.cli.health:health",
    "jobs": "outlast.cli.run:jobs",
    "keys": "outlast.cli.keys:keys",
    "logs": "outlast.cli.ps:logs",
    "maintenance": "outlast.cli.maintenance:maintenance",
    "merge-driver": "outlast.cli.merge:merge_driver",
    "note": "outlast.cli.note:note",
    "facts": "outlast.cli.shared:facts",
    "feature": "outlast.cli.feature:feature",
    "openclaw": "outlast.cli.openclaw:openclaw",
    "ps": "outlast.cli.ps:ps",
    "recover": "outlast.cli.doctor:recover",
    "restart": "outlast.cli.ps:restart",
    "run": "outlast.cli.run:run",
    "report": "outlast.cli.report:report_command",
    "spawn": "outlast.cli.spawn:spawn",
    "state": "outlast.cli.shared:state",
    "step": "outlast.cli.steps:step",
    "subagents": "outlast.cli.spawn:subagents",
    "token": "outlast.cli.spawn:token",
    "top": "outlast.cli.top:top",
    "trace": "outlast.cli.trace:trace",
}


class _Commands(click.Group):
    """The commands of this module, and those of ``_ELSEWHERE``."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted({*super().list_commands(context), *_ELSEWHERE})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """One command; its module is imported now."""
        if name not in _ELSEWHERE:
            return super().get_command(context, name)
        module, _, attribute = _ELSEWHERE[name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(
    cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--node", metavar="NAME", help="The node of this name, found in .outlast/ here or above.")
@click.option("--home", metavar="PATH", help="The node that lives in this folder.")
@click.version_option(__version__, prog_name="outlast")
@click.pass_context
def outlast(context: click.Context, node: str | None, home: str | None) -> None:
    """Look after an Outlast node: see how it is, reach its peers, hand work on.

    On a node the node is known; elsewhere say which: `outlast --node coz status`.
    """
    context.obj = Where(home, node)


@outlast.command()
@as_json
@click.pass_obj
def status(where: Where, as_json: bool) -> int:
    """Show how the node is.

    Health, mode, work in hand, the channel to each peer, and what the last start recovered.
    """
    home = where.home
    try:
        found = order(home, "status")
    except NotRunning as error:
        if as_json:
            emit({"node": home.node, "alive": False, "ready": False, "reasons": ["not running"]})
        else:
            tell(f"{home.node}: not running", err=True)
            tell(f"outlast: {error}", err=True)
        return 3
    if as_json:
        emit(found)
    else:
        tell("\n".join(status_lines(found, time.time())))
    return 0 if found["ready"] else 1


@outlast.command()
@click.argument("peer")
@as_json
@click.pass_obj
def ping(where: Where, peer: str, as_json: bool) -> int:
    """Reach PEER with a signed message, and back.

    Says how long it took, and how far the clocks are apart: `outlast ping axiom`.
    """
    answer = order(where.home, "ping", {"peer": _name(peer)})
    if as_json:
        emit(answer)
    else:
        tell(f"{peer} answered in {answer['ms']} ms, signed; its clock is {answer['skew_s']:+.3f} s from ours")
    return 0


@outlast.command()
@click.argument("peer")
@click.argument("task")
@click.option("--wait", default="10m", show_default=True, metavar="TIME", help="How long to wait for the confirmation.")
@click.option("--no-wait", is_flag=True, help="Return once the hand-off is on the disk.")
@as_json
@click.pass_obj
def handoff(where: Where, peer: str, task: str, wait: str, no_wait: bool, as_json: bool) -> int:
    """Hand a task to PEER, and see it confirmed.

    TASK is a text that the peer's agent understands: `outlast handoff axiom "host report"`.

    Once this says "handed", the task is done exactly once or reported, whatever is killed meanwhile. Exit code 0 when the
    peer's agent did it, 1 when it did not, 4 when it is not done in time (it goes on; look at `outlast show`).
    """
    home, config, peer = where.home, where.config, _name(peer)
    fits("TASK", task, 16_384, 'say what is to be done, such as "host report"')
    try:
        seconds = 0.0 if no_wait else duration(wait)
    except ValueError as error:
        raise BadInput("--wait", *str(error).split("; ", 1)) from error
    unit = new_unit(config.node, time.time(), secrets.randbits(18))
    deadline = time.monotonic() + seconds
    found = order(home, "handoff", {"unit": unit, "peer": peer, "task": task})
    if not as_json:
        tell(f"handed to {peer} as {unit}" + ("" if no_wait else ", waiting for its confirmation"), err=True)
    told = ""
    while found["status"] == "open" and (left := deadline - time.monotonic()) > 0:
        try:
            found = order(home, "wait", {"unit": unit, "seconds": min(left, 5.0)})
            if found["status"] == "open" and not as_json and (news := _progress(home, peer)) != told:
                told = news
                tell(told, err=True)
        except NotRunning:
            # The node is being started again; what was handed is on its disk.
            time.sleep(min(left, 0.2))
    code = _ended(found, peer, as_json, no_wait)
    if not as_json and found["status"] == "done" and (known := config.peers.get(peer)) and known.ssh:
        tell(f"bring it to {config.node}: outlast fetch {peer} {unit}")
    return code


def _progress(home: Home, peer: str) -> str:
    """Where a hand-off that takes its time stands."""
    channel = order(home, "status")["channels"].get(peer, {})
    if not channel.get("queued"):
        return f"{peer} has it and is at work"
    trouble = f" ({channel['last_error']})" if channel["last_error"] else ""
    return f"not delivered yet, {channel['queued']} in the queue for {peer}{trouble}"


def _name(peer: str) -> str:
    if re.fullmatch("[a-z][a-z0-9-]{0,31}", peer) is None:
        raise BadInput("PEER", f"{peer!r} is not a node's name", "see `outlast status` for the peers")
    return peer


def _ended(found: dict[str, Any], peer: str, as_json: bool, no_wait: bool) -> int:
    state = found["status"]
    if as_json:
        emit(found)
    elif state == "done":
        tell(f"done: {found['detail']}\n{peer} keeps it in workspace/artifacts/{found['unit']}/")
    elif state != "open":
        tell(f"{state}: {found['detail']}")
    elif not no_wait:
        tell(f"{found['unit']} is not confirmed yet; it goes on: outlast show {found['unit']}", err=True)
    if state == "open":
        return 0 if no_wait else 4
    return 0 if state == "done" else 1


@outlast.command()
@click.argument("unit")
@as_json
@click.pass_obj
def show(where: Where, unit: str, as_json: bool) -> int:
    """Show what became of a task, a hand-off or a step.

    UNIT is its name, as `outlast handoff` said it: `outlast show coz-d1zkffdmvrmx`. Exit code 1 when it failed, 4 while it
    is open.
    """
    found = order(where.home, "wait", {"unit": unit, "seconds": 0})
    if as_json:
        emit(found)
    else:
        tell(f"{unit} {whose(found)}, since {found['since']}: {found['what']}")
        tell(f"{found['status']}{': ' if found['detail'] else ''}{found['detail']} {found['ended']}".rstrip())
    return {"open": 4, "done": 0}.get(found["status"], 1)


@outlast.command()
@click.argument("peer")
@click.argument("unit", required=False)
@as_json
@click.pass_obj
def fetch(where: Where, peer: str, unit: str | None, as_json: bool) -> int:
    """Bring an artifact of PEER here, over SSH.

    UNIT is its name: `outlast fetch axiom coz-d1zkffdmvrmx`; without it, what PEER has is listed. It is in
    workspace/artifacts/ once it is whole and every file has the SHA-256 of its manifest. Exit code 0 also when it was here
    already, 1 when PEER has no such artifact or another one is here, 3 when PEER cannot be asked.
    """
    from outlast.cli import files

    home, config, peer = where.home, where.config, _name(peer)
    if unit:
        return files.bring(home, config, peer, unit, as_json)
    return files.show(home, config, peer, as_json)


@outlast.command()
@click.option("-n", "--lines", default=10, show_default=True, help="How many events of before to show.")
@click.option("--no-follow", is_flag=True, help="Stop after those.")
@as_json
@click.pass_obj
def tail(where: Where, lines: int, no_follow: bool, as_json: bool) -> int:
    """Follow the node's events as they come.

    Works while the node is down too. With --json each line is one JSON document.
    """
    for line in follow(where.home.logs, lines, follow=not no_follow):
        if as_json:
            click.echo(line)
            continue
        try:
            tell(event_line(from_json(line, dict)))
        except (KeyError, ValueError, TypeError):
            tell(line)
    return 0


@outlast.command()
@click.option("--reason", required=True, help="Why the emergency is over; it is kept in the journal.")
@as_json
@click.pass_obj
def resume(where: Where, reason: str, as_json: bool) -> int:
    """End an emergency; only a person can."""
    fits("--reason", reason, 512, "say why the emergency is over")
    found = order(where.home, "resume", {"reason": reason})
    if as_json:
        emit(found)
    else:
        why = (
            f" ({'; '.join(found['mode_reasons'])}): mend that, then resume again"
            if found["mode"] == "emergency"
            else ""
        )
        tell(f"{found['node']} is in mode {found['mode']}{why}", err=bool(why))
    return 0 if found["mode"] != "emergency" else 1


@outlast.command()
@as_json
@click.pass_obj
def verify(where: Where, as_json: bool) -> int:
    """Check the node from the outside in.

    Its door, its control, and a signed round trip to every peer. Nothing is changed.
    """
    from outlast.cli.verify import check

    report = check(where.home, where.config)
    if as_json:
        emit(report)
    else:
        for peer, answer in sorted(report["pings"].items()):
            if answer["ok"]:
                tell(f"{peer}: signed round trip in {answer['ms']} ms")
        for finding in report["findings"]:
            tell(f"{finding['field']}: {finding['wrong']}; {finding['mend']}", err=True)
        tell(f"{report['node']}: {'all well' if report['ok'] else 'not well, see above'}")
    return 0 if report["ok"] else 1


@outlast.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the completion script of a shell.

    For this session: eval "$(outlast completion bash)"
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise ControlError(f"completion for {shell} is not known to the installed click")
    click.echo(kind(outlast, {}, "outlast", "_OUTLAST_COMPLETE").source())
    return 0
