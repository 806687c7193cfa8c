"""The dashboard's page in a real browser, of a real pair of nodes: what it shows, live, to everybody, and when it must not be believed.

With OUTLAST_PICTURES=docs/images its pictures are written there, for the README.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Browser, Page, browser
from support.household import AXIOM, COZ, busy, furnish
from support.live import LiveNode, pair, until
from support.npm import installed

pytestmark = pytest.mark.timeout(240)

PACKAGES = Path(__file__).resolve().parents[1] / "browser"
MOST_BYTES = 150_000
WIDE, PHONE = (1200, 900), (360, 740)
MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    """A browser."""
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def axe() -> str:
    """What looks for barriers."""
    return (installed(PACKAGES) / "node_modules/axe-core/axe.min.js").read_text()


@contextlib.contextmanager
def running(root: Path) -> Iterator[tuple[LiveNode, LiveNode]]:
    """coz and axiom, running, with a day behind them."""
    with pair(root, COZ, AXIOM) as (coz, axiom):
        furnish(coz, axiom)
        coz.start()
        axiom.start()
        busy(coz)
        until(lambda: coz.status()["dashboard"]["state"] == "up")
        yield coz, axiom


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveNode, LiveNode]]:
    """Two nodes for all tests that leave them as they were."""
    with running(tmp_path_factory.mktemp("house")) as nodes:
        yield nodes


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[LiveNode, LiveNode]]:
    """Two nodes for one test."""
    with running(tmp_path) as nodes:
        yield nodes


def opened(chrome: Browser, coz: LiveNode, size: tuple[int, int] = WIDE, scheme: str = "light") -> Page:
    """The page, as soon as it shows both nodes."""
    page = chrome.page()
    page.see(*size, scheme=scheme)
    page.open(f"http://127.0.0.1:{coz.port + 100}/")
    page.until("document.querySelector('#nodes-body article[aria-label=axiom] .facts') !== null")
    return page


def barriers(page: Page, axe: str) -> list[Any]:
    """What axe finds, of every rule that it has."""
    page.run(f"{axe};0")
    found: list[Any] = page.run(
        "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html)]))"
    )
    return found


def test_it_shows_both_nodes_and_asks_nobody_else(house: tuple[LiveNode, LiveNode], chrome: Browser) -> None:
    """Modes, services, jobs, channels, queue, what happened, curves, the backup: all from the node itself, without a complaint."""
    coz, axiom = house
    page = opened(chrome, coz)
    page.until("document.querySelector('#metrics').innerText.includes('commit')")
    text = page.until("document.body.innerText.includes('scheduler') && document.body.innerText")
    for shown in (
        "coz", "this node", "axiom", "peer", "normal", "gateway", "search", "scheduler", "morning-mail", "index", "breaker closed",
        "build the frontend", "code-intel, after #141", "service search", "out of memory", "started again", "mode degraded",
        "normal again", "read the release notes", "CPU", "Memory", "Last backup", "2 h ago", "commit",
    ):  # fmt: skip
        assert shown in text, (shown, text)
    assert page.run("document.querySelectorAll('.spark svg[role=img]').length") >= 5
    own = f"http://127.0.0.1:{coz.port + 100}/"
    assert all(url.startswith(own) for url in page.asked) and page.complaints == []


def test_what_changes_is_shown_without_a_reload_and_told_aloud(
    house: tuple[LiveNode, LiveNode], chrome: Browser
) -> None:
    """A person types MAINTENANCE_MODE; a service is killed; work is handed on: the page follows, and says the first to who listens."""
    coz, _ = house
    page = opened(chrome, coz)
    page.run("window.stayed = true")
    coz.cli("handoff", "axiom", "host report")
    page.until("document.querySelector('#channels-body').innerText.replace(/\\s+/g, ' ').includes('Sent 1')")
    coz.home.heartbeat.write_text("MAINTENANCE_MODE\n")
    page.until("document.querySelector('#verdict-body').innerText.includes('coz is in maintenance mode')")
    assert "coz is in maintenance mode" in page.text("#news")
    assert page.run("document.querySelector('#news').getAttribute('role')") == "status"
    assert page.run("document.title").startswith("coz is in maintenance mode")
    coz.home.heartbeat.write_text("\n")
    page.until("document.querySelector('#verdict-body').innerText.includes('well')")
    assert page.run("window.stayed") and page.complaints == []


def test_a_node_that_is_gone_is_said_to_be(nodes: tuple[LiveNode, LiveNode], chrome: Browser, axe: str) -> None:
    """Whose page it is: a banner with the age of what is shown, until it is back. Nothing on the page claims to be of now."""
    coz, _ = nodes
    page = opened(chrome, coz)
    coz.kill()
    page.until("document.querySelector('#old').innerText.includes('coz does not answer')")
    page.until("/What is shown is \\d+ s old/.test(document.querySelector('#old').innerText)")
    page.until("document.querySelector('#contact').innerText.includes('no answer for')")
    assert page.run("document.querySelector('#old').getAttribute('role')") == "alert"
    assert barriers(page, axe) == []
    coz.start()
    page.until("document.querySelector('#old').innerText === ''")
    page.until("document.querySelector('#contact').innerText === 'live'")


def test_a_peer_that_is_gone_is_shown_as_it_was(nodes: tuple[LiveNode, LiveNode], chrome: Browser, axe: str) -> None:
    """With the moment of its last word; and the node that misses it is degraded, and says why."""
    coz, axiom = nodes
    page = opened(chrome, coz)
    axiom.kill()
    page.until("document.querySelector('article[aria-label=axiom]').innerText.includes('no answer')")
    text = page.text("article[aria-label=axiom]")
    assert "What is shown here it said" in text and "scheduler" in text
    page.until("document.querySelector('#verdict-body').innerText.includes('coz is in degraded mode: axiom silent')")
    for size, scheme in ((WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")):
        page.see(*size, scheme=scheme)
        assert barriers(page, axe) == [], (size, scheme)
    # As much of it as a phone shows at once, as sharp as one.
    page.see(*PHONE, scheme="dark", scale=2)
    taken(page, "degraded", whole=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anybody_can_use_it(house: tuple[LiveNode, LiveNode], chrome: Browser, axe: str, scheme: str) -> None:
    """On a phone as on a screen, light or dark, by keyboard alone: axe finds no barrier, nothing is wider than the window."""
    coz, _ = house
    page = opened(chrome, coz, scheme=scheme)
    page.until("document.querySelectorAll('.timeline li').length > 2 && document.querySelectorAll('.spark').length > 4")
    for size in (WIDE, PHONE, (320, 600)):
        page.see(*size, scheme=scheme)
        assert barriers(page, axe) == [], size
        assert page.run("document.documentElement.scrollWidth") <= size[0]
    dark = page.run(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).every(part => part < 60)"
    )
    assert dark == (scheme == "dark")
    page.see(*WIDE, scheme=scheme)
    page.press("Tab", 9)
    assert page.run("document.activeElement.textContent") == "Skip to how the nodes are"
    page.press("Enter", 13)
    page.until("document.activeElement.id === 'main'")
    headings = page.run("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert headings[0] == 1 and all(after - before <= 1 for before, after in zip(headings, headings[1:], strict=False))
    assert page.run("['header', 'main', 'footer'].every(name => document.querySelectorAll(name).length === 1)")


def test_what_nodes_and_agents_say_is_never_read_as_markup(nodes: tuple[LiveNode, LiveNode], chrome: Browser) -> None:
    """In a task, in the queue, in what a peer's skill left: it stands there as it was written, and nothing of it runs."""
    coz, axiom = nodes
    coz.home.queue_file.write_text(f"[seq:7] [agent:{MARKUP}] {MARKUP}\n")
    axiom.home.skills.mkdir(exist_ok=True)
    (axiom.home.skills / "mail.json").write_text(
        json.dumps({"ok": False, "text": MARKUP, "at": "2026-11-21T06:00:00.000Z"})
    )
    coz.cli("handoff", "axiom", MARKUP, "--no-wait")
    coz.cli("emergency", "--reason", MARKUP)
    page = opened(chrome, coz)
    page.until("document.querySelector('#work-body').innerText.includes('<img src=x')")
    page.until("document.querySelector('article[aria-label=axiom]').innerText.includes('<img src=x')", limit=60)
    page.until("document.querySelector('#verdict-body').innerText.includes('<script>window.hacked')", limit=40)
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('body script, main img').length") == 0
    assert not any("/x" in url.rpartition(":")[2] for url in page.asked) and page.complaints == []


def test_pictures(house: tuple[LiveNode, LiveNode], chrome: Browser) -> None:
    """For the README: light, dark, and on a phone."""
    coz, _ = house
    for name, size, scheme in (("light", WIDE, "light"), ("dark", WIDE, "dark"), ("phone", PHONE, "light")):
        page = opened(chrome, coz, size, scheme)
        page.until(
            "document.querySelectorAll('.timeline li').length > 2 && document.querySelectorAll('.spark').length > 4"
        )
        page.until("document.body.innerText.includes('scheduler')")
        page.see(*size, scheme=scheme, scale=2 if size == PHONE else 1)
        taken(page, name, whole=size != PHONE)


def taken(page: Page, name: str, *, whole: bool) -> None:
    """Take a picture, and keep it where somebody wants them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(os.environ.get("OUTLAST_PICTURES", folder)) / f"dashboard-{name}.png"
        page.picture(file, whole=whole)
        assert file.read_bytes().startswith(b"\x89PNG")
        if "OUTLAST_PICTURES" in os.environ:
            # Debian's pngquant makes a third of it, and nobody sees a difference.
            subprocess.run(["pngquant", "--force", "--ext", ".png", "--strip", str(file)], check=True)
            assert file.stat().st_size < MOST_BYTES
