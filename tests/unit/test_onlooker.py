"""Who may look at the dashboard, and where it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from outlast.core.onlooker import check, cookie_name, is_loopback, judge, port_of, speaks_tls, url_of
from outlast.errors import ConfigError
from outlast.settings import Agent, Config, Dashboard, Listen, Tls

TOKEN = "t" * 43
CONFIG = Config("coz", Listen("127.0.0.1", 18801), Agent(["/bin/true"]))


def at(listens: str = "127.0.0.1", method: str = "GET", given: str = "", **headers: str) -> str:
    """The verdict on one request."""
    return judge(method, headers, given, listens=listens, node="coz", token=TOKEN)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:18901", "localhost", "LOCALHOST:9", "[::1]:18901", "127.9.9.9", "127.0.0.1:80"]
)
def test_this_machine_may_look_under_any_of_its_names(host: str) -> None:
    """A tunnel has a port of its own, and people type what they like."""
    assert at(host=host) == "welcome"


@pytest.mark.parametrize(
    "host",
    ["", "evil.example:18901", "127.0.0.1.evil.example", "localhost.evil.example:18901", "192.168.1.5:18901", "127.0.0.1:x",
     "evil.example@127.0.0.1", "127.0.0.1/", "127.0.0.1 ", "[::1", "0.0.0.0:18901", "2130706433", "localhost\u212a"],
)  # fmt: skip
def test_a_page_whose_name_was_led_to_this_machine_sees_nothing(host: str) -> None:
    """DNS rebinding: the browser says the name that it was given, and it is not a loopback one. A token does not help."""
    assert at(host=host) == "host"
    assert at(host=host, given=TOKEN, authorization=f"Bearer {TOKEN}") == "host"


@given(st.text(max_size=40))
def test_no_other_host_than_a_loopback_one_is_welcome(host: str) -> None:
    """Whatever is sent, only these names are ours."""
    if at(host=host) == "welcome":
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        assert is_loopback(name.strip("[]").lower())


@pytest.mark.parametrize("listens", ["0.0.0.0", "192.168.1.5", "::", "coz.local"])
def test_beyond_loopback_the_token_is_asked_for_always(listens: str) -> None:
    """By cookie, by header, or once in the address; also from this machine; a wrong one is told apart from none."""
    cookie = f"a=b; {cookie_name('coz')}={TOKEN}"
    assert at(listens, host="127.0.0.1") == "no token"
    assert at(listens, host="x", given=TOKEN) == "enter"
    assert at(listens, host="x", cookie=cookie) == "welcome"
    assert at(listens, host="x", authorization=f"bearer {TOKEN}") == "welcome"
    assert at(listens, host="x", given="t") == "token"
    assert at(listens, cookie=f"{cookie_name('coz')}={TOKEN}x") == "token"
    assert at(listens, authorization="Bearer ü") == "token"
    assert at(listens, authorization=f"Basic {TOKEN}") == "no token"
    # The address is what was asked for last: a wrong one there is not made good by a cookie.
    assert at(listens, given="wrong", cookie=cookie) == "token"


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_nothing_but_the_token_opens_the_page(given: str, bearer: str, cookie: str) -> None:
    """Whatever is tried."""
    for value in (given, bearer, cookie):
        if value.strip() == TOKEN:
            return
    headers = {"authorization": f"Bearer {bearer}", "cookie": f"{cookie_name('coz')}={cookie}"}
    verdict = judge("GET", headers, given, listens="0.0.0.0", node="coz", token=TOKEN)
    assert verdict in {"token", "no token"}


def test_without_a_token_nothing_is_open_beyond_loopback() -> None:
    """An empty token is no token, not one that an empty answer meets."""
    for headers in ({}, {"authorization": "Bearer "}, {"cookie": f"{cookie_name('coz')}="}):
        assert judge("GET", headers, "", listens="0.0.0.0", node="coz", token="") == "no token"
    assert judge("GET", {}, "x", listens="0.0.0.0", node="coz", token="") == "token"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(method: str) -> None:
    """Whoever asks, with whatever they know."""
    assert at(method=method, host="localhost") == "method"
    assert at("0.0.0.0", method=method, authorization=f"Bearer {TOKEN}") == "method"


def test_where_the_page_is() -> None:
    """100 above the node's port where nothing is said; over TLS where others can listen in and the node has it."""
    assert (port_of(CONFIG), url_of(CONFIG, "pi")) == (18901, "http://127.0.0.1:18901/")
    beyond = structs.replace(CONFIG, dashboard=Dashboard(host="0.0.0.0", port=80))
    assert url_of(beyond, "pi") == "http://pi:80/"
    with_tls = structs.replace(beyond, listen=Listen("0.0.0.0", 18801, Tls()))
    assert speaks_tls(with_tls) and url_of(with_tls, "pi") == "https://pi:80/"
    at_home = structs.replace(with_tls, dashboard=Dashboard(host="::1"))
    assert not speaks_tls(at_home) and url_of(at_home, "pi") == "http://[::1]:18901/"


def test_a_dashboard_without_a_port_of_its_own_is_refused() -> None:
    """Where there is one at all."""
    high = structs.replace(CONFIG, listen=Listen("127.0.0.1", 65500))
    with pytest.raises(ConfigError, match="dashboard.port: 65600"):
        check(high)
    with pytest.raises(ConfigError, match="same as listen.port"):
        check(structs.replace(CONFIG, dashboard=Dashboard(port=18801)))
    check(structs.replace(high, dashboard=Dashboard(enabled=False)))
    check(CONFIG)
