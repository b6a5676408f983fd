"""JSON Schemas of manifests."""

from __future__ import annotations

from typing import Any

import pytest

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
