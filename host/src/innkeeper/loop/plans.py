"""What a supervisor is told of a process: what to run, and how patient to be with it.

Rules of this module:

1. A plan is complete: nothing of the host's own environment or settings is looked up when a process is started.
2. An entry's ``restart`` is read strictly: an unknown key, a wrong type or a number out of bounds is an error that
   names the key. What is not given has the default.
3. A configuration and an environment may hold secrets: no ``repr`` shows them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import field, fields, frozen

from innkeeper_sdk.errors import ConfigError

__all__ = ["HelperPlan", "ProcessPlan", "RestartPolicy", "read_restart"]

# An hour: longer waits than that are a mistake in the unit.
_MOST_SECONDS: Final = 3600.0
_MOST_COUNT: Final = 1000


@frozen
class RestartPolicy:
    """How long to wait for a process, and how often to start it again; times are in seconds.

    The deadlines of the reference are one minute for the start, none for a health check (every 5 seconds), two seconds
    for the stop, and no limit of restarts: see the docs for why ours are what they are.

    Attributes:
        start_seconds: From the launch until its capabilities are there.
        ping_seconds: The deadline of one health check.
        ping_interval_seconds: From one health check to the next.
        ping_failures: So many missed in a row, and it is taken for hung.
        stop_seconds: From the request to stop until it is killed.
        backoff_first_seconds: The pause before the first restart; it doubles with every further one.
        backoff_most_seconds: The longest pause.
        budget: So many restarts within the window, and it is quarantined instead of started again.
        window_seconds: The window.
    """

    start_seconds: float = 30.0
    ping_seconds: float = 2.0
    ping_interval_seconds: float = 5.0
    ping_failures: int = 3
    stop_seconds: float = 10.0
    backoff_first_seconds: float = 0.1
    backoff_most_seconds: float = 30.0
    budget: int = 5
    window_seconds: float = 60.0


@frozen
class HelperPlan:
    """A helper of a process: no LOOP wire, one socket between the two.

    Attributes:
        name: Its name in the manifest.
        executable: Absolute.
        environ: Its environment, without what each launch adds: the mark, the launch, and its socket's number.
    """

    name: str
    executable: Path
    environ: Mapping[str, str] = field(repr=False)


@frozen
class ProcessPlan:
    """A process that serves capabilities as a LOOP plugin.

    Attributes:
        provider_id: Its provider.
        name: Its name in the manifest.
        executable: Absolute; it is given no arguments.
        environ: Its environment, without what each launch adds: the LOOP variables, the mark, and its helpers' sockets.
        capabilities: The ids that it may add, and must have added when it is ready.
        config: What Initialise is given, JSON text.
        helpers: Started before it; their end is its end.
        restart: How patient to be.
        socket_dir: Where each launch makes a private directory of its own; made if it is not there.
    """

    provider_id: str
    name: str
    executable: Path
    environ: Mapping[str, str] = field(repr=False)
    capabilities: tuple[str, ...]
    config: str = field(repr=False)
    helpers: tuple[HelperPlan, ...]
    restart: RestartPolicy
    socket_dir: Path


def read_restart(entry: Mapping[str, object], *, provider: str, path: str) -> RestartPolicy:
    """Return the policy that an entry's ``restart`` asks for.

    Args:
        entry: The mapping, as plugins.yaml has it; empty for the defaults.
        provider: The provider's id, for errors.
        path: Where the mapping stands, for errors.

    Raises:
        ConfigError: A key is unknown, or its value is not what it must be.
    """
    known = {attribute.name: attribute.default for attribute in fields(RestartPolicy)}
    values: dict[str, float] = {}
    for key, value in entry.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise ConfigError(
                f"`restart` has no key {key!r}",
                provider=provider,
                path=path,
                expected=", ".join(known),
                hint=f"did you mean {near[0]}?" if near else None,
            )
        values[key] = _number(key, value, whole=isinstance(known[key], int), provider=provider, path=path)
    policy = RestartPolicy(**values)  # type: ignore[arg-type]  # _number has returned ints where they are asked for
    if policy.backoff_most_seconds < policy.backoff_first_seconds:
        raise ConfigError(
            "`restart` has a longest pause that is shorter than the first",
            provider=provider,
            path=path,
            expected=f"backoff_most_seconds of at least {policy.backoff_first_seconds:g}",
            actual=f"{policy.backoff_most_seconds:g}",
        )
    return policy


def _number(key: str, value: object, *, whole: bool, provider: str, path: str) -> float:
    most = _MOST_COUNT if whole else _MOST_SECONDS
    least = 0 if key == "budget" else 1 if whole else 0.001
    kinds = (int,) if whole else (int, float)
    # bool is an int; a not-a-number compares as out of bounds.
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise ConfigError(
            f"`restart` has a {key} that cannot be used",
            provider=provider,
            path=path,
            expected=f"{'a whole number' if whole else 'seconds'} from {least:g} to {most:g}",
            actual=repr(value)[:64],
        )
    return value
