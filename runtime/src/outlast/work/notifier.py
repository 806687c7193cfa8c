"""Tells a person what the node's alerts say, by the rules of core.alerting, and keeps what could not be told.

Rules kept here: what is to be told, and was, lies in var/alerts.json and is written only when it changes; a message counts as
told once one URL took it, and a crash in between has it told twice rather than never; what nobody took is tried again with
backoff, and at once when something urgent comes; a node that nobody gave a URL writes nothing. After a start an alert that was
told and is not found again is over an hour later, not before: whoever finds it may not have looked yet.

Left to others: raising alerts (outlast.alerts), what is due (core.alerting), the sending (work.posting).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec

from outlast.alerts import Alert, Alerts
from outlast.clock import Clock, iso
from outlast.control import Order
from outlast.core import alerting
from outlast.core.alerting import Book, Item, Message, Urgency
from outlast.core.backoff import delay
from outlast.core.plainjson import from_json
from outlast.core.record import one_line
from outlast.errors import BadInput, DurabilityError, KeyFileError
from outlast.home import Home
from outlast.quantity import duration
from outlast.settings import Config
from outlast.store import durable, regular
from outlast.store.events import EventLog
from outlast.store.kept import read_kept
from outlast.work.drilling import as_drill, read_drills
from outlast.work.posting import Posted, post, read_urls

__all__ = ["Notifier", "read_book", "told_of", "try_out"]

# What one check finds is told in one message.
_GATHER_S = 1.0
_SETTLES_S = 3600.0
_BASE_S, _MOST_S = 10.0, 900.0
_NO_URL = "no alert URL is given: set outlast_alert_urls, then: ansible-playbook site.yml"
_KINDS = {"now": "failure", "soon": "warning"}


class _Test(msgspec.Struct, forbid_unknown_fields=True):
    urgency: Urgency = "soon"


class _Known(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


def read_book(home: Home) -> Book:
    """What is kept, only looked at; empty where there is nothing that can be read."""
    try:
        return from_json(regular.read(home.unsent_alerts), Book)
    except (OSError, ValueError):
        return Book()


async def try_out(home: Home, node: str, urgency: Urgency) -> dict[str, Any]:
    """Send a message to every URL now, whatever the hour. Raises KeyFileError; BadInput where there is none."""
    urls = read_urls(home.alert_urls)
    if not urls:
        mend = "set outlast_alert_urls in the inventory, then: ansible-playbook site.yml"
        raise BadInput("outlast_alert_urls", "nobody is told of alerts, no URL is given", mend)
    body = f"This is a test, asked for on {node}. Alerts that are {_MEANS[urgency]} look like this."
    posted = await post(urls, f"Outlast {node}: test", body, _KINDS[urgency])
    return {"node": node, "ok": all(one.ok for one in posted), "urls": msgspec.to_builtins(posted)}


_MEANS = {"now": "urgent", "soon": "not urgent"}


class Notifier:
    """The part that tells. ``settles_s``: after so many seconds an alert that nobody finds is over."""

    def __init__(
        self,
        config: Config,
        home: Home,
        events: EventLog,
        clock: Clock,
        alerts: Alerts,
        *,
        settles_s: float = _SETTLES_S,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Read what was kept; where that cannot be read, what still holds is told again, and no more."""
        kept = read_kept(home.unsent_alerts, Book, home.trash, events, clock, "alerts.forgotten")
        self._kept = kept or Book()
        by_name = {"service": set(config.services), "job": set(config.jobs), "external": set(config.external)}
        self.book = alerting.declared_only(self._kept, by_name)
        self._node = config.node
        self._look_s = duration(config.health.interval)
        self._home = home
        self._events = events
        self._clock = clock
        self._alerts = alerts
        self._uniform = uniform
        self._rules = alerting.rules_of(config.alerts)
        self._settled = clock.monotonic() + settles_s
        self._wake = asyncio.Event()
        # What the last message was to tell that nobody took, and how often in a row that was so.
        self._untold: frozenset[str] = frozenset()
        self._attempt, self._not_before = 0, 0.0
        # Why nobody can be told now: there is no URL that can be read, or nobody took the last message.
        self._nowhere = self._refused = ""
        self._posted: list[Posted] = []
        alerts.changed = self._wake.set
        self._mark()

    def orders(self) -> dict[str, Order]:
        """What the command asks for."""

        async def test(body: bytes) -> object:
            urgency = msgspec.json.decode(body or b"{}", type=_Test).urgency
            return await try_out(self._home, self._node, urgency)

        return {"alert/test": test, "alert/list": lambda _: self.listed(), "alert/known": self._know}

    def report(self) -> dict[str, Any]:
        """How telling goes: ``trouble`` says why nobody can be told, ``waiting`` how many alerts nobody was told of."""
        waiting = [name for name, item in self.book.items.items() if item.told is None and not item.ended]
        last = max((item.told for item in self.book.items.values() if item.told), default=None)
        return {"waiting": len(waiting), "last_told": last and iso(last), "trouble": self.trouble}

    @property
    def trouble(self) -> str:
        """Why nobody can be told now; empty where that is not known to be so."""
        return self._nowhere or self._refused

    def listed(self) -> dict[str, Any]:
        """Every alert, what was told of it, and where to. Raises nothing."""
        items = {one.name: _item(one) for one in self._alerts.raised}
        items |= {name: item for name, item in self.book.items.items() if not item.ended}
        return {
            "node": self._node,
            "trouble": self.trouble,
            "urls": msgspec.to_builtins(self._posted),
            "alerts": [
                {"name": name, **told_of(item), "untold": self._untold_for(item)} for name, item in items.items()
            ],
        }

    def _untold_for(self, item: Item) -> str:
        """Why nobody was told of it; empty where somebody was, or knows of it."""
        if item.told is not None or item.known:
            return ""
        local = time.localtime(self._clock.time())
        waits = alerting.why_untold(self.book, item, local.tm_hour * 60 + local.tm_min, self._rules)
        return self.trouble or waits or "it is about to be"

    def _know(self, body: bytes) -> object:
        """A person knows of it, and is told no more but that it is over."""
        name = msgspec.json.decode(body, type=_Known).name
        # Where nobody can be told nothing of them is kept, until somebody knows of one.
        held = {one.name: _item(one) for one in self._alerts.raised}
        held |= {known: one for known, one in self.book.items.items() if one.over is None}
        item = held.get(name)
        if item is None:
            names = f"one of: {', '.join(held)}" if held else "nothing holds now: outlast alert list"
            raise BadInput("NAME", f"there is no alert {one_line(name, 40)!r}", names)
        known = msgspec.structs.replace(item, known=True, told=item.told or self._clock.time())
        self.book = msgspec.structs.replace(self.book, items={**self.book.items, name: known})
        self._mark()
        self._keep()
        return {"node": self._node, "name": name, "known": True}

    def remember(self, *, silent: dict[str, float], study: str) -> None:
        """Keep what who watches must know after a start (core.alerting.Book)."""
        self.book = msgspec.structs.replace(self.book, silent=silent, study=study)
        self._keep()

    async def run(self) -> None:
        """Tell for ever, until cancelled."""
        while True:
            self._wake.clear()
            await self.step()
            await self._rest()

    async def _rest(self) -> None:
        """Until something changes; where anything may become due by the hour alone, no longer than until the next look."""
        waiter = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({waiter}, timeout=self._look_s if self.book.items or self._alerts.raised else None)
        finally:
            waiter.cancel()
        if self._wake.is_set():
            await asyncio.sleep(_GATHER_S)

    async def step(self) -> None:
        """Look at what holds, and tell what is due."""
        try:
            urls = read_urls(self._home.alert_urls)
            self._nowhere = "" if urls else _NO_URL
        except KeyFileError as error:
            urls, self._nowhere = [], str(error)
        if not urls and not self.book.items:
            return
        now = self._clock.time()
        raised = {one.name: _item(one) for one in self._alerts.raised}
        self.book, dropped = alerting.follow(self.book, raised, self._is_over, now, self._rules)
        for name in dropped:
            self._events.emit("alert.dropped", name=name, why=self.trouble or "nobody took it in time")
        self._mark()
        self._keep()
        local = time.localtime(now)
        message = alerting.due(self.book, now, local.tm_hour * 60 + local.tm_min, self._rules, _moment)
        if message and urls and self._may_try(message):
            await self._tell(message, urls)

    def _is_over(self, name: str) -> bool:
        return self._alerts.is_over(name) or self._clock.monotonic() >= self._settled

    def _may_try(self, message: Message) -> bool:
        is_news = message.urgent and not self._untold.issuperset(message.holding)
        return is_news or self._clock.monotonic() >= self._not_before

    async def _tell(self, message: Message, urls: list[str]) -> None:
        message = as_drill(message, self.book, read_drills(self._home))
        kind = "failure" if message.urgent else "warning" if message.holding else "success"
        self._posted = await post(urls, f"Outlast {self._node}: {message.title}", message.body, kind)
        names = [*message.holding, *message.ending]
        refused = [f"{one.to}: {one.why}" for one in self._posted if not one.ok]
        if len(refused) < len(urls):
            self.book = alerting.taken(self.book, message, self._clock.time())
            self._untold, self._refused, self._attempt, self._not_before = frozenset(), "", 0, 0.0
            self._keep()
            self._events.emit("alert.told", names=names, to=[one.to for one in self._posted if one.ok], refused=refused)
            return
        self._untold = frozenset(message.holding)
        self._refused = "; ".join(refused)
        self._not_before = self._clock.monotonic() + delay(self._attempt, _BASE_S, _MOST_S, self._uniform)
        self._attempt += 1
        self._events.burst("alert.untold", self._refused, names=", ".join(names))

    def _mark(self) -> None:
        """What a person knows of need not be shown to them."""
        self._alerts.known = frozenset(name for name, item in self.book.items.items() if item.known)

    def _keep(self) -> None:
        """Write the book down where it changed; where that fails, the next look tries again."""
        if self.book == self._kept:
            return
        try:
            durable.replace(self._home.unsent_alerts, msgspec.json.encode(self.book))
            self._kept = self.book
        except DurabilityError as error:
            self._events.burst("alert.not_kept", str(error))


def _item(alert: Alert) -> Item:
    return Item(alert.urgency, alert.text, datetime.fromisoformat(alert.since).timestamp())


def told_of(item: Item) -> dict[str, Any]:
    """One alert, as ``outlast alert list --json`` prints it."""
    times = {name: at and iso(at) for name, at in (("since", item.since), ("told", item.told), ("over", item.over))}
    return {"urgency": item.urgency, "text": item.text, **times, "known": item.known}


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
