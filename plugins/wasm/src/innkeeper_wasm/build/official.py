"""Run the official compiler, unmodified, and read what it says.

Rules of this module:

1. It runs in the copy of the sources, with a fixed place for its output and an environment of four fixed
   variables: the bytes that it makes depend on the sources and the packages alone.
2. Whatever fails is put down to the step that failed: the SDK's checks, the bundler, or our linker, which
   leaves a report of its own.
3. Paths of the copy never reach the user; they are shown as the paths that the user knows.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from innkeeper_wasm.build.errors import BuildError, BundleError, LinkError, TypeCheckError
from innkeeper_wasm.build.packages import Installation
from innkeeper_wasm.build.report import REPORT_VARIABLE, Report, read_report
from innkeeper_wasm.build.tools import Toolbox, ToolError, excerpt

__all__ = ["Compiled", "compile_official"]

# Hidden, so that no name in the sources can be the same: hidden files are not copied. It is in the bundle as a comment,
# so it is the same in every build.
OUTPUT = Path(".innkeeper", "workflow.wasm")
_REPORT = Path(".innkeeper", "link.json")
_TYPE_ERRORS = "TypeScript typecheck failed before workflow compilation."
_UNSUPPORTED = "Unsupported API usage found in workflow source."
_BUNDLING = "Using input file:"
_WARNINGS = "Non-determinism warnings"
# The compiler gives the entry file a wrapper, beside it, under such a name.
_WRAPPED = re.compile(r"\.workflow-temp-\d+-[a-z0-9]+\.ts")
_MARKS = ("❌", "⚠️", "📁", "📦", "🚀", "🧪", "🎯", "🔨", "✅")


@frozen
class Compiled:
    """What the official compiler made.

    Args:
        binary: The workflow binary.
        warnings: What the SDK's check of determinism remarks, one line each.
        script: The size of the bundled script in bytes.
        bytecode: The size of its bytecode in bytes.
        compile_seconds: How long checking and bundling took.
        link_seconds: How long linking took.
        names_places: Whether the bundle holds a path of this machine, so that another may make other bytes.
    """

    binary: bytes
    warnings: tuple[str, ...]
    script: int
    bytecode: int
    compile_seconds: float
    link_seconds: float
    names_places: bool


def compile_official(
    *,
    entry: Path,
    directory: Path,
    shown: Mapping[Path, Path],
    installation: Installation,
    home: Path,
    tools: Toolbox,
    check_types: bool,
) -> Compiled:
    """Compile a workflow.

    Args:
        entry: The entry file, relative to ``directory``.
        directory: The copy of the workflow's directory, with ``node_modules`` in it.
        shown: Places of the copy, and the places that the user knows them by.
        installation: The packages.
        home: The home directory for the compiler, with the linker in its cache.
        tools: Runs it.
        check_types: Whether the workflow's types are checked; its use of unsupported interfaces always is.

    Raises:
        TypeCheckError: The SDK's checks refuse the source.
        BundleError: The modules cannot be bundled.
        LinkError: The linker failed.
    """

    def translate(text: str) -> str:
        for place, known in shown.items():
            text = text.replace(str(place), str(known))
        return _WRAPPED.sub(entry.name, text)

    output, report = directory / OUTPUT, directory / _REPORT
    output.parent.mkdir()
    temporary = directory / OUTPUT.parent / "tmp"
    temporary.mkdir()
    bun = installation.programs / "bun"
    command: list[Path | str] = [bun, "x", "cre-compile", f"./{entry}", f"./{OUTPUT}"]
    if not check_types:
        command.append("--skip-type-checks")
    environment = {
        "HOME": str(home),
        "PATH": f"{installation.programs}{os.pathsep}{os.defpath}",
        "TMPDIR": str(temporary),
        REPORT_VARIABLE: str(report),
    }
    began = time.monotonic()
    try:
        outcome = tools.run(command, cwd=directory, env=environment)
    except ToolError as error:
        raise BundleError(
            f"the official compiler {error.problem}",
            hint="give it more time with --timeout, and see what it does with --verbose",
            detail=_show(translate(error.output)),
        ) from error
    seconds = time.monotonic() - began
    linked = read_report(report)
    if outcome.code != 0 or linked is None or linked.error or not output.is_file():
        raise _failure(outcome.code, translate(outcome.output), linked)
    script = output.with_suffix(".js").read_bytes()
    places = (directory, installation.directory, home)
    return Compiled(
        binary=output.read_bytes(),
        warnings=tuple(_block(translate(outcome.output), _WARNINGS, only="- ")),
        script=linked.script,
        bytecode=linked.bytecode,
        compile_seconds=max(0.0, seconds - linked.seconds),
        link_seconds=linked.seconds,
        names_places=any(os.fsencode(place) in script for place in places),
    )


def _failure(code: int, text: str, linked: Report | None) -> BuildError:
    if linked is not None and linked.error:
        return LinkError(linked.error, hint=linked.hint or None, detail=linked.detail)
    if _TYPE_ERRORS in text:
        lines = _block(text, _TYPE_ERRORS)
        return TypeCheckError(
            "the workflow has type errors",
            hint="correct them (--skip-type-checks builds without this check)",
            detail=excerpt([line for line in lines if "re-run compile with" not in line]),
        )
    if _UNSUPPORTED in text:
        return TypeCheckError(
            "the workflow uses what its runtime does not have",
            hint="use the capabilities of the SDK instead",
            detail=excerpt(_block(text, _UNSUPPORTED, only="- ")),
        )
    ended = f"exit code {code} of the official compiler"
    if linked is not None:
        return LinkError("the compiler failed after linking", actual=ended, detail=_show(text))
    return BundleError(
        "the workflow cannot be bundled", actual=ended, hint="see what the bundler said below", detail=_show(text)
    )


def _show(text: str) -> str:
    """Return what stands after the compiler's announcements, or all of it."""
    lines = text.splitlines()
    start = next((index + 1 for index, line in enumerate(lines) if _BUNDLING in line), 0)
    return excerpt([line for line in lines[start:] if line.strip()])


def _block(text: str, title: str, *, only: str = "") -> list[str]:
    """Return the lines below a title, up to the next announcement; only those that start so, if asked."""
    lines = iter(text.splitlines())
    found: list[str] = []
    for line in lines:
        if title in line:
            break
    for line in lines:
        if line.startswith(_MARKS):
            break
        if line.strip() and line.startswith(only):
            found.append(line.removeprefix(only))
    return found
