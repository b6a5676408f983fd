"""JSON Schemas that manifests carry: checked before they are used, and applied without trust.

Rules of this module:

1. A schema refers only to itself. Nothing is ever fetched for one.
2. A schema that cannot be applied (a dangling reference, an endless one) says so; it accepts nothing.
3. ``jsonschema`` is imported when a schema is used: most commands use none.
4. Faults speak JSON, as the schema and the value do: ``null`` and ``"text"``, not Python's words for them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

__all__ = ["SchemaFault", "apply_schema", "check_schema"]

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")

# Where Python's words for a value differ from JSON's; what looks like one within a text is none.
_PYTHON: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\b(?:None|True|False)\b""")


@frozen
class SchemaFault:
    """Something that is wrong with a schema, or with a value.

    Attributes:
        path: Where, from the schema or from the value.
        message: What.
        keyword: The schema's keyword that the value violates; empty for a fault of the schema itself.
        instance: The part of the value concerned; never shown, since it may hold a secret.
    """

    path: tuple[str | int, ...]
    message: str
    keyword: str = ""
    instance: object = None


def check_schema(schema: Mapping[str, Any]) -> list[SchemaFault]:
    """Return what is wrong with a schema.

    Args:
        schema: A JSON Schema, draft 2020-12.
    """
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - see rule 3

    foreign = [
        SchemaFault(path, f"a schema refers only to itself, by {key} with #…")
        for path, key in _foreign_references((), schema)
    ]
    if foreign or not schema:
        return foreign
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return [SchemaFault(tuple(error.absolute_path), f"not a JSON Schema: {_as_json(error.message)}")]
    return []


def apply_schema(schema: Mapping[str, Any], value: object) -> list[SchemaFault]:
    """Return everything in which a value does not fit a schema.

    Args:
        schema: A schema that ``check_schema`` accepts.
        value: JSON-able values.
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - see rule 3
    from referencing import Registry  # noqa: PLC0415 - see rule 3
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 - see rule 3

    validator = Draft202012Validator(schema, registry=Registry())
    try:
        errors = sorted(validator.iter_errors(value), key=lambda error: [str(step) for step in error.absolute_path])
    except (Unresolvable, RecursionError) as error:
        return [SchemaFault((), f"the schema cannot be applied: {type(error).__name__}")]
    return [
        SchemaFault(tuple(error.absolute_path), _as_json(error.message), str(error.validator), error.instance)
        for error in errors
    ]


def _as_json(message: str) -> str:
    """Return a message of ``jsonschema``, which shows values by their ``repr``, with the values as JSON."""
    return _PYTHON.sub(_word_as_json, message)


def _word_as_json(word: re.Match[str]) -> str:
    value = ast.literal_eval(word[0])
    # What no terminal shows, lone surrogates among it, stays escaped.
    return json.dumps(value, ensure_ascii=not str(value).isprintable())


def _foreign_references(path: tuple[str | int, ...], value: object) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in _REFERENCES and isinstance(inner, str) and not inner.startswith("#"):
                yield (*path, key), key
            yield from _foreign_references((*path, key), inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from _foreign_references((*path, index), inner)
