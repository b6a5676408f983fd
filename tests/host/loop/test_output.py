"""What plugins print, as records of the log."""

from __future__ import annotations

import json
import logging
import logging.handlers

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.loop.output import Lines, PluginLog

NAME = "test.output"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> PluginLog:
    caplog.set_level(logging.DEBUG, logger=NAME)
    return PluginLog(logging.getLogger(NAME), {"provider": "p", "part": "q"})


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("trace", "DEBUG"),
        ("debug", "DEBUG"),
        ("info", "INFO"),
        ("warn", "WARNING"),
        ("error", "ERROR"),
        ("critical", "CRITICAL"),
        ("dpanic", "CRITICAL"),
    ],
)
def test_a_json_line_keeps_its_level_text_and_values(
    log: PluginLog, caplog: pytest.LogCaptureFixture, name: str, level: str
) -> None:
    line = {"@level": name, "@message": "up", "@timestamp": "2026-01-02T03:04:05.000006Z", "port": 7, "who": {"a": [1]}}
    log.take(json.dumps(line).encode())
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (level, "up")
    assert record.__dict__["values"] == {"port": 7, "who": '{"a": [1]}'}
    assert record.__dict__["provider"] == "p"


def test_a_fatal_line_and_a_panic_in_json_are_critical_and_say_so(
    log: PluginLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.take(b'{"@level":"fatal","@message":"over"}')
    log.take(b'{"@level":"error","@message":"panic: x"}')
    assert said(caplog) == [("CRITICAL", "[FATAL] over"), ("CRITICAL", "[PANIC] panic: x")]


@pytest.mark.parametrize(
    "line",
    [
        b'{"@level":"info","@message":5}',
        b'{"@level":7,"@message":"x"}',
        b'{"@level":"loud","@message":"x"}',
        b'{"@level":"info"}',
        b'{"@message":"x"}',
        b'{"@level":"info","@message":"x","@timestamp":"yesterday"}',
        b'{"@level":"info","@message":"x","@timestamp":5}',
        b'{"@level":"info","@message":"x"',
        b"{" * 100_000,
        b'{"a":' + b"1" * 10_000 + b"}",
        b"plain",
    ],
)
def test_what_is_not_hclogs_json_is_a_raw_line_at_debug(
    log: PluginLog, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    log.take(line)
    ((level, text),) = said(caplog)
    assert level == "DEBUG"
    assert text.startswith(line[:50].decode())


def test_a_prefix_is_the_level_and_is_taken_off(log: PluginLog, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OTHER"):
        log.take(f"[{name}]  text".encode())
    assert said(caplog) == [
        ("DEBUG", "text"),
        ("DEBUG", "text"),
        ("INFO", "text"),
        ("WARNING", "text"),
        ("ERROR", "text"),
        ("DEBUG", "[OTHER]  text"),
    ]


@pytest.mark.parametrize("first", [b"panic: nil map", b"fatal error: deadlock"])
def test_everything_after_a_panic_is_an_error(log: PluginLog, caplog: pytest.LogCaptureFixture, first: bytes) -> None:
    for line in (b"before", first, b"goroutine 1 [running]:", b"main.go:7"):
        log.take(line)
    assert [level for level, _ in said(caplog)] == ["DEBUG", "ERROR", "ERROR", "ERROR"]


def test_a_traceback_is_an_error_up_to_its_exception(log: PluginLog, caplog: pytest.LogCaptureFixture) -> None:
    for line in (b"Traceback (most recent call last):", b'  File "x", line 1', b"    boom()", b"ValueError: x", b"on"):
        log.take(line)
    assert [level for level, _ in said(caplog)] == ["ERROR"] * 4 + ["DEBUG"]


def test_nothing_looks_like_a_line_of_its_own_or_moves_a_cursor(
    log: PluginLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.take(json.dumps({"@level": "info", "@message": "a\nb\x1b[2J\ud800", "k\n": "v\r\n"}).encode())
    log.take(b"raw \x1b[31m \xff\x00")
    first, second = caplog.records
    assert first.getMessage() == r"a\nb\x1b[2J\ud800"
    assert first.__dict__["values"] == {r"k\n": r"v\r\n"}
    assert second.getMessage() == r"raw \x1b[31m \xff\x00"


def test_the_last_lines_are_kept_and_cut(log: PluginLog) -> None:
    for number in range(30):
        log.take(b"%d" % number + b"x" * 1000)
    log.take(b"   ")
    assert len(log.last) == 20
    assert log.last[-1].startswith("29x")
    assert max(map(len, log.last)) == 500


def test_what_a_plugin_says_does_not_hide_what_the_host_says(log: PluginLog, caplog: pytest.LogCaptureFixture) -> None:
    log.take(b'{"@level":"info","@message":"m","provider":"other","message":"x","args":1,"name":"n"}')
    (record,) = caplog.records
    assert record.__dict__["provider"] == "p"
    assert record.name == NAME


def test_lines_are_split_wherever_they_are_cut() -> None:
    taken: list[bytes] = []
    lines = Lines(taken.append)
    for piece in (b"a", b"b\r\nc\n\nd", b"e"):
        lines.feed(piece)
    assert taken == [b"ab", b"c", b""]
    lines.end()
    lines.end()
    assert taken[3:] == [b"de"]


def test_a_line_without_an_end_comes_in_pieces() -> None:
    taken: list[bytes] = []
    lines = Lines(taken.append)
    lines.feed(b"x" * 200_000)
    assert [len(piece) for piece in taken] == [65536] * 3
    lines.feed(b"\n")
    assert sum(map(len, taken)) == 200_000


@given(st.lists(st.binary(max_size=50)))
def test_no_byte_is_lost_or_made(pieces: list[bytes]) -> None:
    taken: list[bytes] = []
    lines = Lines(taken.append)
    for piece in pieces:
        lines.feed(piece)
    lines.end()
    whole = b"".join(pieces)
    assert taken == [line.rstrip(b"\r") for line in whole.split(b"\n")][: len(taken)]
    assert len(taken) == whole.count(b"\n") + (not whole.endswith(b"\n") and bool(whole))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@given(
    st.one_of(
        st.binary(),
        st.dictionaries(st.sampled_from(["@message", "@level", "@timestamp", "a", "exc_info"]) | st.text(), JSON).map(
            lambda value: json.dumps(value).encode()
        ),
    )
)
def test_whatever_is_printed_is_a_record_that_can_be_shown(line: bytes) -> None:
    logger = logging.Logger("fuzz", logging.DEBUG)
    handler = logging.handlers.BufferingHandler(100)
    logger.addHandler(handler)
    PluginLog(logger, {"provider": "p"}).take(line)
    assert all(record.getMessage().isprintable() for record in handler.buffer)
