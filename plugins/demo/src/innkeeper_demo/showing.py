"""The steps as a person sees them.

Rules of this module:

1. While the demonstration runs, what is shown goes to stderr: a table that changes on a terminal, else a line for each
   thing that happened.
2. The outcome is one table, the same in a terminal, in a file and in a picture; colours only where they are wanted.
3. What guests and hosts say is shown with its control characters escaped.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from innkeeper_demo.board import Listener, Stage, StepState
from innkeeper_demo.record import DemoRecord

__all__ = ["outcome", "picture", "plain_rows", "printable", "shown_on"]

_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x0A}

_MARKS: Final[Mapping[StepState, tuple[str, str]]] = {
    StepState.WAITING: ("·", "bright_black"),
    StepState.RUNNING: ("…", "yellow"),
    StepState.HELD: ("✓", "green"),
    StepState.FAILED: ("✗", "red"),
}
_PICTURE_WIDTH: Final = 100

# Rich's own picture loads its font from elsewhere; a picture in a README must not.
_PICTURE: Final = """\
<svg class="terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>innkeeper demo</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def printable(text: str) -> str:
    """Return a text with its control characters escaped, line ends left out."""
    return text.translate(_ESCAPES)


@contextmanager
def shown_on(console: Console, *, keep: bool) -> Iterator[Listener]:
    """Show steps while the context is open; it gives what is to be told of changes.

    Args:
        console: Where, on stderr.
        keep: Leave the last state on a terminal.
    """
    stages: dict[str, Stage] = {}
    if not console.is_terminal:
        said: dict[str, str] = {}

        def tell(stage: Stage) -> None:
            line = _line(stage)
            if (stage.detail or stage.problems) and said.get(stage.step.value) != line:
                said[stage.step.value] = line
                print(line, file=sys.stderr, flush=True)

        yield tell
        return
    with Live(console=console, refresh_per_second=8, transient=not keep) as live:

        def update(stage: Stage) -> None:
            stages[stage.step.value] = stage
            live.update(_table(list(stages.values())))

        yield update


def outcome(record: DemoRecord, stages: list[Stage], console: Console) -> None:
    """Print the outcome."""
    console.print(_table(stages))
    verdict = "everything held" if record.ok else "not everything held"
    console.print()
    console.print(Text(f"{verdict}, in {record.seconds:.1f} s", style="bold green" if record.ok else "bold red"))


def plain_rows(stages: list[Stage]) -> Iterator[str]:
    """Yield a line per step, its cells separated by tabs: name, state, seconds, and what was shown or went wrong."""
    for stage in stages:
        text = "; ".join(stage.problems) or stage.detail
        yield "\t".join((stage.step.value, stage.state.value, f"{stage.seconds:.1f}", _one_line(text)))


def picture(record: DemoRecord, stages: list[Stage], command: str) -> str:
    """Return the outcome as an SVG of a terminal.

    Args:
        record: The record.
        stages: The steps.
        command: What was typed.
    """
    console = Console(
        record=True, width=_PICTURE_WIDTH, force_terminal=True, color_system="truecolor", file=io.StringIO()
    )
    console.print(Text.assemble(("$ ", "bright_black"), command))
    outcome(record, stages, console)
    return console.export_svg(title="innkeeper demo", code_format=_PICTURE, unique_id="demo")


def _table(stages: list[Stage]) -> Table:
    table = Table(box=box.SIMPLE, show_header=False, show_edge=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    for stage in stages:
        mark, style = _MARKS[stage.state]
        seconds = "" if stage.state in (StepState.WAITING, StepState.RUNNING) else f"{stage.seconds:.1f} s"
        said = Text(printable(stage.detail), style="" if stage.state is StepState.HELD else "bright_black")
        for problem in stage.problems:
            said.append(f"\n{printable(problem)}", style="red")
        table.add_row(Text(mark, style=style), Text(stage.step.value, style="bold"), Text(seconds, style="cyan"), said)
    return table


def _line(stage: Stage) -> str:
    text = "; ".join(stage.problems) or stage.detail
    state = "" if stage.state is StepState.RUNNING else f"{stage.state.value} ({stage.seconds:.1f} s): "
    return f"{stage.step.value:<10}  {state}{printable(text)}"


def _one_line(text: str) -> str:
    return printable(text).replace("\n", " ")
