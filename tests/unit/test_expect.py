"""What a sub-agent's JSON must be: a small part of JSON Schema, and nothing that is believed and not checked."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.expect import Schema, mismatch


def wrong(schema: dict[str, Any], value: object) -> str:
    """What is wrong with the value."""
    return mismatch(msgspec.convert(schema, Schema), value)


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({}, {"any": [1, None]}, ""),
        ({"type": "object", "required": ["a"]}, {}, "$.a is missing"),
        ({"type": "array", "minItems": 2}, [1], "$ has fewer than 2"),
        ({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x", 1]}, "$.a[1] is not of type string"),
        ({"type": "integer"}, True, "$ is not of type integer"),
        ({"type": "number"}, 1, ""),
        ({"type": "string", "minLength": 1}, "", "$ is shorter than 1"),
        ({"enum": ["a", 1]}, True, "$ is none of a, 1"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"b": 1}, "$.b is not expected"),
        ({"type": "null"}, None, ""),
    ],
)
def test_the_first_thing_that_is_wrong_is_named_by_its_path(schema: dict[str, Any], value: object, said: str) -> None:
    """Each word that is known does what JSON Schema says, and the path leads there."""
    assert wrong(schema, value) == said


@pytest.mark.parametrize("schema", [{"pattern": "a+"}, {"type": "date"}, {"$ref": "#"}, {"items": {"format": "uri"}}])
def test_a_word_that_is_not_known_is_refused(schema: dict[str, Any]) -> None:
    """Whoever declares more than is checked is told so, and not left to believe it."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(schema, Schema)


def test_a_value_without_end_is_judged_in_bounded_depth() -> None:
    """A schema deeper than any sensible one ends with a verdict and no traceback."""
    schema, value = Schema(type="array"), []
    for _ in range(100):
        schema, value = Schema(items=schema), [value]
    assert mismatch(schema, value).endswith("is too deep")


_leaf = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=2)
_values = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
_types = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])
_schemas = st.recursive(
    st.fixed_dictionaries({}, optional={"type": _types, "minLength": st.integers(0, 2), "minItems": st.integers(0, 2)}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "items": inner,
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
            "additionalProperties": st.booleans(),
        },
    ),
    max_leaves=5,
)


def _whole(value: object) -> bool:
    """JSON Schema takes 1.0 for an integer, which Python's json reads as a float; we do not, and say so."""
    if isinstance(value, list):
        return all(map(_whole, value))
    if isinstance(value, dict):
        return all(map(_whole, value.values()))
    return not isinstance(value, float) or not value.is_integer()


@given(_schemas, _values.filter(_whole))
def test_it_agrees_with_json_schema(schema: dict[str, Any], value: object) -> None:
    """Whatever it is, the verdict is that of the package jsonschema."""
    assert (wrong(schema, value) == "") == jsonschema.Draft202012Validator(schema).is_valid(value)
