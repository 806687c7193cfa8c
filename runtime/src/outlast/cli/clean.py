"""``outlast clean``: shows what will be freed, frees it, and says what came of it."""

from __future__ import annotations

from typing import Any

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import table, tell
from outlast.cli.talk import do
from outlast.core.record import one_line
from outlast.quantity import readable

__all__ = ["clean"]

_SHOWN = 20
# Packing gigabytes on a Pi takes its time; what was begun goes on whoever waits.
_PATIENCE_S = 6 * 3600.0
_WHAT = {
    "ballast": "give up room",
    "trash": "delete for good",
    "old log": "delete for good",
    "expired log": "move to the trash",
    "log": "compress",
    "artifact": "pack into the trash",
}
_STAYS = {
    "no backup": "no backup holds it",
    "open": "open work may write to it",
    "protected": "it is protected",
    "unreadable": "not all of it can be read",
    "trash": "past its time in the trash",
}


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be freed, and change nothing.")
@click.option("--empty-trash", is_flag=True, help="Delete for good what is past clean.trash_keep in the trash.")
@as_json
@click.pass_obj
def clean(where: Where, dry_run: bool, empty_trash: bool, as_json: bool) -> int:
    """Make room on the disk.

    Old logs are compressed, those past observe.keep or over observe.budget moved to the trash; old artifacts that a backup
    holds are packed into the trash. Works while the node is down too, and when nothing is free any more. Exit code 0 also when
    there was nothing to do, 1 when something could not be done.
    """
    home = where.home

    def ask(*, dry: bool) -> dict[str, Any]:
        return do(home, "clean", {"dry_run": dry, "empty_trash": empty_trash}, seconds=_PATIENCE_S)

    if as_json:
        found = ask(dry=dry_run)
        emit(found)
        return 1 if found["findings"] else 0
    found = ask(dry=True)
    tell("\n".join(_plan(found)))
    if found["will"] and not dry_run:
        found = ask(dry=False)
        tell("\n".join(_result(found)))
    tell("\n".join(_ending(found)))
    return 1 if found["findings"] else 0


def _plan(found: dict[str, Any]) -> list[str]:
    before = _free(found["before"])
    if not found["will"]:
        return [f"{found['node']}: nothing is to be cleaned; {before}"]
    rows = [
        [_WHAT[step["kind"]], one_line(step["name"]), readable(step["size"]), step["why"]] for step in found["will"]
    ]
    return [f"{found['node']}: {before}; what can be made smaller:", *_some(["what", "name", "size", "why"], rows)]


def _result(found: dict[str, Any]) -> list[str]:
    rows = [
        [_WHAT[one["kind"]], one_line(one["name"]), readable(one["freed"]), one_line(one["now"], 400) or "gone"]
        for one in found["done"]
    ]
    return ["", "done:", *_some(["what", "name", "freed", "now"], rows)] if rows else []


def _ending(found: dict[str, Any]) -> list[str]:
    lines = [f"could not: {one['about']}: {one['found']}; {one['done']}" for one in found["findings"]]
    for why, group in found["stays"].items():
        names = ", ".join(group["names"]) + (", …" if group["count"] > len(group["names"]) else "")
        lines.append(f"stays: {group['count']} ({readable(group['size'])}), {_STAYS.get(why, why)}: {names}")
    if found["changed"] and not found["dry_run"]:
        lines.append(f"before: {_free(found['before'])}; after: {_free(found['after'])}")
    return [*lines, "what next:", *(f"  {line}" for line in found["next"] or ["nothing is to be done"])]


def _free(disk: dict[str, Any]) -> str:
    return f"{readable(disk['free'])} ({disk['percent']:.1f} %) free"


def _some(head: list[str], rows: list[list[str]]) -> list[str]:
    more = [f"  and {len(rows) - _SHOWN} more: --json shows all"] if len(rows) > _SHOWN else []
    return [*(f"  {line}" for line in table([head, *rows[:_SHOWN]])), *more]
