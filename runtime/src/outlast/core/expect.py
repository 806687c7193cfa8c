"""What a sub-agent's output must be: which files, and of JSON files which shape. A small part of JSON Schema, and no more.

Rules kept here: a word of JSON Schema that is not known here is refused when it is declared, so that nothing is believed to be
checked that is not; a value is judged with bounded depth, and the first thing that is wrong is named by its path.

Left to others: reading the files (work.subagents), their kind and size (work.harvest).
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Schema", "mismatch"]

Type = Literal["object", "array", "string", "integer", "number", "boolean", "null"]
_DEPTH = 32


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """What a JSON value must be. Fields that are not given ask nothing, as in JSON Schema."""

    type: Type | None = None
    enum: list[str | int | float | bool | None] | None = None
    required: list[str] = []
    properties: dict[str, Schema] = {}
    additional_properties: bool = True
    items: Schema | None = None
    min_items: int = 0
    min_length: int = 0


def mismatch(schema: Schema, value: object, path: str = "$", depth: int = 0) -> str:
    """The first thing in ``value`` that is not as ``schema`` says, with its path; empty where all is."""
    if depth > _DEPTH:
        return f"{path} is too deep"
    if schema.type is not None and not _is(schema.type, value):
        return f"{path} is not of type {schema.type}"
    if schema.enum is not None and not any(type(one) is type(value) and one == value for one in schema.enum):
        return f"{path} is none of {', '.join(map(str, schema.enum))}"
    if isinstance(value, str) and len(value) < schema.min_length:
        return f"{path} is shorter than {schema.min_length}"
    if isinstance(value, list):
        if len(value) < schema.min_items:
            return f"{path} has fewer than {schema.min_items}"
        if schema.items is not None:
            found = (mismatch(schema.items, one, f"{path}[{at}]", depth + 1) for at, one in enumerate(value))
            return next(filter(None, found), "")
    if isinstance(value, dict):
        if lacking := [name for name in schema.required if name not in value]:
            return f"{path}.{lacking[0]} is missing"
        if not schema.additional_properties and (odd := [name for name in value if name not in schema.properties]):
            return f"{path}.{odd[0]} is not expected"
        inside = ((name, one) for name, one in schema.properties.items() if name in value)
        return next(filter(None, (mismatch(one, value[name], f"{path}.{name}", depth + 1) for name, one in inside)), "")
    return ""


def _is(kind: Type, value: object) -> bool:
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    kinds: dict[str, type] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    return isinstance(value, kinds[kind])
