"""Attributes: what is accepted, and what it binds a workflow to."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper.modules.attributes import (
    MAX_ATTRIBUTES,
    Binding,
    DeclaredAttribute,
    binding,
    declare_attributes,
    parse_attributes,
)
from innkeeper_sdk.errors import UnavailableError, WorkflowError
from innkeeper_sdk.manifest import Attribute, Manifest

SEALED = Manifest(
    id="sealer",
    title="Sealer",
    sdk=">=0",
    attributes={
        "sealed": Attribute(schema={"type": "boolean"}, default=False, module="sealed"),
        "seal": Attribute(schema={"type": "object", "additionalProperties": {"type": "integer"}}, module="sealed"),
        "loose": Attribute(default=False, module="sealed"),
        "old_secrets": Attribute(refused="secrets are fetched at run time"),
    },
)
OTHER = Manifest(
    id="other",
    title="Other",
    sdk=">=0",
    attributes={"elsewhere": Attribute(default=None, module="away"), "note": Attribute(schema={"type": "string"})},
)
DECLARED = declare_attributes([SEALED, OTHER]).keys


def bound(raw: bytes | str | None) -> Binding | None:
    return binding(parse_attributes(raw, DECLARED), DECLARED)


@pytest.mark.parametrize("raw", [None, "", b"", "{}", b"{}", " {\n}\t"])
def test_no_attributes_bind_to_nothing(raw: bytes | str | None) -> None:
    attributes = parse_attributes(raw, DECLARED)
    assert attributes.values == {}
    assert attributes.text == "{}"
    assert binding(attributes, DECLARED) is None


MALFORMED = [
    "null",
    "[]",
    "true",
    "0",
    '"sealed"',
    " ",
    "{",
    "{}x",
    "{} {}",
    "{},",
    '{"sealed": true,}',
    "{'sealed': true}",
    "{sealed: true}",
    '{"sealed": True}',
    '{"sealed": true, "sealed": false}',
    '{"sealed": true, "seal\\u0065d": false}',
    '{"seal": {"a": 1, "a": 2}}',
    '{"note": [{"a": 1, "a": 1}]}',
    '{"note": NaN}',
    '{"note": Infinity}',
    '{"note": -Infinity}',
    '{"note": 1e999}',
    '{"note": ' + "9" * 5000 + "}",
    '{"note": "a\tb"}',
    '{"note": "\\ud800"}',
    '{"note": 01}',
    '{"note": +1}',
    '{"note": .5}',
    '// x\n{"sealed": true}',
    "\ufeff{}",
    b"\xef\xbb\xbf{}",
    b'{"note": "\xff"}',
    b"\xff",
    '{"note": "\ud800"}',
    '{"note": ' + "[" * 40 + "]" * 40 + "}",
    "[" * 8000,
    '{"a":' * 1600,
    '{"note": "' + "x" * MAX_ATTRIBUTES + '"}',
    " " * MAX_ATTRIBUTES + "{}",
]


@pytest.mark.parametrize("raw", MALFORMED)
@pytest.mark.parametrize("stored", [False, True])
def test_malformed_attributes_are_an_error_and_never_plain(raw: bytes | str, stored: bool) -> None:
    with pytest.raises(WorkflowError, match="attributes are"):
        parse_attributes(raw, DECLARED, stored=stored)


def test_the_largest_that_is_allowed_is_accepted_in_bytes_not_characters() -> None:
    shell = len('{"note":""}')
    fits = json.dumps({"note": "é" * ((MAX_ATTRIBUTES - shell) // 2)}, ensure_ascii=False, separators=(",", ":"))
    assert len(fits.encode()) <= MAX_ATTRIBUTES
    assert parse_attributes(fits, DECLARED).values["note"][0] == "é"
    with pytest.raises(WorkflowError, match="too large"):
        parse_attributes(fits.replace("é", "éé", 1), DECLARED)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("Sealed", "did you mean sealed"),
        ("SEALED", "did you mean sealed"),
        ("seled", "did you mean sealed"),
        ("sealed ", "did you mean sealed"),
        ("quite_another", "install the provider"),
        ("", "install the provider"),
    ],
)
def test_an_undeclared_key_is_an_error_that_names_it(key: str, hint: str) -> None:
    with pytest.raises(WorkflowError, match=hint) as caught:
        parse_attributes(json.dumps({key: True}), DECLARED)
    assert ascii(key) in str(caught.value)
    assert "old_secrets" not in str(caught.value)


def test_without_any_provider_every_key_is_undeclared() -> None:
    with pytest.raises(WorkflowError, match="expected one of none"):
        parse_attributes('{"sealed": true}', {})
    assert parse_attributes("{}", {}).text == "{}"


def test_a_stored_key_whose_provider_is_gone_defers_the_workflow() -> None:
    with pytest.raises(UnavailableError, match="'sealed'"):
        parse_attributes('{"sealed": true, "note": "x"}', declare_attributes([OTHER]).keys, stored=True)


@pytest.mark.parametrize("stored", [False, True])
def test_a_refused_key_is_refused_with_its_reason_whatever_its_value(stored: bool) -> None:
    values: list[object] = [None, False, [], {}, "x"]
    for value in values:
        with pytest.raises(WorkflowError, match="old_secrets is refused: secrets are fetched at run time"):
            parse_attributes(json.dumps({"old_secrets": value}), DECLARED, stored=stored)


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ('{"sealed": 1}', "sealed"),
        ('{"sealed": 0}', "sealed"),
        ('{"sealed": "true"}', "sealed"),
        ('{"sealed": null}', "sealed"),
        ('{"seal": {"a": "x"}}', "seal.a"),
        ('{"note": 5}', "note"),
    ],
)
def test_a_value_that_does_not_fit_its_schema_is_refused(raw: str, where: str) -> None:
    with pytest.raises(WorkflowError, match=rf"the attribute \w+ is not what the provider \w+ expects: {where}: "):
        parse_attributes(raw, DECLARED)


# Binding.


@pytest.mark.parametrize(
    ("raw", "keys"),
    [
        ('{"sealed": false}', None),
        ('{"note": "x"}', None),
        ('{"elsewhere": null}', None),
        ('{"sealed": true}', ("sealed",)),
        ('{"sealed": true, "note": "x", "seal": {"a": 1}}', ("seal", "sealed")),
        ('{"seal": {}}', ("seal",)),
        # To the letter: what is not the default binds, however alike it may look.
        ('{"loose": false}', None),
        ('{"loose": 0}', ("loose",)),
        ('{"loose": 0.0}', ("loose",)),
        ('{"loose": null}', ("loose",)),
        ('{"loose": ""}', ("loose",)),
        ('{"loose": "false"}', ("loose",)),
        ('{"loose": []}', ("loose",)),
    ],
)
def test_another_value_than_the_default_binds_the_workflow(raw: str, keys: tuple[str, ...] | None) -> None:
    assert bound(raw) == (None if keys is None else Binding("sealer", "sealed", keys))


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_only_the_exact_default_leaves_a_workflow_unbound(value: object) -> None:
    unbound = bound(json.dumps({"loose": value}, ensure_ascii=True)) is None
    assert unbound is (value is False)


def test_one_workflow_cannot_be_bound_twice() -> None:
    with pytest.raises(WorkflowError, match="elsewhere to away and sealed to sealed"):
        bound('{"sealed": true, "elsewhere": 1}')


def test_the_order_of_keys_and_spaces_is_no_change() -> None:
    one = parse_attributes('{"sealed": true, "note": "é"}', DECLARED)
    two = parse_attributes(b' {"note":"\\u00e9","sealed":true}', DECLARED)
    assert one == two
    assert one.text == two.text == '{"note":"\\u00e9","sealed":true}'
    assert one != parse_attributes('{"sealed": false, "note": "é"}', DECLARED)


def test_accepted_values_cannot_be_changed() -> None:
    values = parse_attributes('{"sealed": true}', DECLARED).values
    with pytest.raises(TypeError):
        values["sealed"] = False  # type: ignore[index] # the point


# Declarations.


def test_a_key_of_two_providers_is_refused_to_all() -> None:
    squatter = Manifest(id="squatter", title="S", sdk=">=0", attributes={"sealed": Attribute()})
    for manifests, late in (([SEALED, squatter], "squatter"), ([squatter, SEALED], "sealer")):
        declarations = declare_attributes(manifests)
        assert set(declarations.errors) == {late}
        assert "sealer" in str(declarations.errors[late])
        assert "squatter" in str(declarations.errors[late])
        for stored in (False, True):
            with pytest.raises(WorkflowError, match="the attribute sealed is refused"):
                parse_attributes('{"sealed": true}', declarations.keys, stored=stored)


def test_a_schema_cannot_reach_outside() -> None:
    outside = {"x": Attribute(schema={"$ref": "http://example.invalid/schema"})}
    keys: Mapping[str, DeclaredAttribute] = declare_attributes(
        [Manifest(id="p", title="P", sdk=">=0", attributes=outside)]
    ).keys
    with pytest.raises(WorkflowError, match="cannot be applied"):
        parse_attributes('{"x": 1}', keys)
