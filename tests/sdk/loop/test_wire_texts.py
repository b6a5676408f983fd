"""The texts of failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.capability import CapabilityError, ErrorCode, ErrorVisibility, Origin
from innkeeper_sdk.loop.texts import error_from_text, error_to_text, status_text

TEXT = st.text(max_size=20)
MOST = 64 << 10


def parts(error: CapabilityError) -> tuple[str, ErrorCode, Origin, ErrorVisibility]:
    return error.message, error.error_code, error.origin, error.visibility


@given(TEXT)
def test_a_text_of_no_known_words_is_private_and_whole(text: str) -> None:
    error = error_from_text(text)

    if text.partition(":")[0] not in ("Public", "Private"):
        assert parts(error) == (text, ErrorCode.Unknown, Origin.SYSTEM, ErrorVisibility.PRIVATE)


@pytest.mark.parametrize(
    "text",
    [
        "Private:message",
        "Private:a: b: c",
        "bare text",
        "one: two: three: four",
        "Public:System:Nonsense:m",
        "Public:Nobody:Unknown:m",
        "public:System:Unknown:m",
        "Public:System:Unknown",
        ":::",
        "",
    ],
)
def test_texts_of_go_peers_without_four_parts_stay_whole(text: str) -> None:
    assert parts(error_from_text(text)) == (text, ErrorCode.Unknown, Origin.SYSTEM, ErrorVisibility.PRIVATE)


def test_colons_in_a_message_are_the_messages() -> None:
    error = error_from_text("Public:User:InvalidArgument:a:b: c")

    assert parts(error) == ("a:b: c", ErrorCode.InvalidArgument, Origin.USER, ErrorVisibility.PUBLIC)


def test_a_text_that_is_not_unicode_is_escaped() -> None:
    assert error_to_text(CapabilityError("\ud800")) == "Public:System:Unknown:\\ud800"


def test_a_text_of_any_length_is_bounded_both_ways() -> None:
    left = error_to_text(CapabilityError("é" * MOST))
    arrived = error_from_text("Private:User:NotFound:" + "é" * MOST)

    assert len(left) == MOST
    assert left.endswith("é [cut]")
    assert len(arrived.message) < MOST
    assert parts(arrived)[1:] == (ErrorCode.NotFound, Origin.USER, ErrorVisibility.PRIVATE)
    assert arrived.message.endswith("é [cut]")
    assert error_from_text("x" * MOST).message == "x" * MOST


def test_the_text_of_a_status_fits_a_header_whatever_it_holds() -> None:
    assert status_text("as it is: é") == "as it is: é"
    assert status_text("\ud800") == "\\ud800"
    assert len(status_text("\U0001f37b" * 100_000).encode()) * 3 < 256 << 10
