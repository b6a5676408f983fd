"""The command ``innkeeper attestation verify``.

Rules of this module:

1. It explains a document and releases nothing: that is why it takes any root, in every environment.
2. The exit code is 0 for a document that every check accepts and 4 for any other; 2 is for a call that says nothing
   about a document: an option that cannot be read, a file that is not there.
3. Without ``--pcr`` the measurements are not compared. Debug enclaves and documents without PCR0, PCR1 and PCR2 are
   refused all the same.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from innkeeper_confidential_workflows.attestation import (
    AWS_ROOT_G1,
    MAX_DOCUMENT,
    OK,
    Expectations,
    Root,
    explain,
    load_roots,
)
from innkeeper_confidential_workflows.commands.attestation_report import Form, show
from innkeeper_sdk.errors import ExitCode, UsageError

__all__ = ["verify"]

PROGRAM: Final = "innkeeper attestation verify"

_STDIN: Final = "-"
_MAX_ROOTS: Final = 64 * 1024  # bytes; one root is about 800
# Section 5.6 of RFC 3339; fromisoformat alone takes dates without a time and times without a zone.
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*", re.ASCII)
_PCR: Final = re.compile(r"(\d{1,2})=([0-9a-fA-F]+)", re.ASCII)


def _time(text: str) -> datetime:
    if _TIME.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time of RFC 3339, such as 2026-01-03T20:41:07Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"there is no time {text!r}") from error


def _hex(text: str) -> bytes:
    if _HEX.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no hexadecimal text of whole bytes")
    return bytes.fromhex(text)


def _pcr(text: str) -> tuple[int, bytes]:
    match = _PCR.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no N=HEX, a PCR's number and its value")
    return int(match[1]), _hex(match[2])


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like those of the host's own commands."""

    def error(self, message: str) -> NoReturn:
        self.exit(
            ExitCode.USAGE,
            f"Usage: {PROGRAM} [OPTIONS] FILE\nTry '{PROGRAM} --help' for help.\n\nError: {message}\n",
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Verify an attestation document, and explain it check by check.",
        epilog="It exits with 0 if every check holds, else with 4. Nothing is released on what it finds.",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="the raw bytes of the document, a COSE_Sign1; - is standard input")
    parser.add_argument("--at", metavar="TIME", type=_time, help="verify as of this time, of RFC 3339 (default: now)")
    parser.add_argument(
        "--root", metavar="PEM", type=Path, help="trust the roots in this file instead of AWS's, for this call only"
    )
    parser.add_argument(
        "--pcr",
        metavar="N=HEX",
        type=_pcr,
        action="append",
        default=[],
        help="a PCR that the document must have with this value; may be repeated",
    )
    parser.add_argument("--nonce", metavar="HEX", type=_hex, help="the nonce that it must have")
    parser.add_argument("--user-data", metavar="HEX", type=_hex, help="the user data that it must have")
    parser.add_argument(
        "-o",
        "--output",
        choices=[str(form) for form in Form],
        default=str(Form.TABLE),
        metavar="|".join(Form),
        help="the form of the output (default: table)",
    )
    return parser


def _read(name: str, limit: int, what: str) -> bytes:
    """Return what a file holds, up to one byte more than the limit."""
    try:
        if name == _STDIN:
            return sys.stdin.buffer.read(limit + 1)
        with Path(name).open("rb") as file:
            return file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"the file with {what} cannot be read", path=name, actual=reason) from error


def _roots(path: Path | None) -> Sequence[Root]:
    if path is None:
        return (AWS_ROOT_G1,)
    pem = _read(str(path), _MAX_ROOTS, "the roots")
    if len(pem) > _MAX_ROOTS:
        raise UsageError("the file with the roots is too large", path=str(path), expected=f"at most {_MAX_ROOTS} bytes")
    try:
        return load_roots(pem)
    except ValueError as error:
        raise UsageError(
            "the file with the roots cannot be used", path=str(path), expected="certificates in PEM", actual=str(error)
        ) from error


def _expectations(arguments: argparse.Namespace) -> Expectations:
    pcrs: dict[int, bytes] = {}
    for index, value in arguments.pcr:
        if pcrs.setdefault(index, value) != value:
            raise UsageError(f"--pcr gives two values for PCR{index}", expected="one")
    try:
        return Expectations(pcrs=pcrs, nonce=arguments.nonce, user_data=arguments.user_data)
    except ValueError as error:
        raise UsageError(f"--pcr cannot be used: {error}", expected="48 bytes, as SHA-384 has them") from error


def _now() -> datetime:
    return datetime.now(UTC)


def verify(argv: Sequence[str], *, clock: Callable[[], datetime] = _now) -> int:
    """Verify a document.

    Args:
        argv: The arguments after ``attestation verify``.
        clock: Returns the time that counts without ``--at``.

    Returns:
        The exit code.

    Raises:
        UsageError: A file cannot be read, or an option cannot be used.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(ExitCode.USAGE)
    expect = _expectations(arguments)
    roots = _roots(arguments.root)
    document = _read(arguments.file, MAX_DOCUMENT, "the document")
    report = explain(document, now=arguments.at or clock(), roots=roots, expect=expect)
    show(report, Form(arguments.output), roots)
    return int(ExitCode.OK if report.verdict == OK else ExitCode.VERIFICATION)
