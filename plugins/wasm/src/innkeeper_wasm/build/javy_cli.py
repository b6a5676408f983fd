"""The executable that the official compiler calls in place of the Javy command line.

Rules of this module:

1. It understands ``build`` with the options that the SDK passes, and refuses all others: an option that is
   ignored is a binary that is not what was asked for.
2. It says how it went in a report of its own (:mod:`innkeeper_wasm.build.report`), besides its exit code and its
   standard error: the compiler in between passes on neither.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import wasmtime

from innkeeper_wasm.build.errors import LinkError
from innkeeper_wasm.build.javy_compile import compile_script
from innkeeper_wasm.build.javy_link import link
from innkeeper_wasm.build.report import REPORT_VARIABLE, Report, write_report
from innkeeper_wasm.build.script import entry_points, exported_names
from innkeeper_wasm.build.wasm_binary import WasmFormatError

__all__ = ["build", "main"]

_TAKEN = frozenset({"wit", "wit-world", "plugin", "deterministic"})


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise LinkError(f"the {what} cannot be read", path=path, actual=error.strerror) from error


def build(options: dict[str, str], source: str, output: str) -> Report:
    """Compile and link one script.

    Args:
        options: ``plugin`` and ``wit`` (files), ``wit-world`` (a name); ``deterministic`` is accepted, for the plugin
            that the SDK ships was initialised so.
        source: The script's file.
        output: Where the binary goes.

    Raises:
        LinkError: Anything that keeps the binary from being made.
    """
    began = time.monotonic()
    missing = [name for name in ("plugin", "wit", "wit-world") if name not in options]
    unknown = sorted(set(options) - _TAKEN)
    if missing or unknown:
        raise LinkError(
            "the official compiler asks the linker for something that this build does not know",
            expected=", ".join(f"-C {name}=…" for name in sorted(_TAKEN)),
            actual=", ".join([f"no {name}" for name in missing] + unknown),
            hint="use @chainlink/cre-sdk 1.21.1, with which this build is tested",
        )
    plugin, script = _read(options["plugin"], "SDK's plugin"), _read(source, "bundled script")
    wit = _read(options["wit"], "interface of the SDK's plugin").decode(errors="replace")
    wanted = entry_points(wit, options["wit-world"])
    exported = exported_names(script.decode(errors="replace"))
    for entry in wanted:
        if entry.function not in exported:
            raise LinkError(
                f"the workflow does not export {entry.function}",
                hint=f"write `export async function {entry.function}()` in the workflow's entry file",
            )
    bytecode = compile_script(plugin, script)
    try:
        binary = link(plugin, bytecode, wanted)
        wasmtime.Module.validate(wasmtime.Engine(), binary)
    except (WasmFormatError, wasmtime.WasmtimeError) as error:
        raise LinkError("the SDK's plugin cannot be linked with the workflow", actual=str(error)) from error
    try:
        Path(output).write_bytes(binary)
    except OSError as error:
        raise LinkError("the binary cannot be written", path=output, actual=error.strerror) from error
    return Report(
        script=len(script),
        bytecode=len(bytecode),
        seconds=time.monotonic() - began,
    )


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        msg = f"{text!r} is not of the form name=value"
        raise argparse.ArgumentTypeError(msg)
    return key, value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="javy", description="Link a script with a Javy plugin.", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("build", allow_abbrev=False)
    verb.add_argument("-C", dest="codegen", action="append", type=_key_value, default=[], metavar="NAME=VALUE")
    verb.add_argument("-o", dest="output", required=True)
    verb.add_argument("source")
    arguments = parser.parse_args(argv)
    try:
        report = build(dict(arguments.codegen), arguments.source, arguments.output)
    except LinkError as error:
        print(f"javy: {error}", file=sys.stderr)
        report = Report(error=error.sentence, hint=error.hint or "", detail=error.detail)
    where = os.environ.get(REPORT_VARIABLE)
    if where:
        write_report(report, Path(where))
    return 1 if report.error else 0


if __name__ == "__main__":
    raise SystemExit(main())
