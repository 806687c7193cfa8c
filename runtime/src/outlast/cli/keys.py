"""``outlast keys``: see, make, change and take back the keys that messages are signed with.

Rules kept here: a secret is printed by ``show``, for a pipe, and once by ``add``; it is read from standard input only.

Left to others: what a key's states mean (core.keys), the order in which nodes rotate (rotate-keys.yml).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import click

from outlast.cli.common import Where, as_json, emit, named
from outlast.cli.show import table, tell
from outlast.cli.talk import do
from outlast.cli.tls import tls
from outlast.errors import BadInput
from outlast.quantity import duration

__all__ = ["keys"]

_SPARE_S = 30.0
_AGENTS = "outlast keys list shows them"


@click.group()
def keys() -> None:
    """Look after the keys that messages are signed with.

    `ansible-playbook rotate-keys.yml` changes them on all nodes, in the order in which no message is refused: new keys are
    prepared, accepted by every peer, used, and the old ones retired. These are its single steps, and a key that leaked is
    revoked here: `outlast keys revoke axiom`. Works with the runtime dead too.
    """


def _give(
    where: Where, name: str, body: object, as_json: bool, line: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    answer = do(where.home, f"keys/{name}", body, seconds=duration(where.config.messages.total_timeout) + _SPARE_S)
    if as_json:
        emit(answer)
    else:
        tell(line(answer))
    return answer


keys.add_command(tls)


@keys.command()
@as_json
@click.pass_obj
def init(where: Where, as_json: bool) -> int:
    """Make the node's own key where there is none.

    The secret is not shown.
    """
    from outlast.store.keyring import make_key, read_ring

    config = where.config
    path = where.home.keys / f"{config.node}.key"
    changed = make_key(path, config.keys.kind)
    read_ring(path)
    if as_json:
        emit({"changed": changed, "path": str(path)})
    else:
        tell(f"{'made' if changed else 'kept'} {path}")
    return 0


@keys.command("list")
@as_json
@click.pass_obj
def listed(where: Where, as_json: bool) -> int:
    """Show all keys: id, state, kind and age, never a secret."""
    found = do(where.home, "keys/list")
    if as_json:
        emit(found)
    else:
        tell("\n".join(_lines(found)))
    return 0


def _lines(found: dict[str, Any]) -> list[str]:
    rows = [["agent", "key", "state", "kind", "age", "rotation"]]
    for key in found["keys"]:
        age = "-" if key["age_s"] is None else _age(key["age_s"])
        rows.append([key["agent"], key["id"], key["state"], key["kind"] or "-", age, key["rotation"]])
    lines = table(rows)
    for agent, state in found["rotations"].items():
        if state != "settled":
            told = "the next key waits" if state == "prepared" else "the key before is still accepted"
            lines.append(f"{agent}: {told}; ansible-playbook rotate-keys.yml goes on")
    if found["overdue"]:
        lines.append(f"the key of {found['node']} is overdue: ansible-playbook rotate-keys.yml")
    return lines


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


@keys.command()
@click.option("--rotation", metavar="LABEL", help="What this rotation is called; one that goes on keeps its key.")
@as_json
@click.pass_obj
def prepare(where: Where, rotation: str | None, as_json: bool) -> int:
    """Make the node's next key, which does not sign yet."""
    from outlast.core.keys import LABEL

    def line(found: dict[str, Any]) -> str:
        how = "is prepared" if found["changed"] else "was prepared already"
        return f"{found['id']} {how}: once every peer accepts it, outlast keys use"

    if rotation is not None and re.match(LABEL, rotation) is None:
        raise BadInput("--rotation", f"{rotation!r} is not a label", "use 1 to 64 of A-Z a-z 0-9 . _ : -")
    _give(where, "prepare", {"rotation": rotation}, as_json, line)
    return 0


@keys.command()
@as_json
@click.pass_obj
def use(where: Where, as_json: bool) -> int:
    """Sign with the newest key from now on.

    Returns once nothing is on its way that was signed with an older one; exit code 4 where that takes too long.
    """

    def line(found: dict[str, Any]) -> str:
        late = "" if found["drained"] else "; something signed with an older key may still be on its way"
        return f"{found['id']} {'signs now' if found['changed'] else 'signed already'}{late}"

    return 0 if _give(where, "use", None, as_json, line)["drained"] else 4


@keys.command()
@as_json
@click.pass_obj
def retire(where: Where, as_json: bool) -> int:
    """Let go of the keys before the one that signs.

    Their secrets are erased.
    """
    _give(
        where, "retire", None, as_json, lambda found: f"retired: {', '.join(found['ended']) or 'nothing was left to'}"
    )
    return 0


@keys.command()
@click.argument("agent")
@click.option("--id", "ids", multiple=True, metavar="ID", help="This key alone; may be given several times.")
@as_json
@click.pass_obj
def revoke(where: Where, agent: str, ids: tuple[str, ...], as_json: bool) -> int:
    """Never again accept the keys of AGENT: they leaked.

    At once and for good. AGENT is a peer, an outside service, or this node, which then signs nothing until it has used a
    new key. On this node only: `ansible-playbook rotate-keys.yml -e leaked=AGENT` does it everywhere.
    """

    from outlast.core.keys import KEY_ID

    def line(found: dict[str, Any]) -> str:
        told = f"{agent}: revoked {', '.join(found['ended'])}" if found["ended"] else f"{agent}: nothing was accepted"
        told += f"; not known here, and never will be: {', '.join(found['unknown'])}" if found["unknown"] else ""
        return told if found["signs"] else f"{told}; no key signs now: outlast keys prepare, then use"

    named("AGENT", agent, _AGENTS)
    for one in ids:
        if re.match(KEY_ID, one) is None:
            raise BadInput("--id", f"{one!r} is not a key's id", _AGENTS)
    _give(where, "revoke", {"agent": agent, "ids": list(ids) or None}, as_json, line)
    return 0


@keys.command()
@click.argument("agent")
@as_json
@click.pass_obj
def accept(where: Where, agent: str, as_json: bool) -> int:
    """Take in the keys of the peer AGENT.

    They are read from standard input, as `outlast keys show` prints them there. What was revoked here stays so.
    """
    from outlast.core.ringtext import RING_LIMIT

    named("AGENT", agent, _AGENTS)
    if sys.stdin.isatty():
        raise BadInput("ring", "standard input is a terminal", f"pipe in what `outlast keys show` prints on {agent}")
    try:
        text = sys.stdin.buffer.read(RING_LIMIT + 1).decode("ascii")
    except UnicodeDecodeError:
        raise BadInput("ring", "not what a node's key file holds", f"on {agent}: outlast keys show") from None
    _give(
        where,
        "accept",
        {"agent": agent, "ring": text},
        as_json,
        lambda found: f"{agent}: accepted are {', '.join(found['accepted']) or 'none'}",
    )
    return 0


@keys.command()
@as_json
@click.pass_obj
def show(where: Where, as_json: bool) -> int:
    """Print the node's own keys for `outlast keys accept` on a peer.

    Of HMAC keys with their secrets: to a pipe only.
    """
    from outlast.core.keys import shared
    from outlast.core.ringtext import ring_text
    from outlast.store.keyring import read_ring

    if sys.stdout.isatty():
        mend = "pipe it into `outlast keys accept` on the peer; `outlast keys list` shows no secrets"
        raise BadInput("keys show", "it prints secrets, and this is a terminal", mend)
    home, node = where.home, where.config.node
    text = ring_text(shared(read_ring(home.keys / f"{node}.key")))
    if as_json:
        emit({"node": node, "ring": text})
    else:
        click.echo(text, nl=False)
    return 0


@keys.command()
@click.argument("name")
@click.option("--allow", "allow", multiple=True, required=True, metavar="TYPE", help="What it may send: note.")
@click.option(
    "--rate", type=click.IntRange(1, 100_000), metavar="N", help="How many a minute; messages.rate without it."
)
@as_json
@click.pass_obj
def add(where: Where, name: str, allow: tuple[str, ...], rate: int | None, as_json: bool) -> int:
    """Make the key of an outside service, such as a home automation.

    Prints the secret, which is not shown again. The service signs what it posts by Standard Webhooks:
    `outlast keys add home-assistant --allow note`.
    """
    named("NAME", name, "use lower-case letters, digits and -, a letter first, 32 at most")
    answer = do(where.home, "keys/add", {"name": name, "allow": list(allow), "rate": rate})
    if as_json:
        emit(answer)
        return 0
    tell(f"{name} may post {', '.join(allow)} to {answer['path']}; its secret, shown this once:", err=True)
    click.echo(answer["secret"])
    return 0


@keys.command()
@click.argument("name")
@as_json
@click.pass_obj
def remove(where: Where, name: str, as_json: bool) -> int:
    """Let an outside service in no longer.

    Its secret is erased.
    """
    named("NAME", name, _AGENTS)
    _give(where, "remove", {"name": name}, as_json, lambda found: f"{name} is let in no longer")
    return 0
