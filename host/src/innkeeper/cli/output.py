"""Data on stdout, in the form that was asked for.

Rules of this module:

1. JSON and YAML show every field; tables and plain text show the columns that a person asks for first.
2. ``plain`` is one line per row, cells separated by tabs, without a header: for ``cut`` and ``awk``.
3. A table on a terminal has colours and fits its width; piped it is aligned text. ``NO_COLOR`` is honoured.
4. What guests and files say is shown with its control characters escaped: no text may write to the terminal what it
   does not seem to write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click

from innkeeper.cli.options import OutputFormat

__all__ = ["Columns", "printable", "show_line", "show_one", "show_rows", "show_structured", "talk", "trigger_lines"]

# Keys of a row's record, and their titles.
Columns = Mapping[str, str]
Record = Mapping[str, Any]

_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}

# States and statuses that a person looks for, on a terminal.
_COLOURS: Final = {
    **dict.fromkeys(("ready", "running", "success", "active"), "green"),
    **dict.fromkeys(("failed", "error", "timeout", "quarantined", "in_doubt"), "red"),
    **dict.fromkeys(("degraded", "restarting", "deferred", "unsupported", "draining"), "yellow"),
    **dict.fromkeys(("disabled", "paused", "stopped"), "bright_black"),
}


def talk(text: str, *, colour: str | None = None) -> None:
    """Say something to the person, on stderr."""
    click.secho(text, fg=colour, err=True)


def printable(text: str, *, lines: bool = False) -> str:
    """Return a text with its control characters escaped.

    Args:
        text: Whatever somebody else wrote.
        lines: Let line ends and tabs through.
    """
    escapes = {code: seen for code, seen in _ESCAPES.items() if not (lines and code in (0x09, 0x0A))}
    return text.translate(escapes)


def show_rows(rows: Iterable[Record], columns: Columns, output: OutputFormat, *, empty: str) -> None:
    """Print records.

    Args:
        rows: What JSON and YAML show whole.
        columns: What the other forms show, in order.
        output: The form.
        empty: What a person is told, on stderr, if there are none.
    """
    records = list(rows)
    match output:
        case OutputFormat.JSON | OutputFormat.YAML:
            show_structured(records, output)
        case OutputFormat.PLAIN:
            for record in records:
                click.echo("\t".join(_cell(record.get(key)) for key in columns))
        case OutputFormat.TABLE if not records:
            talk(empty)
        case OutputFormat.TABLE:
            _table(records, columns)


def show_one(record: Record, output: OutputFormat, *, fields: Columns) -> None:
    """Print one record.

    Args:
        record: What JSON and YAML show whole.
        output: The form.
        fields: What the other forms show, in order; what the record lacks is left out.
    """
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        show_structured(record, output)
        return
    shown = {title: record[key] for key, title in fields.items() if record.get(key) not in (None, "", [], {})}
    width = max(map(len, shown), default=0) + 2
    for title, value in shown.items():
        if output is OutputFormat.PLAIN:
            click.echo(f"{title}\t{_cell(value)}")
        else:
            click.echo(click.style(f"{title}:".ljust(width), bold=True) + _coloured(_cell(value)))


def show_line(record: Record, text: str, output: OutputFormat) -> None:
    """Print one of many records as it comes: a line of text, of JSON, or a YAML document's item."""
    match output:
        case OutputFormat.JSON:
            click.echo(json.dumps(record, ensure_ascii=False))
        case OutputFormat.YAML:
            click.echo(_yaml([record]), nl=False)
        case _:
            click.echo(printable(text))


def trigger_lines(triggers: Iterable[Record]) -> Iterator[str]:
    """Yield a line for each of a workflow's triggers: its index, capability, method and configuration."""
    for shown in triggers:
        config = "" if shown["config"] is None else f"  {json.dumps(shown['config'], ensure_ascii=False)}"
        yield printable(f"{shown['index']}  {shown['id']}  {shown['method']}{config}")


def show_structured(data: Any, output: OutputFormat) -> None:
    """Print data whole: as YAML if that was asked for, else as JSON."""
    if output is OutputFormat.YAML:
        click.echo(_yaml(data), nl=False)
    else:
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))


def _yaml(data: Any) -> str:
    import yaml  # noqa: PLC0415 - only this form pays for it

    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return text


def _cell(value: Any) -> str:
    match value:
        case None:
            text = ""
        case bool():
            text = "yes" if value else "no"
        case str():
            text = value
        case list() | tuple() if all(isinstance(item, str) for item in value):
            text = ", ".join(value)
        case _:
            text = json.dumps(value, ensure_ascii=False)
    return printable(text)


def _coloured(text: str) -> str:
    colour = _COLOURS.get(text)
    return click.style(text, fg=colour) if colour else text


def _table(records: Sequence[Record], columns: Columns) -> None:
    cells = [[_cell(record.get(key)) for key in columns] for record in records]
    if sys.stdout.isatty():
        _rich_table(list(columns.values()), cells)
        return
    titles = [title.upper() for title in columns.values()]
    widths = [max(len(row[index]) for row in [titles, *cells]) for index in range(len(titles))]
    for row in [titles, *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415 - only a terminal pays for it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console().print(table)
