"""What a file is, and which bytes of it are stored."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper.modules.kinds import DeclaredKind, KindMatch, declare_kinds, decode, kind_of
from innkeeper_sdk.errors import ConflictError, WorkflowError
from innkeeper_sdk.manifest import Kind, Manifest, ModuleDeclaration, Suffix

BINARY = Kind(
    name="tape",
    module="player",
    suffixes=[Suffix(".tape"), Suffix(".tape.br"), Suffix(".br.b64", "base64"), Suffix(".b64", "base64")],
    magic=["00746170"],
)
TEXT = Kind(name="score", module="piano", suffixes=[Suffix(".br.score")], magic=["73636f7265"])
KINDS = [DeclaredKind("music", BINARY), DeclaredKind("paper", TEXT)]

TAPE = KindMatch("music", "tape", "player", "none")
TAPE_64 = KindMatch("music", "tape", "player", "base64")
SCORE = KindMatch("paper", "score", "piano", "none")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.tape", b"x", TAPE),
        ("some/where/a.b.tape", b"x", TAPE),
        ("A.TAPE", b"x", TAPE),
        ("a.tape.br", b"x", TAPE),
        ("a.tape.br.b64", b"x", TAPE_64),
        ("a.b64", b"x", TAPE_64),
        ("a.br.score", b"\x00tap", SCORE),
        # Only without a declared ending do the first bytes decide.
        ("a", b"\x00tape", TAPE),
        ("a.bin", b"score: x", SCORE),
        ("tape", b"score", SCORE),
    ],
)
def test_the_name_decides_then_the_first_bytes(name: str, content: bytes, match: KindMatch) -> None:
    assert kind_of(name, content, KINDS) == match


@pytest.mark.parametrize("name", ["a", "a.txt", "tape", "a.tape.gz", ""])
def test_a_file_that_nothing_takes_is_refused_with_what_would_be_taken(name: str) -> None:
    with pytest.raises(WorkflowError, match=r"\.b64, \.br\.b64, \.br\.score, \.tape, \.tape\.br"):
        kind_of(name, b"MZ", KINDS)
    with pytest.raises(WorkflowError, match="a module type that takes files"):
        kind_of(name, b"MZ", [])


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(WorkflowError, match="empty"):
        kind_of("a.tape", b"", KINDS)


@pytest.mark.parametrize(("name", "content"), [("a.tape", b"x"), ("a", b"\x00tape")])
def test_a_file_that_two_kinds_take_is_an_error_naming_both(name: str, content: bytes) -> None:
    rival = DeclaredKind("rival", Kind(name="reel", module="reel", suffixes=[Suffix(".TAPE")], magic=["00"]))
    with pytest.raises(ConflictError, match="tape of the provider music and reel of the provider rival"):
        kind_of(name, content, [*KINDS, rival])


def test_one_kind_that_fits_twice_is_no_conflict() -> None:
    twice = Kind(name="tape", module="player", magic=["00", "0074"])
    assert kind_of("a", b"\x00t", [DeclaredKind("music", twice)]) == TAPE


@settings(deadline=None)
@given(st.binary(min_size=1), st.sampled_from([b"", b"\n", b"\r\n", b"  \t\n"]))
def test_base64_is_removed_and_nothing_else(content: bytes, around: bytes) -> None:
    assert decode(around + base64.b64encode(content) + around, TAPE_64) == content
    assert decode(content, TAPE) == content


@pytest.mark.parametrize(
    "content",
    [b"QQ", b"QR==", b"Q Q=", b"QUJD\nQUJD", b"QQ==QQ==", b"Q-_Q", b"\xff\xff\xff\xff", b"=", b"  ", b"QQ==\0"],
)
def test_what_is_not_strictly_base64_is_refused_with_its_file(content: bytes) -> None:
    with pytest.raises(WorkflowError) as caught:
        decode(content, TAPE_64, path="a.b64")
    assert caught.value.path == "a.b64"


def test_kinds_are_gathered_with_their_providers() -> None:
    manifests = [
        Manifest(id="music", title="M", sdk=">=0", modules=[ModuleDeclaration("player")], kinds=[BINARY]),
        Manifest(id="none", title="N", sdk=">=0"),
        Manifest(id="paper", title="P", sdk=">=0", modules=[ModuleDeclaration("piano")], kinds=[TEXT]),
    ]
    assert declare_kinds(manifests) == KINDS
