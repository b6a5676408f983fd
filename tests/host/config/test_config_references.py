"""References in configuration, and keeping what they stand for out of sight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from innkeeper.config.references import (
    SecretText,
    has_reference,
    is_reference,
    redact,
    reference_fault,
    resolve,
    secrets_in,
)
from innkeeper.config.yaml import read_text
from innkeeper_sdk.documents import MapNode
from innkeeper_sdk.errors import ConfigError

SECRET = "hunter2-hunter2"  # noqa: S105 - what must not be seen


def fault(text: str, *, needed: bool = False) -> str | None:
    root, _ = read_text(text, file="f")
    assert isinstance(root, MapNode)
    return reference_fault(root, needed=needed)


@pytest.mark.parametrize("text", ["{$env: X}", "{$file: x/y}", "{a: 1}", "{}"])
def test_good_references_and_other_mappings_have_no_fault(text: str) -> None:
    assert fault(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{$env: X, a: 1}", "a reference stands alone in its mapping"),
        ("{$env: X, $file: y}", "a reference stands alone in its mapping"),
        ("{$evn: X}", "$evn is no reference"),
        ("{$env: }", "$env names nothing"),
        ("{$env: ' '}", "$env names nothing"),
        ("{$file: [a]}", "$file names nothing"),
        ("{$env: 12}", "$env names nothing"),
    ],
)
def test_bad_references_say_what_is_wrong(text: str, said: str) -> None:
    assert fault(text) == said


def test_where_a_reference_is_needed_any_other_mapping_is_a_fault() -> None:
    assert fault("{a: 1}", needed=True) == "not a reference"


def test_references_are_resolved_wherever_they_are(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")
    value = {"a": [{"$env": "KEY"}, 1], "b": {"c": {"$file": "key"}}, "d": None}
    resolved = resolve(value, base=tmp_path, environ={"KEY": "from-the-environment"})
    assert resolved == {"a": ["from-the-environment", 1], "b": {"c": SECRET}, "d": None}
    assert json.loads(json.dumps(resolved)) == resolved
    assert secrets_in(resolved) == {SECRET, "from-the-environment"}


@pytest.mark.parametrize(
    ("content", "value"), [("x", "x"), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n"), ("a\nb\n", "a\nb"), ("", "")]
)
def test_one_line_end_at_a_files_end_is_not_part_of_it(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "f").write_bytes(content.encode())
    assert resolve({"$file": "f"}, base=tmp_path, environ={}) == value


def test_what_cannot_be_resolved_is_named_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff" + SECRET.encode())
    (tmp_path / "large").write_bytes(SECRET.encode() * 100_000)
    for reference, said in (
        ({"$env": "MISSING"}, "the variable MISSING is not set"),
        ({"$file": "missing"}, "cannot be read: No such file"),
        ({"$file": "."}, "Is a directory"),
        ({"$file": "/dev/zero"}, "is no secret's file"),
        ({"$file": "binary"}, "is not UTF-8"),
        ({"$file": "large"}, "is no secret's file"),
    ):
        with pytest.raises(ConfigError) as caught:
            resolve(reference, base=tmp_path, environ={"OTHER": SECRET})
        assert said in str(caught.value)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None or SECRET not in repr(caught.value.__cause__)


def test_a_secret_does_not_show_itself() -> None:
    value: Any = {"a": [SecretText(SECRET)]}
    assert SECRET not in repr(value)
    assert SECRET not in f"{value}"
    assert value["a"][0] == SECRET


def test_secrets_are_taken_out_of_messages() -> None:
    text = f"login with {SECRET!r} failed: {SECRET} line-one then line two"
    assert (
        redact(text, {SECRET, "line-one\nline two"}) == "login with '<secret>' failed: <secret> <secret> then <secret>"
    )


def test_a_secret_inside_another_leaves_nothing_of_either() -> None:
    assert redact("abcdef abc", {"abc", "abcdef"}) == "<secret> <secret>"


@given(st.text(st.characters(categories=["L", "N"]), min_size=4), st.text())
def test_no_secret_is_left_in_a_message(secret: str, around: str) -> None:
    assume(secret not in "<secret>")  # noqa: S105 - the stand-in
    assert secret not in redact(f"{around}{secret}{around}", {secret}).replace("<secret>", "|")


def test_what_is_a_reference_and_what_contains_one() -> None:
    assert is_reference({"$env": "X"})
    assert not is_reference({"env": "X"})
    assert not is_reference("$env")
    assert has_reference({"a": [{"b": {"$file": "x"}}]})
    assert not has_reference({"a": [{"b": 1}]})
