"""The command ``innkeeper workflow build``.

Rules of this module:

1. ``main(argv)`` returns the exit code: 0 built, 1 a step failed, 2 usage, 130 and up ended by a signal.
2. Standard output has one line, when the binary is there: its path, its size in bytes and its digest. All talk
   is on standard error, one line per step with the time that it took.
3. A fault that can be foreseen is one sentence, a hint and the tool's own lines, never a traceback.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from innkeeper_sdk.errors import ExitCode
from innkeeper_wasm.build.errors import BuildError, OutputError, PackagesError, ProjectError, Step, TypeCheckError
from innkeeper_wasm.build.interrupts import Interrupted, Interrupts
from innkeeper_wasm.build.node import find_node
from innkeeper_wasm.build.official import compile_official
from innkeeper_wasm.build.output import SUFFIXES, prepare_output
from innkeeper_wasm.build.package_set import read_package_set
from innkeeper_wasm.build.packages import Installation, Installer
from innkeeper_wasm.build.project import SDK, TYPE_SETTINGS, Project, read_project
from innkeeper_wasm.build.stage import build_stage, packages_above
from innkeeper_wasm.build.staging import copy_sources
from innkeeper_wasm.build.standin import prepare_home
from innkeeper_wasm.build.tools import Toolbox

__all__ = ["main"]

PROGRAM = "innkeeper workflow build"
BUILD_DIRECTORY = Path(".build", "workflow")
BUILD_DIRECTORY_VARIABLE = "INNKEEPER_BUILD_DIR"
TIMEOUT = 600.0  # seconds for each tool; a first installation takes 10 to 30


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        msg = f"{text} is no number of seconds"
        raise argparse.ArgumentTypeError(msg)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Build an official TypeScript workflow. Needs Node.js 20 or newer, and the npm registry once.",
        epilog=(
            "The binary is for the module type wasm. The official SDK is under the Business Source License 1.1; "
            "it is installed from the npm registry, not part of Innkeeper."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="the workflow's directory, with a package.json")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        help=f"the file to write, {', '.join(SUFFIXES)} (default: the name of DIR with .wasm, in this directory)",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="the directory with all that the workflow imports "
        "(default: the nearest one above with a project.yaml, else DIR)",
    )
    parser.add_argument(
        "--build-dir",
        metavar="DIR",
        type=Path,
        help=f"where packages and caches are kept (default: ${BUILD_DIRECTORY_VARIABLE}, else {BUILD_DIRECTORY})",
    )
    parser.add_argument("--skip-type-checks", action="store_true", help="build although the types may not be right")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=TIMEOUT, help="limit for each tool (default: 600)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show all that the tools print")
    return parser


class _Progress:
    """Tell on standard error what was done, and how long it took since the last line."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, step: str, text: str) -> None:
        """Print a line without a time."""
        print(f"{step:<10}  {text}", file=sys.stderr, flush=True)

    def done(self, step: str, text: str, seconds: float | None = None) -> None:
        """Print a line with the time since the last one, or the time given."""
        now = time.monotonic()
        self.say(step, f"{text}  ({now - self._last if seconds is None else seconds:.1f} s)")
        self._last = now


def _build_directory(given: Path | None) -> Path:
    directory = given or Path(os.environ.get(BUILD_DIRECTORY_VARIABLE) or BUILD_DIRECTORY)
    try:
        directory = directory.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        ignore = directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PackagesError(
            "the build directory cannot be used",
            path=str(directory),
            actual=reason,
            hint="choose another with --build-dir",
        ) from error
    return directory


def _stage(project: Project, installation: Installation, stage: Path, build_directory: Path) -> Path:
    """Copy the sources, give them their packages, and return the copy of the workflow's directory."""
    copied = stage / "project"
    copy_sources(project.root, copied, skip={build_directory})
    directory = copied / project.directory.relative_to(project.root)
    if not (directory / project.entry).is_file():
        raise ProjectError(
            "the entry file is hidden, or lies in a hidden directory, which builds leave out",
            path=str(project.directory / project.entry),
        )
    # At the top, for what the workflow imports from beside its directory uses its packages too, and each only once.
    (copied / "node_modules").symlink_to(Path("../../../packages", installation.directory.name, "node_modules"))
    return directory


def _build(arguments: argparse.Namespace, interrupts: Interrupts) -> None:
    progress = _Progress()
    tools = Toolbox(interrupts, arguments.timeout, arguments.verbose)
    project = read_project(arguments.directory, arguments.root)
    output_path: Path = arguments.output or Path(f"{project.directory.name}.wasm")
    output = prepare_output(output_path)
    build_directory = _build_directory(arguments.build_dir)
    package_set = read_package_set(project)
    if project.settings is None and not arguments.skip_type_checks:
        raise TypeCheckError(
            "the types cannot be checked",
            expected=f"a {TYPE_SETTINGS} in {project.directory}",
            actual="none",
            hint="write one, as examples/clock has it, or build with --skip-type-checks",
        )
    above = packages_above(build_directory)
    for note in (*project.notes, *package_set.notes):
        progress.say("note", note)
    if above is not None:
        progress.say("note", f"a package that the workflow does not name would be taken from {above}")
    progress.done(Step.PROJECT, f"{project.directory / project.entry}")

    node = find_node(tools)
    progress.done(Step.NODE, f"{node.version} ({node.node})")

    installer = Installer(node, tools, build_directory, lambda line: progress.say(Step.PACKAGES, f"{line} …"))
    installation = installer.install(package_set)
    versions = ", ".join(f"{name} {installation.version(name)}" for name in (SDK, "bun", "typescript"))
    progress.done(Step.PACKAGES, versions + (", installed before" if installation.cached else ""))

    home = prepare_home(installation, build_directory)
    with build_stage(build_directory) as stage:
        directory = _stage(project, installation, stage, build_directory)
        compiled = compile_official(
            entry=project.entry,
            directory=directory,
            shown={stage / "project": project.root},
            installation=installation,
            home=home,
            tools=tools,
            check_types=not arguments.skip_type_checks,
        )
    for warning in compiled.warnings:
        progress.say("warning", warning)
    if compiled.names_places:
        progress.say(
            "warning", "the bundle holds paths of this machine (a package asks for its own place): not reproducible"
        )
    checks = "types not checked, bundled" if arguments.skip_type_checks else "types checked, bundled"
    progress.done(Step.BUNDLE, f"{checks}: {compiled.script} bytes", compiled.compile_seconds)
    progress.done(Step.LINK, f"{compiled.bytecode} bytes of bytecode, linked", compiled.link_seconds)

    content = output.write(compiled.binary)
    progress.done(Step.OUTPUT, f"{output.path}")
    print(f"{output_path}  {len(content)}  sha256:{hashlib.sha256(content).hexdigest()}", flush=True)


def _complain(error: BuildError) -> None:
    lines = [f"{PROGRAM}: {error.step}: {error.sentence}"]
    if error.hint:
        lines.append(f"  → {error.hint}")
    lines += [f"  | {line}" for line in error.detail.splitlines()]
    print("\n".join(lines), file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Build a workflow.

    Args:
        argv: The arguments after ``workflow build``.

    Returns:
        The exit code.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(ExitCode.USAGE)
    with Interrupts() as interrupts:
        try:
            _build(arguments, interrupts)
        except OutputError as error:
            _complain(error)
            return int(ExitCode.USAGE if error.expected else ExitCode.PROBLEMS)
        except BuildError as error:
            _complain(error)
            return int(ExitCode.PROBLEMS)
        except Interrupted as stop:
            print(f"{PROGRAM}: stopped by signal {stop.number}", file=sys.stderr)
            return stop.exit_code
    return int(ExitCode.OK)
