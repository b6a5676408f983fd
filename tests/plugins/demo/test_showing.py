"""What a person sees: a line for each thing that happened, or a table; the picture loads nothing from elsewhere."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from innkeeper_demo.board import Board, Stage, Step
from innkeeper_demo.record import DemoRecord
from innkeeper_demo.showing import outcome, picture, plain_rows, printable, shown_on


def board(listener: object = None, *, problem: str = "") -> Board:
    board = Board(listener if callable(listener) else lambda _: None)
    for step in Step:
        with board.step(step):
            board.say(f"did {step.value}")
            if problem and step is Step.STOP:
                board.problem(problem)
    return board


def stages(**options: str) -> list[Stage]:
    return list(board(**options).stages.values())


def test_without_a_terminal_each_change_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_on(Console(file=io.StringIO()), keep=False) as listener:
        board(listener, problem="left a \x1b[2Jfile")
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0] == "build       did build"
    assert lines[1].startswith("build       ok (")
    assert lines[-1].startswith("stop        failed (")
    assert lines[-1].endswith("left a \\x1b[2Jfile")


def test_on_a_terminal_a_table_is_kept_up_to_date() -> None:
    file = io.StringIO()
    with shown_on(Console(file=file, force_terminal=True, width=80), keep=True) as listener:
        board(listener)
    assert "did crash" in file.getvalue()


@pytest.mark.parametrize(("ok", "verdict"), [(True, "everything held, in 21.5 s"), (False, "not everything held")])
def test_the_outcome_says_whether_it_held(ok: bool, verdict: str) -> None:
    file = io.StringIO()
    outcome(
        DemoRecord(ok=ok, seconds=21.5), stages(problem="" if ok else "a file is left"), Console(file=file, width=90)
    )
    assert verdict in file.getvalue()
    assert ("a file is left" in file.getvalue()) is not ok


def test_plain_rows_have_their_cells_between_tabs() -> None:
    rows = [row.split("\t") for row in plain_rows(stages(problem="two\nlines"))]
    assert [row[0] for row in rows] == [step.value for step in Step]
    assert rows[0][1] == "ok"
    assert rows[0][3] == "did build"
    assert rows[-1][1:] == ["failed", rows[-1][2], "two lines"]


def test_the_picture_is_whole_and_loads_nothing() -> None:
    svg = picture(DemoRecord(ok=True, seconds=20.0), stages(), "make demo")
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "make demo" in svg.replace("&#160;", " ")
    assert svg.count("http") == 1
    assert "url(" not in svg.replace("url(#", "")


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b\x07b\nc\x9b") == "a\\x1b\\x07b\nc\\x9b"
