"""The reader that collects faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from innkeeper.config.yaml import FaultyConfigError, Reader, is_null, read_file, read_text
from innkeeper_sdk.documents import Fault, Node, Origin
from innkeeper_sdk.errors import ConfigError, ExitCode


def node(text: str) -> Node:
    root, faults = read_text(text, file="f")
    assert faults == ()
    assert root is not None
    return root


def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file") as caught:
        read_file(tmp_path / "missing.yaml")
    assert caught.value.exit_code is ExitCode.CONFIG


def test_a_directory_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_file(tmp_path)


def test_a_file_that_is_not_text_has_a_fault_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"a: 1\nb: \xff")
    root, faults = read_file(file)
    assert root is None
    assert [str(fault.origin) for fault in faults] == [f"{file}:2:4"]


def test_unknown_keys_are_faults_and_left_out() -> None:
    reader = Reader()
    values = reader.mapping(node("{enabld: 1, mode: x, zzz: 2}"), "a", known=("enabled", "mode"))
    assert list(values) == ["mode"]
    assert [str(fault) for fault in reader.faults] == [
        "f:1:2: a.enabld: unknown key; did you mean enabled?",
        "f:1:22: a.zzz: unknown key; known are enabled, mode",
    ]


@pytest.mark.parametrize(
    ("method", "text", "value"),
    [
        ("text", "abc", "abc"),
        ("text", "12345", "12345"),
        ("text", "0x1F", "0x1F"),
        ("text", "true", "true"),
        ("switch", "true", True),
        ("switch", "yes", True),
        ("switch", "Off", False),
        ("texts", "[a, 1]", ("a", "1")),
    ],
)
def test_values_that_fit_are_taken(method: str, text: str, value: object) -> None:
    reader = Reader()
    assert getattr(reader, method)(node(text), "p") == value
    assert reader.faults == []


@pytest.mark.parametrize(
    ("method", "text", "expected", "found"),
    [
        ("text", "[a]", "text", "a list"),
        ("text", "{}", "text", "a mapping"),
        ("text", "' '", "text", "' '"),
        ("text", "~", "text", "nothing"),
        ("switch", "maybe", "true or false", "'maybe'"),
        ("switch", "'true'", "true or false", "'true'"),
        ("switch", "1", "true or false", "'1'"),
        ("switch", "~", "true or false", "nothing"),
        ("texts", "a", "a list of texts", "'a'"),
        ("mapping", "[a]", "a mapping", "a list"),
        ("items", "{}", "a list", "a mapping"),
    ],
)
def test_values_that_do_not_fit_are_faults(method: str, text: str, expected: str, found: str) -> None:
    reader = Reader()
    getattr(reader, method)(node(text), "p")
    (fault,) = reader.faults
    assert (fault.path, fault.expected, fault.actual) == ("p", expected, found)
    assert str(fault.origin).startswith("f:1:")


def test_a_word_is_one_of_those_that_there_are() -> None:
    reader = Reader()
    assert reader.word(node("b"), "p", {"a": 1, "b": 2}) == 2
    assert reader.word(node("c"), "p", {"a": 1, "b": 2}) is None
    assert [fault.expected for fault in reader.faults] == ["a or b"]


def test_nested_names_and_dotted_names_are_the_same() -> None:
    reader = Reader()
    found = reader.scalars(node("A: {B: {C: 1kb}, D: 2}\nE.F: true\n"), "limits")
    assert {name: value for name, (value, _) in found.items()} == {"A.B.C": "1kb", "A.D": 2, "E.F": True}
    assert str(found["A.B.C"][1]) == "f:1:9"
    assert reader.faults == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{A: [1]}", "limits.A: not what belongs here (expected a number, a text or a switch, found a list)"),
        ("{A: ~}", "limits.A: not what belongs here"),
        ("A: {B: 1}\nA.B: 2\n", "limits.A.B: given twice, once with dots and once nested"),
        ("[1]", "limits: not what belongs here (expected a mapping"),
    ],
)
def test_scalars_that_are_none_are_faults(text: str, said: str) -> None:
    reader = Reader()
    reader.scalars(node(text), "limits")
    assert said in str(reader.faults[0])


@pytest.mark.parametrize(("text", "null"), [("~", True), ("''", False), ("[]", False), ("0", False)])
def test_what_is_nothing(text: str, null: Any) -> None:
    assert is_null(node(text)) is null
    assert is_null(None)


def test_the_error_of_many_faults_has_one_line_for_each() -> None:
    faults = [Fault(Origin("f", 1, 2), "first"), Fault(Origin("f", 3, 4), "second")]
    error = FaultyConfigError(faults, hint="mend them")
    assert str(error) == "the configuration has 2 faults:\n  f:1:2: first\n  f:3:4: second\nmend them"
    assert error.exit_code is ExitCode.CONFIG
    assert str(FaultyConfigError(faults[:1])) == "the configuration has a fault:\n  f:1:2: first"
