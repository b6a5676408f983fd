"""Documents: origins, paths and what a person probably meant."""

from __future__ import annotations

import pytest

from innkeeper_sdk.documents import Fault, Origin, kind_of, locate, near_miss, plain, spell
from innkeeper_sdk.reading import parse_document

TEXT = """\
plugins:
  clock:
    - package: a
      config: {deep: [1, {x: 2}]}
"""


def test_an_origin_is_file_line_column() -> None:
    assert str(Origin("plugins.yaml", 4, 7)) == "plugins.yaml:4:7"


def test_an_origin_without_lines_is_its_name() -> None:
    assert str(Origin("INNKEEPER_NAME")) == "INNKEEPER_NAME"


def test_a_fault_says_where_what_expected_found_and_next() -> None:
    fault = Fault(Origin("f", 1, 2), "unknown key", "a.b", expected="x", actual="y", hint="did you mean c?")
    assert str(fault) == "f:1:2: a.b: unknown key (expected x, found y); did you mean c?"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ((), (1, 1)),
        (("plugins",), (1, 1)),
        (("plugins", "clock"), (2, 3)),
        (("plugins", "clock", 0), (3, 7)),
        (("plugins", "clock", 0, "config", "deep", 1, "x"), (4, 27)),
        (("plugins", "clock", 0, "config", "deep", 1, "missing"), (4, 26)),
        (("plugins", "clock", 7, "config"), (2, 3)),
        (("plugins", 0), (1, 1)),
    ],
)
def test_a_path_is_located_as_far_as_it_exists(path: tuple[str | int, ...], place: tuple[int, int]) -> None:
    root = parse_document(TEXT, file="f").root
    assert root is not None
    origin = locate(root, path)
    assert (origin.line, origin.column) == place


def test_a_node_stands_for_plain_values() -> None:
    root = parse_document(TEXT, file="f").root
    assert plain(root) == {"plugins": {"clock": [{"package": "a", "config": {"deep": [1, {"x": 2}]}}]}}
    assert plain(None) is None


@pytest.mark.parametrize(("text", "kind"), [("{}", "a mapping"), ("[]", "a list"), ("~", "nothing"), ("12", "'12'")])
def test_what_a_node_is_called(text: str, kind: str) -> None:
    root = parse_document(text, file="f").root
    assert root is not None
    assert kind_of(root) == kind


def test_a_path_is_spelled_as_a_person_would() -> None:
    assert spell(("plugins", "clock", 0, "mode")) == "plugins.clock[0].mode"


@pytest.mark.parametrize(
    ("word", "meant"),
    [("gitref", "gitRef"), ("enabld", "enabled"), ("ENABLED", "enabled"), ("zzz", None), ("", None)],
)
def test_a_mistyped_word_finds_the_one_that_was_meant(word: str, meant: str | None) -> None:
    assert near_miss(word, ["gitRef", "enabled", "moduleURI"]) == meant
