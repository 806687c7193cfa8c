"""What the commands share: which node is meant, and how they print."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from outlast.core.plainjson import to_json
from outlast.core.record import one_line
from outlast.errors import BadInput
from outlast.home import Home, find_home

if TYPE_CHECKING:
    from outlast.settings import Config

__all__ = ["Where", "as_json", "emit", "fits", "named"]

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class Where:
    """Which node is meant; looked up only by commands that need one."""

    def __init__(self, home: str | None, node: str | None) -> None:
        self._home, self._node = home, node

    @property
    def home(self) -> Home:
        """Its home. Raises BadInput."""
        return find_home(self._home, self._node)

    @property
    def config(self) -> Config:
        """Its configuration. Raises BadInput, ConfigError."""
        # Most commands ask the running node, and YAML is a tenth of what such a command takes.
        from outlast.config import load_config

        return load_config(self.home.config)


def emit(value: object) -> None:
    """Print one JSON document."""
    click.echo(to_json(value).decode())


def named(field: str, text: str, mend: str) -> None:
    """Refuse what is not shaped like the name of a node or an outside service. Raises BadInput."""
    if re.fullmatch("[a-z][a-z0-9-]{0,31}", text) is None:
        raise BadInput(field, f"{one_line(text, 40)!r} is not a name", mend)


def fits(field: str, text: str, limit: int, mend: str) -> None:
    """Refuse a text that shows nothing, is longer than ``limit`` characters, or no UTF-8. Raises BadInput."""
    if len(text) > limit:
        raise BadInput(field, f"{len(text)} characters are too many", f"use at most {limit}, or name a file in it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(field, "it is not UTF-8", "write it in UTF-8") from None
    if not one_line(text):
        raise BadInput(field, "it is empty", mend)
