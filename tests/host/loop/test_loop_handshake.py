"""The handshake line, and what is made of its absence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.loop.handshake import LINE_BYTES, Cause, HandshakeError, cause_of, exit_text, parse, quoted

DIRECTORY = Path("/run/x/abcd")


@pytest.mark.parametrize(
    "line",
    [
        b"1|0|unix|/run/x/abcd/plugin1|grpc\n",
        b"1|0|unix|/run/x/abcd/plugin1|grpc|\n",
        b"1|0|unix|/run/x/abcd/plugin1|grpc|\r\n",
        b"1|0|unix|/run/x/abcd/plugin1|grpc||false",
        b"1|0|unix|/run/x/abcd/plugin1|grpc|short|\n",
        b"  1|0|unix|/run/x/abcd/plugin1|grpc  \n",
    ],
)
def test_a_line_of_five_to_seven_fields_names_a_socket(line: bytes) -> None:
    assert parse(line, directory=DIRECTORY) == Path("/run/x/abcd/plugin1")


def test_a_socket_may_be_in_a_directory_of_the_plugins_own() -> None:
    assert parse(b"1|0|unix|/run/x/abcd/p/1.sock|grpc", directory=DIRECTORY) == Path("/run/x/abcd/p/1.sock")


@pytest.mark.parametrize(
    ("line", "text", "cause"),
    [
        (b"", "no handshake", Cause.NOT_A_PLUGIN),
        (b"hello world\n", "no handshake", Cause.NOT_A_PLUGIN),
        (b"1|0|unix\n", "no handshake", Cause.NOT_A_PLUGIN),
        (b"1|0|unix|/run/x/abcd/p|grpc|||x", "no handshake", Cause.NOT_A_PLUGIN),
        (b"one|0|unix|/run/x/abcd/p|grpc", "no handshake", Cause.NOT_A_PLUGIN),
        (b"1|\xff|unix|/run/x/abcd/p|grpc", "no handshake", Cause.NOT_A_PLUGIN),
        (b"1|0|unix|/run/x/abcd/" + b"p" * LINE_BYTES + b"|grpc", "no handshake", Cause.NOT_A_PLUGIN),
        (b"2|0|unix|/run/x/abcd/p|grpc", "core protocol is '2'", Cause.OTHER_PROTOCOL),
        (b"1|1|unix|/run/x/abcd/p|grpc", "protocol version is '1'", Cause.OTHER_PROTOCOL),
        (b"1|0|tcp|127.0.0.1:1|grpc", "network is 'tcp'", Cause.OTHER_PROTOCOL),
        (b"1|0|unix|/run/x/abcd/p", "protocol is 'netrpc'", Cause.OTHER_PROTOCOL),
        (b"1|0|unix|/run/x/abcd/p|netrpc", "protocol is 'netrpc'", Cause.OTHER_PROTOCOL),
        (b"1|0|unix|/run/x/abcd/p|grpc|" + b"A" * 51, "TLS", Cause.OTHER_PROTOCOL),
        (b"1|0|unix|/run/x/abcd/p|grpc||true", "multiplexes", Cause.OTHER_PROTOCOL),
        (b"1|0|unix|/run/x/abcd/" + b"p" * 100 + b"|grpc", "address is none", Cause.NOT_A_PLUGIN),
        (b"1|0|unix|/run/x/abcd/p\0|grpc", "address is none", Cause.NOT_A_PLUGIN),
        (b"1|0|unix||grpc", "not in the directory", Cause.OTHER_PROTOCOL),
        (b"1|0|unix|/run/docker.sock|grpc", "not in the directory", Cause.OTHER_PROTOCOL),
        (b"1|0|unix|/run/x/abcd/../p|grpc", "not in the directory", Cause.OTHER_PROTOCOL),
        (b"1|0|unix|/run/x/abcd|grpc", "not in the directory", Cause.OTHER_PROTOCOL),
        (b"1|0|unix|/run/x/abcde/p|grpc", "not in the directory", Cause.OTHER_PROTOCOL),
    ],
)
def test_a_line_that_cannot_be_followed_is_refused_with_its_cause(line: bytes, text: str, cause: Cause) -> None:
    with pytest.raises(HandshakeError, match=text) as caught:
        parse(line, directory=DIRECTORY)
    assert caught.value.cause is cause


@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([b"1", b"0", b"unix", b"grpc"])), max_size=8).map(
            b"|".join
        ),
    )
)
def test_whatever_is_printed_is_a_socket_of_the_directory_or_an_error_that_can_be_shown(line: bytes) -> None:
    text = ""
    try:
        path = parse(line, directory=DIRECTORY)
    except HandshakeError as error:
        text, path = str(error), DIRECTORY / "none"
    assert text.isprintable()
    assert path.is_relative_to(DIRECTORY)
    assert ".." not in path.parts


@pytest.mark.parametrize(
    ("printed", "errors", "status", "cause"),
    [
        (b"", "", None, Cause.SILENT),
        (b"hello", "", None, Cause.NOT_A_PLUGIN),
        (b"", "Killed", -9, Cause.KILLED),
        (b"", "boom", 1, Cause.ENDED),
        (b"", "This binary is a plugin. These are not meant to be executed directly.", 1, Cause.COOKIE),
        (b"", "This binary is a plugin. These are not meant to be executed directly.", 2, Cause.ENDED),
        (b"x", "This binary is a plugin. These are not meant to be executed directly.", 1, Cause.ENDED),
    ],
)
def test_the_likely_cause_follows_from_what_was_seen(
    printed: bytes, errors: str, status: int | None, cause: Cause
) -> None:
    assert cause_of(printed, errors, status) is cause


def test_only_a_plugin_of_another_kind_is_hopeless() -> None:
    assert [cause for cause in Cause if cause.hopeless] == [Cause.OTHER_PROTOCOL, Cause.COOKIE]


def test_an_end_is_told_in_words() -> None:
    assert exit_text(3) == "exited with status 3"
    assert exit_text(-9) == "was ended by SIGKILL"
    assert exit_text(-40) == "was ended by signal 40"
    assert exit_text(None) == "ended, nobody knows how"


@given(st.binary(max_size=1000))
def test_what_is_quoted_is_short_and_moves_no_cursor(text: bytes) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 10 * 301
