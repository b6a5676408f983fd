"""Running a provider's command or check in a process of its own.

Rules of this module:

1. ``python -I -m innkeeper_sdk.command [--path LOCATION]… [--prog WORDS] [--parent PID] package.module:function --
   ARGUMENTS``. The function takes the arguments, a list of texts, and returns the exit code; None is 0.
2. Isolated (``-I``), the process has neither the working directory nor ``PYTHONPATH`` on its search path. Locations are
   appended: nothing in them can stand in for the standard library or for what is installed.
3. An ``InnkeeperError`` is one sentence on stderr and its exit code; any other exception is one line and 1. With
   ``INNKEEPER_DEBUG`` set there is a traceback too. What the command exits with by itself stays as it is.
4. A command that is told its parent ends with it, whatever ends that one: it gets SIGTERM, as if somebody had told it
   to stop. Without a parent it depends on nobody.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from operator import attrgetter
from typing import Any, Final

from innkeeper_sdk.errors import ExitCode, HostError, InnkeeperError, ProviderFailedError, UsageError

__all__ = ["DEBUG_VARIABLE", "command_line", "main"]

DEBUG_VARIABLE: Final = "INNKEEPER_DEBUG"

# prctl(2): the signal that this process gets when its parent ends.
_PR_SET_PDEATHSIG: Final = 1

# 128 + SIGPIPE, as for any command whose reader has gone.
_READER_GONE: Final = 141

_RUN: Final = re.compile(
    r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)", re.ASCII
)


def command_line(
    run: str, arguments: Sequence[str], *, locations: Iterable[str] = (), prog: str = "", parent: int | None = None
) -> list[str]:
    """Return the command line that runs a provider's function in a child of this interpreter.

    Args:
        run: ``package.module:function``, as the manifest says it.
        arguments: What the function is given.
        locations: Where the provider is installed, unless this interpreter finds it there anyway.
        prog: What the command calls itself in its help.
        parent: The process, and by its main thread, that starts it, if it is to end with that one (Linux alone).
    """
    paths = [part for location in locations for part in ("--path", location)]
    name = ["--prog", prog] if prog else []
    bound = [] if parent is None else ["--parent", str(parent)]
    return [sys.executable, "-I", "-m", "innkeeper_sdk.command", *paths, *name, *bound, run, "--", *arguments]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a provider's function.

    Args:
        argv: The arguments of this module; those of the process by default.

    Returns:
        The exit code.

    Raises:
        SystemExit: The function raised it.
    """
    run = ""
    try:
        run, arguments, locations, prog, parent = _parse(sys.argv[1:] if argv is None else argv)
        if parent is not None:
            _end_with(parent)
        sys.path += [location for location in locations if location not in sys.path]
        sys.argv = [prog or run, *arguments]
        code = _exit_code(_function(run)(list(arguments)), run)
        # What is still in the buffer may not find its reader any more.
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more at exit; there must be something to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except InnkeeperError as error:
        _tell(f"error: {error}")
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - whatever a provider raises ends as an exit code
        _tell(f"error: {run} failed: {type(error).__name__}: {error}")
        return ExitCode.PROBLEMS
    return code


def _parse(argv: Sequence[str]) -> tuple[str, list[str], list[str], str, int | None]:
    words = list(argv)
    locations: list[str] = []
    prog = ""
    parent = None
    while words and words[0] in ("--path", "--prog", "--parent"):
        option = words.pop(0)
        if not words:
            raise UsageError(f"{option} needs a value")
        if option == "--path":
            locations.append(words.pop(0))
        elif option == "--prog":
            prog = words.pop(0)
        else:
            parent = _process_id(words.pop(0))
    if len(words) < 2 or words[1] != "--":
        raise UsageError(
            "the function is missing",
            expected="[--path LOCATION]… [--prog WORDS] [--parent PID] package.module:function -- ARGUMENTS",
        )
    return words[0], words[2:], locations, prog, parent


def _process_id(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,9}", text):
        raise UsageError("--parent needs a process id", actual=repr(text))
    return int(text)


def _end_with(parent: int) -> None:
    """Have the kernel send this process SIGTERM when its parent ends, or be ended now if it has."""
    if sys.platform != "linux":
        return  # a host needs Linux; elsewhere a command that outlives its parent is ended by hand
    import ctypes  # noqa: PLC0415 - only who has a parent needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise HostError(f"the command cannot be bound to the process that started it: {os.strerror(number)}")
    if os.getppid() != parent:
        # It ended before the kernel was asked: what it was to send is sent here.
        signal.raise_signal(signal.SIGTERM)


def _function(run: str) -> Callable[[list[str]], Any]:
    match = _RUN.fullmatch(run)
    if match is None:
        raise UsageError("not a function", expected="package.module:function", actual=repr(run))
    module = import_module(match["module"])
    try:
        function = attrgetter(match["function"])(module)
    except AttributeError as error:
        raise ProviderFailedError(f"{match['module']} has no {match['function']}, which the manifest names") from error
    if not callable(function):
        raise ProviderFailedError(f"{run}, which the manifest names, is no function", actual=type(function).__name__)
    found: Callable[[list[str]], Any] = function
    return found


def _exit_code(returned: object, run: str) -> int:
    if returned is None:
        return ExitCode.OK
    if isinstance(returned, int) and not isinstance(returned, bool):
        return returned
    raise ProviderFailedError(f"{run} returned no exit code", expected="a number", actual=type(returned).__name__)


def _tell(text: str) -> None:
    if os.environ.get(DEBUG_VARIABLE):
        import traceback  # noqa: PLC0415 - a command that works needs none

        traceback.print_exc()
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
