"""The handshake of a plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.loop import handshake
from innkeeper_sdk.loop.handshake import Handshake, HandshakeError, negotiate

COOKIE = {handshake.COOKIE_NAME: handshake.COOKIE_VALUE}


def test_the_cookie_is_that_of_standard_capabilities() -> None:
    assert COOKIE == {"CL_PLUGIN_STANDARD_CAPABILITIES_MAGIC_COOKIE": "f4df86d3-3552-4231-8206-be0d245b6c67"}


@given(st.text())
def test_no_other_cookie_is_taken(value: str) -> None:
    if value != handshake.COOKIE_VALUE:
        with pytest.raises(HandshakeError, match="is a plugin of"):
            handshake.read({handshake.COOKIE_NAME: value})


def test_what_a_go_host_sets_is_read() -> None:
    env = COOKIE | {"PLUGIN_MIN_PORT": "10000", "PLUGIN_MAX_PORT": "25000", "PLUGIN_PROTOCOL_VERSIONS": "0"}

    assert handshake.read(env) == Handshake(directory=Path("/tmp"), version=0, multiplex=False)  # noqa: S108 - go-plugin's default


def test_the_hosts_own_directory_goes_before_tmpdir() -> None:
    assert handshake.read(COOKIE | {"TMPDIR": "/a"}).directory == Path("/a")
    assert handshake.read(COOKIE | {"TMPDIR": "/a", "PLUGIN_UNIX_SOCKET_DIR": "/b"}).directory == Path("/b")
    assert handshake.read(COOKIE | {"TMPDIR": "/a", "PLUGIN_UNIX_SOCKET_DIR": ""}).directory == Path("/a")


@pytest.mark.parametrize("name", ["PLUGIN_CLIENT_CERT", "PLUGIN_UNIX_SOCKET_GROUP"])
def test_what_would_open_or_change_the_sockets_is_refused(name: str) -> None:
    with pytest.raises(HandshakeError, match=name):
        handshake.read(COOKIE | {name: "x"})


@pytest.mark.parametrize(
    ("offered", "supported", "chosen"),
    [
        ("0", (0,), 0),
        ("", (0,), 0),
        ("7", (0,), 0),
        ("3,1,2", (1, 2), 2),
        ("1,2,3", (3, 2), 3),
        ("9", (4, 5), 4),
        (" 2 , 1 ", (1, 2), 2),
        ("99999999999999999999", (1,), 1),
    ],
)
def test_the_newest_common_version_is_chosen_else_the_lowest(
    offered: str, supported: tuple[int, ...], chosen: int
) -> None:
    assert negotiate(offered, supported)[0] == chosen


@given(st.lists(st.integers(0, 9), max_size=5), st.sets(st.integers(0, 9), min_size=1))
def test_the_order_of_the_offer_does_not_matter(offered: list[int], supported: set[int]) -> None:
    text, backwards = ",".join(map(str, offered)), ",".join(map(str, reversed(offered)))

    chosen, ignored = negotiate(text, tuple(supported))

    assert (chosen, ignored) == negotiate(backwards, tuple(sorted(supported)))
    assert ignored == ()
    assert chosen == max(supported & set(offered), default=min(supported))


@given(st.text(max_size=40))
def test_whatever_is_offered_a_version_is_chosen_and_the_rest_is_told(text: str) -> None:
    chosen, ignored = negotiate(text, (0,))

    assert chosen == 0
    assert all(not (entry.isascii() and entry.isdigit() and len(entry) < 20) for entry in ignored)


def test_the_line_has_six_fields_and_a_seventh_as_an_answer_only() -> None:
    shaken = Handshake(directory=Path("/d"), version=0, multiplex=False)

    assert shaken.line(Path("/d/main.sock")) == "1|0|unix|/d/main.sock|grpc|\n"
    asked = Handshake(directory=Path("/d"), version=0, multiplex=True)
    assert asked.line(Path("/d/main.sock")) == "1|0|unix|/d/main.sock|grpc||false\n"


@pytest.mark.parametrize("path", ["/a|b", "/a\nb", "/a\rb", "/" + "x" * 107])
def test_a_path_that_would_break_the_line_is_refused(path: str) -> None:
    with pytest.raises(HandshakeError, match="cannot be told"):
        Handshake(directory=Path("/"), version=0, multiplex=False).line(Path(path))


def test_a_path_of_107_bytes_is_taken() -> None:
    line = Handshake(directory=Path("/"), version=0, multiplex=False).line(Path("/" + "x" * 106))

    assert line.count("|") == 5
