"""``outlast feature``: what was switched off because it failed again and again, and switching it on."""

from __future__ import annotations

import time

import click

from outlast.cli.common import Where, as_json, emit, fits
from outlast.cli.show import ago, tell
from outlast.cli.talk import order

__all__ = ["feature"]


@click.group()
def feature() -> None:
    """See what is switched off, and switch it on.

    A feature that fails for good three times in a day switches itself off, and stays so until you have looked.
    """


@feature.command("list")
@as_json
@click.pass_obj
def listed(where: Where, as_json: bool) -> int:
    """Show the features: exit code 1 when any is off."""
    found = order(where.home, "feature/list")
    if as_json:
        emit(found)
    else:
        for name, one in found["features"].items():
            off = f"off, since {ago(one['since'], time.time())}: {one['why']}; outlast feature on {name}"
            tell(f"{name}: {'on' if one['on'] else off} ({one['what']})")
    return 0 if all(one["on"] for one in found["features"].values()) else 1


@feature.command()
@click.argument("name", metavar="FEATURE")
@as_json
@click.pass_obj
def on(where: Where, name: str, as_json: bool) -> int:
    """Switch FEATURE on again; its failures are counted anew."""
    found = order(where.home, "feature/on", {"name": name})
    emit(found) if as_json else tell(f"{name} is on")
    return 0


@feature.command()
@click.argument("name", metavar="FEATURE")
@click.option("--reason", required=True, help="Why; it is shown for as long as it is off.")
@as_json
@click.pass_obj
def off(where: Where, name: str, reason: str, as_json: bool) -> int:
    """Switch FEATURE off; what runs goes on, nothing new begins."""
    fits("--reason", reason, 200, "say why it is to be off")
    found = order(where.home, "feature/off", {"name": name, "reason": reason})
    emit(found) if as_json else tell(f"{name} is off: {found['why']}")
    return 0
