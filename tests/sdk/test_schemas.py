"""JSON Schemas of manifests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.schemas import apply_schema, check_schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"},
        {"properties": {"$ref": {"type": "string"}}},
    ],
)
def test_a_good_schema_has_no_faults(schema: dict[str, Any]) -> None:
    assert check_schema(schema) == []


def test_a_schema_that_is_none_says_where() -> None:
    (fault,) = check_schema({"properties": {"a": {"type": 5}}})
    assert fault.path == ("properties", "a", "type")
    assert "not a JSON Schema" in fault.message


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/x", "file:///etc/passwd", "other.json", "urn:x"])
def test_a_schema_refers_only_to_itself(target: str) -> None:
    (fault,) = check_schema({"items": {"anyOf": [{"$ref": target}]}})
    assert fault.path == ("items", "anyOf", 0, "$ref")
    assert "refers only to itself" in fault.message


def test_every_fault_of_a_value_is_told() -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"b": {"type": "integer"}},
        "additionalProperties": False,
    }
    faults = apply_schema(schema, {"b": "x", "c": 1})
    assert sorted(fault.keyword for fault in faults) == ["additionalProperties", "required", "type"]
    assert ("b",) in [fault.path for fault in faults]


@pytest.mark.parametrize("schema", [{"$ref": "#/$defs/missing"}, {"$ref": "#"}, {"$ref": "http://127.0.0.1:1/x"}])
def test_a_schema_that_cannot_be_applied_accepts_nothing(schema: dict[str, Any]) -> None:
    (fault,) = apply_schema(schema, {})
    assert "cannot be applied" in fault.message


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"type": "boolean"}, None, 'null is not of type "boolean"'),
        ({"type": "string"}, True, 'true is not of type "string"'),
        ({"type": ["string", "null"]}, False, 'false is not of type "string", "null"'),
        ({"enum": ["None", None, True]}, "it's", '"it\'s" is not one of ["None", null, true]'),
        ({"type": "array"}, {"a": [None, "True"]}, '{"a": [null, "True"]} is not of type "array"'),
        (
            {"pattern": '^"None"$'},
            "say \"None\" & 'True'\n",
            '"say \\"None\\" & \'True\'\\n" does not match "^\\"None\\"$"',
        ),
        ({"type": "integer"}, "é\udc80\\", '"\\u00e9\\udc80\\\\" is not of type "integer"'),
        ({"type": "integer"}, "é", '"é" is not of type "integer"'),
        ({"not": {}}, None, "null should not be valid under {}"),
        ({"const": None}, 1, "null was expected"),
        ({"properties": {"a": False}}, {"a": 1}, "false schema does not allow 1"),
        ({"additionalProperties": False}, {"None": 1}, 'Additional properties are not allowed ("None" was unexpected)'),
    ],
)
def test_faults_speak_json(schema: dict[str, Any], value: object, said: str) -> None:
    assert [fault.message for fault in apply_schema(schema, value)] == [said]


def test_a_fault_of_a_schema_speaks_json() -> None:
    (fault,) = check_schema({"properties": {"a": {"type": None}}})
    assert fault.message == "not a JSON Schema: null is not valid under any of the given schemas"


TEXTS = st.text(st.characters(exclude_categories=[])) | st.text("'\"\\\nNoneTrueFalse ")


@given(st.recursive(TEXTS | st.booleans() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_every_value_of_a_fault_is_json(value: object) -> None:
    (fault,) = apply_schema({"type": "integer"}, value)
    shown = fault.message.removesuffix(' is not of type "integer"')
    assert json.loads(shown) == value
