"""What a plugin is given: its identity, its configuration, its directories and its registry.

Rules of this module:

1. The host says it all, in the environment and in Initialise; what it says wrongly is refused, never guessed.
2. A variable of an environment that is not set means the safe side: production, and no directory.
3. The configuration may hold secrets: no error here quotes it, and no ``repr`` shows it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from innkeeper_sdk.capability import Registry
from innkeeper_sdk.errors import ProviderError

__all__ = ["PluginContext", "Surroundings", "parse_config", "read_surroundings"]

_HELPER: Final = re.compile(r"INNKEEPER_HELPER_([A-Z0-9_]+)_FD")
_ENVIRONMENTS: Final = ("production", "development")


@frozen
class Surroundings:
    """What the environment says.

    Attributes:
        provider: The provider's id; empty under a host that has none.
        process: The process's name in its manifest; empty likewise.
        environment: ``production`` or ``development``.
        data_dir: A directory of the provider's own that stays.
        cache_dir: A directory of its own that may be emptied at any time.
        runtime_dir: A directory of its own that goes with the host.
        helpers: The descriptors of the sockets shared with its helpers, by the helper's name.
    """

    provider: str = ""
    process: str = ""
    environment: str = "production"
    data_dir: Path | None = None
    cache_dir: Path | None = None
    runtime_dir: Path | None = None
    helpers: Mapping[str, int] = field(factory=dict)


@frozen
class PluginContext(Surroundings):
    """What a plugin is given at each Initialise.

    Attributes:
        config: The ``config`` of the provider's entry in plugins.yaml, checked against its schema.
        logger: Its logger.
        registry: The registry, bound to this provider.
        host_public_key: Returns the host's Ed25519 public key, 32 bytes; None from a host without one.
    """

    config: Mapping[str, Any] = field(factory=dict, repr=False)
    logger: logging.Logger = field(kw_only=True, repr=False)
    registry: Registry = field(kw_only=True, repr=False)
    host_public_key: Callable[[], Awaitable[bytes | None]] = field(kw_only=True, repr=False)


def read_surroundings(environ: Mapping[str, str]) -> Surroundings:
    """Read what the environment says.

    Args:
        environ: The process's environment.

    Raises:
        ProviderError: The environment is neither production nor development, or a helper's descriptor is none.
    """
    environment = environ.get("INNKEEPER_ENVIRONMENT") or "production"
    if environment not in _ENVIRONMENTS:
        raise ProviderError(
            "the environment of the plugin is not known",
            path="INNKEEPER_ENVIRONMENT",
            expected=" or ".join(_ENVIRONMENTS),
            actual=repr(environment),
        )
    matches = ((_HELPER.fullmatch(name), value) for name, value in environ.items())
    return Surroundings(
        provider=environ.get("INNKEEPER_PROVIDER", ""),
        process=environ.get("INNKEEPER_PROCESS", ""),
        environment=environment,
        data_dir=_directory(environ, "INNKEEPER_DATA_DIR"),
        cache_dir=_directory(environ, "INNKEEPER_CACHE_DIR"),
        runtime_dir=_directory(environ, "INNKEEPER_RUNTIME_DIR"),
        helpers={match[1].lower().replace("_", "-"): _descriptor(match[0], value) for match, value in matches if match},
    )


def parse_config(text: str) -> Mapping[str, Any]:
    """Return the configuration that Initialise brings.

    Args:
        text: JSON; empty is an empty object.

    Raises:
        ProviderError: It is not one JSON object, or names a key twice.
    """
    if not text:
        return {}
    try:
        config = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError):
        # The texts of these errors may quote what they could not read.
        raise ProviderError(
            "the configuration of the plugin cannot be read", expected="one JSON object, each key once"
        ) from None
    if not isinstance(config, dict):
        raise ProviderError("the configuration of the plugin is no JSON object", actual=type(config).__name__)
    return config


def _directory(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name)
    if not value:
        return None
    path = Path(value)
    if not path.is_absolute():
        raise ProviderError("a directory of the plugin is not an absolute path", path=name, actual=repr(value))
    return path


def _descriptor(name: str, value: str) -> int:
    try:
        fd = int(value) if value.isascii() and value.isdigit() else -1
        # Children of the plugin must not hold the helper's socket open.
        os.set_inheritable(fd, False)
    except (OSError, OverflowError):
        raise ProviderError(
            "a helper's socket is not there", path=name, expected="the number of an open descriptor", actual=repr(value)
        ) from None
    return fd


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _no_number(name: str) -> float:
    raise ValueError
