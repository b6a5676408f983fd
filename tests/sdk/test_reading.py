"""Reading YAML that may be anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.documents import Fault, MapNode, ScalarNode, plain
from innkeeper_sdk.reading import MAX_BYTES, MAX_DEPTH, MAX_VALUES, decode, parse_document


def read(text: str) -> Any:
    document = parse_document(text, file="f")
    assert document.faults == ()
    return plain(document.root)


def faults(text: str) -> list[str]:
    return [str(fault) for fault in parse_document(text, file="f").faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("''", ""),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!int 12", 12),
        ("!!float 12", 12.0),
        ("! 12", "12"),
    ],
)
def test_scalars_are_those_of_json(text: str, value: object) -> None:
    found = read(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "off", "012", "1:30", "2026-01-01", "1_000", ".inf", ".nan", "1e999", "9" * 65, "=", "0b1"],
)
def test_what_only_yaml_1_1_takes_for_something_else_stays_text(text: str) -> None:
    assert read(text) == text


def test_a_scalar_keeps_the_text_it_was_written_as() -> None:
    root = parse_document("gitRef: 12e4567", file="f").root
    assert isinstance(root, MapNode)
    node = root.values["gitRef"]
    assert isinstance(node, ScalarNode)
    assert node.text == "12e4567"


def test_merges_give_way_to_own_keys_and_to_earlier_ones() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 0}\n"
    assert read(text)["c"] == {"x": 0, "y": 1, "z": 2}


def test_an_anchor_on_a_scalar_is_for_later_use() -> None:
    assert read("a: &name probe\nb: [*name, *name]\n") == {"a": "probe", "b": ["probe", "probe"]}


def test_an_anchor_given_again_means_the_newer_value() -> None:
    assert read("[&a 1, *a, &a 2, *a]") == [1, 1, 2, 2]


def test_a_quoted_merge_key_is_a_key() -> None:
    assert read("'<<': {a: 1}") == {"<<": {"a": 1}}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n...\n"])
def test_a_document_of_nothing_has_no_values_and_no_faults(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{a: 1, a: 2}", "f:1:8: the key 'a' is given twice, first on line 1"),
        ("a: 1\nb: 2\na: 3\n", "f:3:1: the key 'a' is given twice, first on line 1"),
        ("? [x]\n: 1", "f:1:3: a key must be text (found a list)"),
        ("- !foo x", "f:1:3: the tag !foo does not fit here (found 'x')"),
        ("- !!python/object:os.system x", "f:1:3: the tag !!python/object:os.system does not fit here (found 'x')"),
        ("- !!binary aGk=", "f:1:3: the tag !!binary does not fit here (found 'aGk=')"),
        ("- !!int x", "f:1:3: the tag !!int does not fit here (found 'x')"),
        ("- !!set {a}", "f:1:3: the tag !!set does not fit here"),
        ("<<: 1", "f:1:5: << merges mappings (expected a mapping or a list of them, found '1')"),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second document begins (expected one document per file)"),
        ("[*x]", "f:1:2: the alias *x has no anchor before it"),
        ("&a [*a]", "f:1:5: the alias *a contains itself"),
        ("&a {b: {c: *a}}", "f:1:12: the alias *a contains itself"),
    ],
)
def test_a_fault_says_where_it_stands(text: str, fault: str) -> None:
    assert fault in faults(text)


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("a: 1\n\tb: 2", "f:2:1: ", "YAML takes no tabs"),
        ("\ta: 1", "f:1:1: ", "YAML takes no tabs"),
        ("a: [1, 2", "f:2:1: ", ""),
        ("a: b: c", "f:1:5: ", ""),
        ("a: 'x", "f:1:6: ", ""),
        ("a\x00b", "f:1:2: ", "U+0000"),
        ("a: 1\nb: \x07", "f:2:4: ", "U+0007"),
        ("a: \ud800", "f:1:4: ", "U+D800"),
    ],
)
def test_a_syntax_error_says_where_it_stands(text: str, place: str, hint: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith(f"{place}this is not YAML: ")
    assert hint in fault


def test_faults_before_a_syntax_error_are_told_too() -> None:
    assert len(faults("{a: 1, a: 2}\n: [")) == 2


@pytest.mark.parametrize("text", ["[" * (MAX_DEPTH + 1), "[" * 500_000, "{a: " * 200_000, "- " * 200_000])
def test_deep_documents_are_refused_without_recursion(text: str) -> None:
    (fault,) = faults(text)
    assert "nested too deeply" in fault


def test_documents_of_the_permitted_depth_are_read() -> None:
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


def test_depth_counts_through_aliases() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, MAX_DEPTH + 1)]
    (fault,) = faults("\n".join(lines))
    assert "nested too deeply" in fault


def test_an_alias_bomb_is_refused_before_it_explodes() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (fault,) = faults("\n".join(lines))
    assert fault.endswith(f"the document has too many values (expected at most {MAX_VALUES})")


def test_a_merge_bomb_is_refused_before_it_explodes() -> None:
    keys = ", ".join(f"k{i}: x" for i in range(1000))
    lines = [f"m0: &m0 {{{keys}}}"] + [f"m{i}: {{<<: [{', '.join(['*m0'] * 50)}]}}" for i in range(1, 5)]
    (fault,) = faults("\n".join(lines))
    assert "too many values" in fault


def test_a_large_document_is_refused_unread() -> None:
    assert faults("#" * (MAX_BYTES + 1)) == [f"f: the file is too large (expected at most {MAX_BYTES} bytes)"]
    assert faults("ä" * (MAX_BYTES // 2 + 1)) == [f"f: the file is too large (expected at most {MAX_BYTES} bytes)"]


def test_bytes_are_utf_8_with_or_without_a_byte_order_mark() -> None:
    assert decode(b"\xef\xbb\xbfa: 1", file="f") == "a: 1"
    assert decode("ü".encode(), file="f") == "ü"


@pytest.mark.parametrize(("content", "place"), [(b"a: \xff", "f:1:4"), (b"a: 1\nb: \xfe", "f:2:4")])
def test_bytes_that_are_not_utf_8_say_where(content: bytes, place: str) -> None:
    fault = decode(content, file="f")
    assert isinstance(fault, Fault)
    assert str(fault).startswith(f"{place}: the file is not UTF-8")


# What may stand in YAML without an escape.
TEXT = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number) < 1e16)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_is_read_as_json(value: object) -> None:
    assert read(json.dumps(value, ensure_ascii=False)) == value


@given(st.text(max_size=300) | st.text("[]{}&*a: -\n?|>'\"!,#", max_size=100))
def test_any_text_becomes_values_of_json_and_faults_within_it(text: str) -> None:
    document = parse_document(text, file="f")
    json.dumps(plain(document.root), allow_nan=False)
    lines = len(text.splitlines()) + text.count("\n") + 2
    assert all(0 <= fault.origin.line <= lines for fault in document.faults)


@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_a_fault(content: bytes) -> None:
    assert isinstance(decode(content, file="f"), str | Fault)
