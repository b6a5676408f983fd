"""What the linker tells the build that it is part of, past the official compiler in between.

Rules of this module: the linker writes one report into the file that ``INNKEEPER_JAVY_REPORT`` names, whether
it went well or not; no report means that the linker was never run.
"""

from __future__ import annotations

import json
from pathlib import Path

from attrs import asdict, fields, frozen

from innkeeper_wasm.build.errors import LinkError

__all__ = ["REPORT_VARIABLE", "Report", "read_report", "write_report"]

REPORT_VARIABLE = "INNKEEPER_JAVY_REPORT"


@frozen
class Report:
    """How one call of the linker went.

    Args:
        error: What went wrong; empty when nothing did.
        hint: What to do about it, or empty.
        detail: The tool's own lines, or empty.
        script: The size of the script in bytes.
        bytecode: The size of its bytecode in bytes.
        seconds: The time that compiling and linking took.
    """

    error: str = ""
    hint: str = ""
    detail: str = ""
    script: int = 0
    bytecode: int = 0
    seconds: float = 0.0


def write_report(report: Report, path: Path) -> None:
    """Write a report."""
    path.write_text(json.dumps(asdict(report)), encoding="utf-8")


def read_report(path: Path) -> Report | None:
    """Return the report that a file holds, or ``None`` if there is no file.

    Raises:
        LinkError: The file is there and holds something else.
    """
    try:
        values = json.loads(path.read_bytes())
        return Report(**{field.name: values[field.name] for field in fields(Report)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LinkError("the linker's report cannot be read", path=str(path), actual=str(error)) from error
