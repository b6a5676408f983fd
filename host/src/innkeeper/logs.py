"""What the host says of itself, on stderr: JSON lines for a machine, text for a person.

Rules of this module:

1. Everybody logs with the standard library, fields in ``extra``; structlog gives it its form here, and only here.
2. Tracebacks are shown without the values of variables: those may be secrets.
3. A reader that is gone stops nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, TextIO

import structlog
from structlog.typing import Processor

__all__ = ["LEVELS", "configure"]

LEVELS: Final = ("debug", "info", "warning", "error")

# Libraries whose every step is not the host's news.
_QUIET: Final = ("aiosqlite", "alembic", "asyncio", "grpc", "sqlalchemy")


def configure(stream: TextIO, *, level: str = "info", human: bool | None = None) -> None:
    """Send all logging to a stream.

    Args:
        stream: Where to.
        level: The lowest level that is shown, one of ``LEVELS``.
        human: Text instead of JSON lines; by default if the stream is a terminal.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    before: Sequence[Processor] = (
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    )
    if stream.isatty() if human is None else human:
        after: Sequence[Processor] = (
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback),
        )
    else:
        after = (structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False))
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *after],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(capture=True)
    # logging would tell a failed write on the stream that has just failed.
    logging.raiseExceptions = False
