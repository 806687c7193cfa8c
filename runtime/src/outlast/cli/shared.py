"""``outlast state`` and ``outlast facts``: what the nodes know together.

Rules kept here: on a terminal what agents wrote drives nothing; where the output goes elsewhere a value is printed as it is.
Left to others: the orders (outlast.work.shared).
"""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import ago, plain, table, tell
from outlast.cli.talk import do
from outlast.core.record import one_line
from outlast.errors import BadInput

__all__ = ["facts", "state"]

_WIDE = 60


@click.group()
def state() -> None:
    """Keep what all nodes know: values and sets, by name.

    What is written here reaches the other nodes when they can be reached; both sides may write meanwhile, and end up with the
    same. Of two values for one key the later one stays; an element of a set stays unless it was removed by one who knew it.
    """


@state.command("get")
@click.argument("key")
@as_json
@click.pass_obj
def state_get(where: Where, key: str, as_json: bool) -> int:
    """Print what KEY holds: its value, or the elements of a set, one a line.

    Exit code 1 where it holds nothing.
    """
    found = do(where.home, "state/get", {"key": key})
    if as_json:
        emit(found)
    elif not found["found"]:
        tell(f"{key} holds nothing", err=True)
    else:
        for text in [found["value"]] if "value" in found else found["elements"]:
            # In colour: or it would take out what looks like an order to a terminal.
            click.echo(plain(text) if sys.stdout.isatty() else text, color=True)
    return 0 if found["found"] else 1


@state.command("set")
@click.argument("key")
@click.argument("value")
@as_json
@click.pass_obj
def state_set(where: Where, key: str, value: str, as_json: bool) -> int:
    """Let KEY hold VALUE, on all nodes.

    VALUE is any text up to 16 KiB; `-` reads it from standard input, without the line's end that closes it.
    """
    done = do(where.home, "state/set", {"key": key, "value": _text("VALUE", value)})
    return _done(done, f"{key} is set", as_json)


@state.command("unset")
@click.argument("key")
@as_json
@click.pass_obj
def state_unset(where: Where, key: str, as_json: bool) -> int:
    """Take KEY's value away, on all nodes."""
    done = do(where.home, "state/unset", {"key": key})
    return _done(done, f"{key} is unset" if done["changed"] else f"{key} holds no value", as_json)


@state.command("add")
@click.argument("key")
@click.argument("element")
@as_json
@click.pass_obj
def state_add(where: Where, key: str, element: str, as_json: bool) -> int:
    """Add ELEMENT to the set KEY, on all nodes. `-` reads it from standard input."""
    done = do(where.home, "state/add", {"key": key, "value": _text("ELEMENT", element)})
    return _done(done, f"it is in {key}", as_json)


@state.command("discard")
@click.argument("key")
@click.argument("element")
@as_json
@click.pass_obj
def state_discard(where: Where, key: str, element: str, as_json: bool) -> int:
    """Remove ELEMENT from the set KEY, on all nodes. `-` reads it from standard input.

    Whoever adds it elsewhere without knowing of this keeps it in.
    """
    done = do(where.home, "state/discard", {"key": key, "value": _text("ELEMENT", element)})
    return _done(done, f"it is out of {key}" if done["changed"] else f"it was not in {key}", as_json)


@state.command("ls")
@click.argument("prefix", default="")
@as_json
@click.pass_obj
def state_ls(where: Where, prefix: str, as_json: bool) -> int:
    """List the keys that begin with PREFIX: what they hold, who wrote it, and when."""
    found = do(where.home, "state/ls", {"prefix": prefix})
    if as_json:
        emit(found)
        return 0
    rows = [["key", "value", "by", "when"]]
    for one in found["keys"]:
        value = one["value"] if "elements" not in one else f"{{{one['value']}}}"
        rows.append([one["key"], one_line(value, _WIDE), *_by(one)])
    _table(
        rows, found["more"], "nothing is kept yet" if not prefix else f"nothing begins with {prefix}", "give a PREFIX"
    )
    return 0


@click.group()
def facts() -> None:
    """Keep facts that all nodes know, and every fact that they replaced."""


@facts.command("add")
@click.argument("entity")
@click.argument("attribute")
@click.argument("value")
@as_json
@click.pass_obj
def facts_add(where: Where, entity: str, attribute: str, value: str, as_json: bool) -> int:
    """Add a fact: `outlast facts add coz battery "82 %"`. It counts instead of older ones about the same, which are kept.

    `-` reads VALUE from standard input.
    """
    order = {"entity": entity, "attribute": attribute, "value": _text("VALUE", value)}
    done = do(where.home, "facts/add", order)
    return _done(done, f"{entity} {attribute} is kept", as_json)


@facts.command("query")
@click.argument("entity", default="")
@click.argument("attribute", default="")
@click.option("--history", is_flag=True, help="Replaced facts too, the newest first.")
@as_json
@click.pass_obj
def facts_query(where: Where, entity: str, attribute: str, history: bool, as_json: bool) -> int:
    """Print the facts about ENTITY, or only its ATTRIBUTE, or all. Exit code 1 where there are none."""
    found = do(where.home, "facts/query", {"entity": entity, "attribute": attribute, "history": history})
    if as_json:
        emit(found)
    else:
        told = [[one["entity"], one["attribute"], one_line(one["value"], _WIDE), *_by(one)] for one in found["facts"]]
        rows = [["entity", "attribute", "value", "by", "when"], *told]
        _table(rows, found["more"], "no such fact is known", "name an ENTITY, or use --json")
    return 0 if found["facts"] else 1


def _text(field: str, given: str) -> str:
    """What was typed, or what standard input holds. Raises BadInput."""
    try:
        if given == "-":
            text = sys.stdin.buffer.read().decode()
            return text.removesuffix("\n")
        given.encode()
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise BadInput(field, "it is not UTF-8", "write it in UTF-8") from None
    return given


def _done(done: dict[str, Any], said: str, as_json: bool) -> int:
    if as_json:
        emit(done)
    else:
        tell(said)
    return 0


def _by(one: dict[str, Any]) -> tuple[str, str]:
    try:
        return one["agent"], ago(one["at"], time.time())
    except ValueError:
        # A peer wrote it, and no program reads it.
        return one["agent"], one_line(one["at"], 24)


def _table(rows: list[list[str]], more: int, nothing: str, mend: str) -> None:
    if len(rows) == 1:
        tell(nothing, err=True)
        return
    tell("\n".join(table(rows)))
    if more:
        tell(f"and {more} more: {mend}", err=True)
