"""``outlast doctor`` and ``outlast recover``: is what the node remembers what lies there, and what to do where it is not."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click
import msgspec

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import tell
from outlast.cli.talk import do
from outlast.core.findings import Finding
from outlast.errors import BadInput, HeldError

if TYPE_CHECKING:
    from outlast.work.rebuild import Recovery

__all__ = ["doctor", "recover"]

_DEEP_S = 4 * 3600.0


@click.command()
@click.option("--deep", is_flag=True, help="Read every file of every artifact back, and every day of the journal.")
@as_json
@click.pass_obj
def doctor(where: Where, deep: bool, as_json: bool) -> int:
    """Compare what the node remembers with what lies there.

    What can be put right is put right, and each finding says what was done. Works with the runtime dead too. Exit code 0
    when all is well, or was put right, 1 when a person is needed.
    """
    report = do(where.home, "doctor", {"deep": deep}, seconds=_DEEP_S if deep else 300.0)
    if as_json:
        emit(report)
        return 0 if report["ok"] else 1
    findings = msgspec.convert(report["findings"], tuple[Finding, ...])
    for finding in findings:
        tell(finding.line(), err=not finding.ok)
    tell(f"{report['node']}: {_ending(findings, report['checked'])}")
    return 0 if report["ok"] else 1


def _ending(findings: tuple[Finding, ...], checked: str) -> str:
    needed = sum(not finding.ok for finding in findings)
    told = f"{len(findings) - needed} put right, noted or listed" if len(findings) > needed else ""
    yours = f"{needed} {'needs' if needed == 1 else 'need'} you: do what the line says" if needed else ""
    return f"{', '.join(filter(None, [told, yours])) or 'all well'} (checked: {checked})"


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@as_json
@click.pass_obj
def recover(where: Where, dry_run: bool, as_json: bool) -> int:
    """Rebuild STATE.json from the journal and the artifacts.

    The runtime must be stopped, but for --dry-run. Shows the difference to the old file, which is kept in var/trash. Where
    it cannot be rebuilt all stays as it was, and the node starts in emergency mode until `outlast resume`: exit code 1.
    """
    from outlast.clock import SystemClock
    from outlast.lock import held
    from outlast.work import rebuild

    home, node = where.home, where.config.node
    os.umask(0o077)
    try:
        # Looking alone disturbs nobody.
        with contextlib.nullcontext() if dry_run else held(home):
            done = rebuild.recover(home, node, SystemClock(), dry_run=dry_run)
    except HeldError as error:
        mend = "stop it first: ansible-playbook playbooks/recover-state.yml stops it, rebuilds and starts it again"
        pid = home.lock.read_text(encoding="utf-8", errors="replace").strip()
        raise BadInput("recover", f"{node} is running, or a command works in its place (pid {pid})", mend) from error
    if as_json:
        emit(done)
    else:
        if done.diff:
            tell(done.diff)
        for finding in done.findings:
            tell(finding.line(), err=not finding.ok)
        tell(f"{node}: {_told(done, dry_run)}", err=bool(done.emergency))
    return 1 if done.emergency else 0


def _told(done: Recovery, dry_run: bool) -> str:
    if done.emergency:
        end = (
            "nothing was written"
            if dry_run
            else "the node starts in emergency mode until `outlast resume --reason WHY`"
        )
        return f"{done.emergency}; all is as it was; {end}"
    if not done.changed:
        return "STATE.json says what the journal and the artifacts say"
    if dry_run:
        return "this is what `outlast recover` would change"
    return f"STATE.json was rebuilt{f'; the old one is {done.kept} in var/trash' if done.kept else ''}"
