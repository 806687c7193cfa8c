#!/usr/bin/env python3
"""Writes docs/openapi.yaml, the schema of a node's door, from the runtime's own types; with --check says whether it is current.

Keeps: what a message may be is said once, in outlast.messages. Leaves to others: what is signed, and the order in which a
message is judged, which no schema can say (net/ingress.py).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml

from outlast.messages import Envelope, Event, Reply

__all__ = ["FILE", "document"]

FILE = Path(__file__).resolve().parents[1] / "docs" / "openapi.yaml"
_HEAD = "# From outlast.messages: run tools/openapi.py after a change there.\n"
_SCHEMAS = "#/components/schemas/"


class _Plain(yaml.SafeDumper):
    """What is said twice is written twice."""

    def ignore_aliases(self, _: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        # As the linter wants lists.
        super().increase_indent(flow, False)


def main() -> int:
    """Return 1 when --check is given and the file is not current."""
    text = _HEAD + yaml.dump(document(), Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
    if sys.argv[1:] == ["--check"]:
        if not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
            print("docs/openapi.yaml is not current; mend: tools/openapi.py", file=sys.stderr)
            return 1
    else:
        FILE.write_text(text, encoding="utf-8")
    return 0


def document() -> dict[str, Any]:
    """The whole, as plain values."""
    _, found = msgspec.json.schema_components([Envelope, Event, Reply], ref_template=f"{_SCHEMAS}{{name}}")
    schemas: dict[str, Any] = _portable(found)
    for part in schemas.values():
        # Such words are for who reads the code.
        part.pop("description", None)
    schemas["Terse"] = {
        "type": "object",
        "properties": {"error": {"type": "string"}, "status": {"type": "string"}},
        "additionalProperties": False,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "The door of an Outlast node", "version": "1"},
        "paths": {
            "/healthz": {"get": _asked("Is anything there? Proves nothing.", {"200": "It is alive."})},
            "/readyz": {"get": _asked("Can work be taken now?", {"200": "Yes.", "503": "No, and why."})},
            "/inbox/{sender}": {"post": _message()},
        },
        "components": {"schemas": schemas},
    }


def _asked(summary: str, answers: dict[str, str]) -> dict[str, Any]:
    body = {"application/json": {"schema": {"type": "object"}}}
    return {
        "summary": summary,
        "responses": {status: {"description": text, "content": body} for status, text in answers.items()},
    }


def _message() -> dict[str, Any]:
    def header(name: str, about: str, pattern: str) -> dict[str, Any]:
        shape = {"type": "string", "pattern": pattern}
        return {"name": name, "in": "header", "required": True, "description": about, "schema": shape}

    signed = {"schema": {"anyOf": [{"$ref": f"{_SCHEMAS}Reply"}, {"$ref": f"{_SCHEMAS}Terse"}]}}
    answers = {
        "200": "A peer's control message was taken, now or before.",
        "202": "The message was taken, now or before, and will outlive any crash.",
        "401": "Refused: unknown, not signed as it must be, or out of time. Nothing else is said.",
        "413": "The body is too large.",
        "422": "Not a message, or not one that may come from there.",
        "429": "Too many; Retry-After says when.",
        "503": "Not now; Retry-After says when.",
    }
    shapes = {status: {"application/json": signed} for status in answers if status != "413"}
    return {
        "summary": "A message, signed by Standard Webhooks; a node's answer to a peer is signed likewise.",
        "parameters": [
            {
                "name": "sender",
                "in": "path",
                "required": True,
                "description": "Whose key it is signed with: a peer's name, or an outside service's.",
                "schema": {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,31}$"},
            },
            header("webhook-id", "The same each time the same message is sent.", "^[A-Za-z0-9_-]{1,60}$"),
            header("webhook-timestamp", "Seconds since 1970; at most five minutes off.", "^[1-9][0-9]{0,11}$"),
            header("webhook-signature", "Up to eight of v1,BASE64 or v1a,BASE64.", "^v1a?,.*$"),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [{"$ref": f"{_SCHEMAS}Envelope"}, {"$ref": f"{_SCHEMAS}Event"}]},
                }
            },
        },
        "responses": {
            status: {"description": text, **({"content": shapes[status]} if status in shapes else {})}
            for status, text in answers.items()
        },
    }


def _portable(value: Any) -> Any:
    """Patterns as every reader of JSON Schema takes them."""
    if isinstance(value, dict):
        return {
            name: part.replace(r"\Z", "$") if name == "pattern" and isinstance(part, str) else _portable(part)
            for name, part in value.items()
        }
    return [_portable(part) for part in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    sys.exit(main())
