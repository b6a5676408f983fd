"""Log lines."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.loop import hclog
from innkeeper_sdk.loop.hclog import HclogHandler

# Go's layout 2006-01-02T15:04:05.000000Z07:00.
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
LIMIT = 64 * 1024


def record(message: str, *args: object, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    return logging.getLogger("probe").makeRecord("probe", level, "/x/file.py", 7, message, args, None, extra=extra)


def fail(text: str) -> None:
    raise ValueError(text)


def failed(text: str) -> logging.LogRecord:
    entry = record("m")
    try:
        fail(text)
    except ValueError:
        entry.exc_info = sys.exc_info()
    return entry


def read(line: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(line)
    return fields


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (5, "debug"),
        (logging.DEBUG, "debug"),
        (logging.INFO, "info"),
        (25, "info"),
        (logging.WARNING, "warn"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "critical"),
        (99, "critical"),
    ],
)
def test_levels_have_the_names_that_a_go_host_knows(level: int, name: str) -> None:
    assert read(HclogHandler().format(record("m", level=level)))["@level"] == name


def test_a_line_says_what_when_and_where() -> None:
    fields = read(HclogHandler().format(record("%s is %d", "it", 3)))

    assert fields["@message"] == "it is 3"
    assert TIMESTAMP.fullmatch(fields["@timestamp"])
    assert (fields["logger"], fields["caller"]) == ("probe", "file.py:7")


def test_extras_stand_beside_and_never_in_place_of_what_the_host_reads() -> None:
    fields = read(HclogHandler().format(record("m", count=3, thing=object(), **{"@message": 5, "@level": None})))

    assert (fields["count"], fields["thing"]) == (3, "object")
    assert (fields["@message"], fields["@level"]) == ("m", "info")


@given(st.text())
def test_any_text_is_one_line_that_comes_back(message: str) -> None:
    line = HclogHandler().format(record("%s", message))

    assert "\n" not in line
    assert line.isascii()
    assert read(line)["@message"] == message


def test_what_is_no_text_is_made_one() -> None:
    odd = record("m")
    odd.msg = 5

    assert read(HclogHandler().format(odd))["@message"] == "5"


@pytest.mark.parametrize("letter", ["a", "\n", "ü", "\U0001f600", "\ud800"])
def test_a_message_that_is_too_long_is_cut_and_says_so(letter: str) -> None:
    line = HclogHandler().format(record("%s", letter * 200_000, huge="x" * 200_000))

    assert len(line) + 1 < LIMIT
    fields = read(line)
    assert fields["@message"].endswith("[cut]")
    assert "huge" not in fields


def test_extras_that_are_too_long_go_and_the_message_stays() -> None:
    fields = read(HclogHandler().format(record("m", huge="x" * 200_000)))

    assert fields["@message"] == "m"
    assert "huge" not in fields


def test_an_exception_has_its_trace_beside_the_message() -> None:
    entry = failed("broken")

    fields = read(HclogHandler().format(entry))

    assert fields["@message"] == "m"
    assert fields["stacktrace"].endswith("ValueError: broken")


def test_a_trace_that_is_too_long_keeps_its_end() -> None:
    entry = failed("y" * 100_000 + "end")

    line = HclogHandler().format(entry)

    assert len(line) < LIMIT
    assert read(line)["stacktrace"].endswith("end")


def test_records_are_lines_on_the_descriptor() -> None:
    reading, writing = os.pipe()
    handler = HclogHandler(writing)
    handler.handle(record("one"))
    handler.handle(record("two"))
    os.close(writing)

    with os.fdopen(reading) as lines:
        assert [read(line)["@message"] for line in lines] == ["one", "two"]


def test_nobody_reading_is_borne() -> None:
    reading, writing = os.pipe()
    os.close(reading)

    HclogHandler(writing).emit(record("into the void"))

    os.close(writing)


def test_any_other_failure_to_write_does_not_end_who_logs(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    handler = HclogHandler(writing)

    for _ in range(3):
        handler.emit(record("x" * 50_000))

    assert "Logging error" in capsys.readouterr().err
    os.close(reading)
    os.close(writing)


def test_arguments_that_do_not_fit_do_not_end_who_logs(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()

    HclogHandler(writing).emit(record("%d", "three"))

    os.close(writing)
    with os.fdopen(reading) as lines:
        assert lines.read() == ""
    assert "Logging error" in capsys.readouterr().err


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_installing_makes_it_the_only_way_to_log(root: logging.Logger) -> None:
    root.addHandler(logging.StreamHandler())

    hclog.install(logging.WARNING)

    assert [type(handler) for handler in root.handlers] == [HclogHandler]
    assert root.level == logging.WARNING
