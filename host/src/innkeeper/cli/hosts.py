"""From a command's options to the host that it is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from innkeeper.cli.options import Invocation
from innkeeper.config.plugins import find_plugins_files
from innkeeper.config.settings import Settings, find_settings_file, load_settings
from innkeeper_sdk.control_socket import probe
from innkeeper_sdk.errors import ConfigError, HostUnreachableError

if TYPE_CHECKING:
    from innkeeper_sdk.control import ControlClient

__all__ = ["connect", "connect_if_running", "plugins_files", "settings_of"]


def plugins_files(invocation: Invocation) -> tuple[Path, ...]:
    """Return the files that say what to load.

    Raises:
        ConfigError: There is none.
    """
    return find_plugins_files(invocation.plugins, os.environ, Path.cwd())


def settings_of(invocation: Invocation) -> Settings:
    """Return the settings: flags, then variables, then innkeeper.yaml, then defaults.

    Raises:
        ConfigError: They are not valid.
    """
    try:
        beside = plugins_files(invocation)
    except ConfigError:
        beside = ()  # a command that only speaks to a host needs no plugins.yaml
    file = find_settings_file(invocation.settings_file, beside)
    return load_settings(file=file, flags=invocation.flags, environ=os.environ)


def connect(invocation: Invocation) -> ControlClient:
    """Return a client of the running host.

    Raises:
        HostUnreachableError: There is none.
    """
    path = settings_of(invocation).control_socket
    probe(path)
    # gRPC costs as much as all the rest of a command, and is of no use without a host.
    from innkeeper_sdk.control import ControlClient  # noqa: PLC0415 - see above

    return ControlClient(path)


def connect_if_running(invocation: Invocation) -> ControlClient | None:
    """Return a client of the running host, or None if there is none."""
    try:
        return connect(invocation)
    except HostUnreachableError:
        return None
