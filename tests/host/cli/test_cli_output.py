"""The forms of a command's data."""

from __future__ import annotations

import io
import json
import sys

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.cli.options import OutputFormat
from innkeeper.cli.output import printable, show_line, show_one, show_rows

COLUMNS = {"id": "id", "state": "state", "tags": "tags", "ok": "fine"}
ROWS = [
    {"id": "a", "state": "ready", "tags": ["x", "y"], "ok": True, "hidden": {"n": 1}},
    {"id": "bcd", "state": "failed", "tags": [], "ok": False, "hidden": None},
]


def shown(capsys: pytest.CaptureFixture[str], output: OutputFormat) -> str:
    show_rows(ROWS, COLUMNS, output, empty="none")
    return capsys.readouterr().out


def test_json_and_yaml_show_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(capsys, OutputFormat.JSON)) == ROWS
    assert yaml.safe_load(shown(capsys, OutputFormat.YAML)) == ROWS


def test_plain_is_one_line_per_row_without_a_header(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, OutputFormat.PLAIN) == "a\tready\tx, y\tyes\nbcd\tfailed\t\tno\n"


def test_a_piped_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, OutputFormat.TABLE).splitlines() == [
        "ID   STATE   TAGS  FINE",
        "a    ready   x, y  yes",
        "bcd  failed        no",
    ]


@pytest.mark.parametrize(("output", "text"), [("json", "[]\n"), ("yaml", "[]\n"), ("plain", ""), ("table", "")])
def test_no_rows_are_no_data(capsys: pytest.CaptureFixture[str], output: str, text: str) -> None:
    show_rows([], COLUMNS, OutputFormat(output), empty="there are none")
    captured = capsys.readouterr()
    assert captured.out == text
    assert captured.err == ("there are none\n" if output == "table" else "")


def test_a_table_on_a_terminal_is_coloured_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    for no_color in ("", "1"):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("NO_COLOR", no_color)
        show_rows(ROWS, COLUMNS, OutputFormat.TABLE, empty="none")
        assert "bcd" in terminal.getvalue()
        assert ("\x1b[3" in terminal.getvalue()) == (not no_color)


def test_one_record_shows_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"id": "id", "state": "its state", "missing": "missing", "hidden": "more"}
    show_one(ROWS[0], OutputFormat.TABLE, fields=fields)
    assert capsys.readouterr().out == 'id:        a\nits state: ready\nmore:      {"n": 1}\n'
    show_one(ROWS[1], OutputFormat.PLAIN, fields=fields)
    assert capsys.readouterr().out == "id\tbcd\nits state\tfailed\n"
    show_one(ROWS[0], OutputFormat.JSON, fields=fields)
    assert json.loads(capsys.readouterr().out) == ROWS[0]


def test_lines_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    for output in (OutputFormat.JSON, OutputFormat.YAML, OutputFormat.TABLE):
        show_line({"n": 1}, "one", output)
        show_line({"n": 2}, "t\x1bwo", output)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines[:2]] == [{"n": 1}, {"n": 2}]
    assert yaml.safe_load("\n".join(lines[2:4])) == [{"n": 1}, {"n": 2}]
    assert lines[4:] == ["one", "t\\x1bwo"]


@given(st.text())
def test_no_text_controls_the_terminal(text: str) -> None:
    seen = printable(text)
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in seen)
    assert click.unstyle(seen) == seen


def test_lines_and_tabs_may_be_let_through() -> None:
    assert printable("a\n\tb\r\x1b[2Jc", lines=True) == "a\n\tb\\x0d\\x1b[2Jc"


@pytest.mark.parametrize("text", ['{"confidential": true}', '{"level": 3}', '{"b": null, "a": [1, {"é": false}]}'])
def test_attributes_are_shown_as_their_json(capsys: pytest.CaptureFixture[str], text: str) -> None:
    for output, line in ((OutputFormat.TABLE, f"attributes: {text}\n"), (OutputFormat.PLAIN, f"attributes\t{text}\n")):
        show_one({"attributes": json.loads(text)}, output, fields={"attributes": "attributes"})
        assert capsys.readouterr().out == line
