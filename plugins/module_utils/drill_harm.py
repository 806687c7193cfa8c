"""What a node does in drills of harm: a full disk that is cleaned, sub-agents that run away, messages forged with its key.

Keeps: what is forged is signed by the key that would leak, in this process's memory alone; of it only one message, signed
and not sent yet, leaves it, to be tried when the key is refused. Leaves to others: taking the room (the module outage), the
rotation (roles/rotation).
"""

from __future__ import annotations

import gzip
import math
import os
import secrets
import ssl
import time
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

from ansible_collections.outlast.agents.plugins.module_utils import processes
from ansible_collections.outlast.agents.plugins.module_utils.drill_node import DrillTrouble, Node, moment

from outlast.config import load_config
from outlast.core import webhook
from outlast.core.keys import secrets_of, signing
from outlast.messages import Note, sealed
from outlast.store.keyring import Keyring

__all__ = ["ACTS"]

Facts = dict[str, Any]
_LOOK_S, _APART_S = 60.0, 30.0
_DAYS = 20
_LINE = b'{"event":"drill","text":"a log of some days ago, to be compressed when the disk is full"}\n'
_LINES = 20_000
# A program that never ends, known by a number that nothing else has.
_ENDLESS = ("/bin/sleep", "864017")
_MOST = 40


def plant(node: Node) -> Facts:
    """Leave the log of a day that has none."""
    today = datetime.fromtimestamp(node.run).date()
    days = [node.home.logs / f"{today - timedelta(days=ago)}.jsonl" for ago in range(1, _DAYS)]
    free = [path for path in days if not path.exists() and not path.with_name(f"{path.name}.gz").exists()]
    if not free:
        raise DrillTrouble(
            f"{node.home.logs}: there is a log of each of the last {_DAYS} days, and no room for one more"
        )
    free[0].write_bytes(_LINE * _LINES)
    return {}


def cleaned(node: Node) -> Facts:
    """The log was compressed, and nothing of it is lost."""

    def compressed() -> bool:
        return any(path.suffix == ".gz" for path in _planted(node))

    node.until(compressed, _LOOK_S, "logs that are compressed")
    whole = []
    for path in _planted(node):
        with _content(path) as file:
            whole += [path] if file.read() == _LINE * _LINES else []
    return {"lost": [] if whole else ["a log: what was compressed is not what it was"]}


def unplant(node: Node) -> Facts:
    """Take the log away again."""
    for path in _planted(node):
        path.unlink()
    return {}


def _planted(node: Node) -> list[Path]:
    found = []
    for path in node.home.logs.glob("????-??-??.jsonl*"):
        # It may be on its way to another name.
        with suppress(OSError, EOFError), _content(path) as file:
            if file.read(len(_LINE)) == _LINE:
                found.append(path)
    return found


def _content(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else open(path, "rb")


def forge(node: Node, to: str, count: int) -> Facts:
    """Sign as this node, and send notes that it never wrote; keep one back, signed already."""
    config = load_config(node.home.config)
    key = signing(Keyring(node.home.keys, config.node, list(config.peers)).own)
    # Who overhears the channel knows its numbers, and takes the last one.
    seq = int(node.order("status")["channels"][to]["sent"])
    sent = []
    for number in range(count + 1):
        msg_id, now = f"note_{secrets.token_hex(12)}", int(time.time())
        text = f"a drill forged this: {number}"
        body = sealed(node.name, to, secrets.token_hex(16), "", Note(text=text))(seq)
        headers = {
            "content-type": "application/json",
            "webhook-id": msg_id,
            "webhook-timestamp": str(now),
            "webhook-signature": webhook.sign(secrets_of((key,)), msg_id, now, body),
        }
        sent.append({"headers": headers, "body": body.decode(), "text": text})
    url = f"{config.peers[to].url}/inbox/{node.name}"
    answers = [_post(url, one) for one in sent[:count]]
    if set(answers) - {200, 202}:
        raise DrillTrouble(f"{to} answered {answers} to what was forged with the right key")
    return {"at": time.time(), "url": url, "spare": sent[count], "texts": [str(one["text"]) for one in sent[:count]]}


def audited(node: Node, agent: str, forge: Facts) -> Facts:
    """The audit of the sender lists what was forged."""
    # The other node may have begun before this one, and by a clock of its own.
    since = datetime.fromtimestamp(min(node.since, float(forge["at"])) - _APART_S, UTC).isoformat()
    found = node.cli("audit", agent, "--since", since)
    report = node.home.workspace / found["report"]
    if found["messages"] < len(forge["texts"]) or not found["unlike"]:
        raise DrillTrouble(f"outlast audit {agent}: {len(forge['texts'])} were forged, and {'; '.join(found['said'])}")
    told = f"audit of {found['messages']} messages, {found['unlike']} unlike {agent}: {os.path.basename(report)}"
    return {"at": time.time(), "alerts": [told]}


def refused(node: Node, forge: Facts) -> Facts:
    """What is signed with the leaked key is refused."""
    answer = _post(str(forge["url"]), forge["spare"])
    return {"at": time.time(), "lost": [] if answer == 401 else [f"the leaked key is let in still ({answer})"]}


def _post(url: str, message: dict[str, Any]) -> int:
    request = urllib.request.Request(url, message["body"].encode(), message["headers"])  # noqa: S310 (of node.yml)
    # A forger does not ask who answers.
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anyone))
    try:
        with opener.open(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        raise DrillTrouble(f"{url}: {error}") from error


def runaway(node: Node) -> Facts:
    """Start sub-agents that never end, as many as it takes to switch their feature off; each is given a second a run."""
    off_after = load_config(node.home.config).subagents.off_after
    began = time.time()
    return {"at": began, "ids": [_spawn(node, f"runs away {number}", *_ENDLESS) for number in range(off_after)]}


def killed(node: Node, runaway: Facts) -> Facts:
    """The first of them was ended for its time, and its task queued again."""
    event = node.event("subagent.ended", _LOOK_S, name=runaway["ids"][0], verdict="failed", attempt=1)
    node.event("subagent.ended", _LOOK_S, name=runaway["ids"][0], verdict="failed", attempt=2)
    return {"at": moment(event["at"]), "found": f"{event['name']}: {event['detail']}; queued again"}


def off(node: Node, runaway: Facts) -> Facts:
    """The feature is switched off; each task was tried as often as may be and handed back, and nothing of them runs."""
    event = node.event("feature.off", _LOOK_S, name="subagents")
    attempts = load_config(node.home.config).subagents.attempts
    lost = []
    for name in runaway["ids"]:
        ended = node.order("subagents/wait", {"id": name, "seconds": 30})
        if (ended["status"], ended["attempts"]) != ("failed", attempts):
            lost.append(f"{name}: {ended['status']} after {ended['attempts']} runs")
        if not any(name in one.what for one in node.records()):
            lost.append(f"{name}: the journal does not hand its task back")
    left = [one for one in processes.of_home(str(node.home.root)) if _ENDLESS[1] in one.command]
    lost += [f"{one.pid}: it still runs" for one in left]
    return {"at": moment(event["at"]), "lost": lost}


def on(node: Node) -> Facts:
    """A person turns it on again."""
    if node.status().get("subagents", {}).get("off"):
        node.order("feature/on", {"name": "subagents"})
    return {"at": time.time()}


def again(node: Node) -> Facts:
    """Sub-agents work again: as many as it takes that a day with a drill in it looks no worse than the rule allows."""
    day, rule = node.status()["subagents"]["day"], load_config(node.home.config).alerts.subagent_success / 100
    needed = day["failed"] * rule / max(1.0 - rule, 0.01) - day["done"]
    at, lost = 0.0, []
    for number in range(min(_MOST, max(1, math.ceil(needed)))):
        name = _spawn(node, f"works again {number}", "/bin/sh", "-c", "exit 0")
        ended = node.order("subagents/wait", {"id": name, "seconds": 30})
        at = at or time.time()
        lost += [] if ended["status"] == "done" else [f"{name}: {ended['status']} ({ended['detail']})"]
    return {"at": at, "lost": lost}


def _spawn(node: Node, task: str, *command: str) -> str:
    found = node.cli("spawn", "--task", f"a drill: {task}", "--timeout", "1s", "--json", "--", *command)
    return str(found["id"])


ACTS = {
    "plant": plant,
    "cleaned": cleaned,
    "unplant": unplant,
    "forge": forge,
    "audited": audited,
    "refused": refused,
    "runaway": runaway,
    "killed": killed,
    "off": off,
    "on": on,
    "again": again,
}
