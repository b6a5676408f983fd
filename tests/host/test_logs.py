"""The host's own log."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from innkeeper import logs


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    """Give the root logger back what it had."""
    root = logging.getLogger()
    before = (root.handlers, root.level, logging.raiseExceptions)
    yield
    root.handlers, root.level, logging.raiseExceptions = before
    logging.captureWarnings(capture=False)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail() -> None:
    secret = "s3cr3t"  # noqa: S105, F841 - what must not show
    raise RuntimeError("it broke")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_machine_gets_json_lines_with_fields() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    logging.getLogger("innkeeper.part").info("done in %d", 3, extra={"provider": "p", "odd": object})
    (line,) = lines(stream)
    assert line["event"] == "done in 3"
    assert line["level"] == "info"
    assert line["logger"] == "innkeeper.part"
    assert line["provider"] == "p"
    assert "object" in str(line["odd"])
    assert str(line["timestamp"]).endswith("Z")


@pytest.mark.parametrize("human", [False, True])
def test_tracebacks_show_no_values_of_variables(*, human: bool) -> None:
    stream = io.StringIO()
    logs.configure(stream, human=human)
    try:
        fail()
    except RuntimeError:
        logging.getLogger("x").exception("bad")
    assert "it broke" in stream.getvalue()
    assert "in fail" in stream.getvalue()
    assert "s3cr3t" not in stream.getvalue()


def test_a_person_gets_text() -> None:
    stream = Terminal()
    logs.configure(stream)
    logging.getLogger("x").warning("look", extra={"provider": "p"})
    assert "look" in stream.getvalue()
    assert "provider" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_levels_are_kept_and_chatty_libraries_are_quiet() -> None:
    stream = io.StringIO()
    logs.configure(stream, level="warning")
    logging.getLogger("x").info("no")
    logging.getLogger("x").warning("yes")
    logs.configure(stream, level="debug")
    logging.getLogger("aiosqlite").info("no")
    logging.getLogger("x").debug("too")
    assert [line["event"] for line in lines(stream)] == ["yes", "too"]


def test_warnings_of_python_are_lines_too() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    assert "old" in str(lines(stream)[0]["event"])


def test_a_reader_that_is_gone_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(text)

    logs.configure(Gone())
    logging.getLogger("x").info("into the void")
    assert capsys.readouterr().err == ""
