"""Values that a JSON Schema allows, drawn by hypothesis: as much of it as docs/openapi.yaml uses.

Rules kept here: a word of the schema that is not known here is an error, so that nothing is left out in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

__all__ = ["allowed"]

_SAID = {"title", "description", "default", "$schema"}
_KNOWN = {
    "string": {"minLength", "maxLength", "pattern"},
    "integer": {"minimum", "maximum", "exclusiveMaximum", "exclusiveMinimum"},
    "number": {"minimum", "maximum"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties", "propertyNames", "maxProperties", "minProperties"},
    "boolean": set[str](),
    "null": set[str](),
}
# Long enough to be over nothing but what the test wants to be over.
_LONG, _MANY = 40, 4


def allowed(schema: Mapping[str, Any], document: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values of ``schema``; ``document`` is where its references lead."""
    if "$ref" in schema:
        # Made once for each: a strategy is costly to make, and the schema may lead back to itself.
        return _referred(schema["$ref"], document)
    if "anyOf" in schema:
        return st.one_of([allowed(one, document) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    kind = schema.get("type")
    if kind is None:
        assert not set(schema) - _SAID - {"discriminator"}, f"not known here: {schema}"
        return st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=9)
    assert kind in _KNOWN and not set(schema) - _SAID - {"type"} - _KNOWN[kind], f"not known here: {schema}"
    return _of_kind(kind, schema, document)


_made: dict[tuple[str, int], st.SearchStrategy[Any]] = {}


def _referred(where: str, document: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if (key := (where, id(document))) not in _made:
        found: Any = document
        for name in where.removeprefix("#/").split("/"):
            found = found[name]
        _made[key] = st.deferred(lambda: allowed(found, document))
    return _made[key]


def _of_kind(kind: str, schema: Mapping[str, Any], document: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    match kind:
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"].replace("$", r"\Z")).filter(
                lambda text: len(text) <= schema.get("maxLength", 10**6)
            )
        case "string":
            least = schema.get("minLength", 0)
            return st.text(min_size=least, max_size=max(least, min(schema.get("maxLength", _LONG), _LONG)))
        case "integer":
            most = schema.get("maximum", schema.get("exclusiveMaximum", (1 << 53)) - 1)
            return st.integers(schema.get("minimum", -(1 << 53)), most)
        case "number":
            return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False)
        case "array" if "prefixItems" in schema:
            return st.tuples(*(allowed(one, document) for one in schema["prefixItems"])).map(list)
        case "array":
            return st.lists(allowed(schema.get("items", {}), document), max_size=_MANY)
        case "object":
            return _object(schema, document)
        case "boolean":
            return st.booleans()
    return st.none()


def _object(schema: Mapping[str, Any], document: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    fields = {name: allowed(one, document) for name, one in schema.get("properties", {}).items()}
    if fields:
        must = set(schema.get("required", ()))
        optional = {name: one for name, one in fields.items() if name not in must}
        return st.fixed_dictionaries({name: fields[name] for name in fields if name in must}, optional=optional)
    more = schema.get("additionalProperties", {})
    names = allowed({"type": "string", **schema.get("propertyNames", {})}, document)
    return st.dictionaries(names, allowed(more if isinstance(more, dict) else {}, document), max_size=_MANY)
