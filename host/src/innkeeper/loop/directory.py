"""The private directory of one launch: where its sockets are.

Rules of this module:

1. Nobody but this user may enter it: the files in it are the only wall around the connection.
2. The guard knows of it before it is made.
3. A path that leaves no room for a socket's name is an error before anything is started.
4. What a host that was killed together with its guard has left is removed by the next host that holds the place.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from innkeeper.loop.guard import Guard
from innkeeper_sdk.control_socket import SOCKET_PATH_LIMIT
from innkeeper_sdk.errors import ConfigError

__all__ = ["make_directory", "sweep"]

# What a socket's name takes: a directory of our SDK's own, a broker's number of five digits, eight hexadecimal ones and
# ``.sock``. A Go plugin's names are shorter.
_NAME_BYTES: Final = len("/plugin-12345678/12345-12345678.sock")


def make_directory(parent: Path, *, guard: Guard) -> Path:
    """Make the private directory of a launch.

    Args:
        parent: Where; it is made if it is not there.
        guard: Is told of it.

    Returns:
        The directory, absolute, with mode 0700.

    Raises:
        ConfigError: It cannot be made, or its path is too long for sockets in it.
    """
    path = parent.absolute() / secrets.token_hex(4)
    length = len(os.fsencode(path)) + _NAME_BYTES
    if length > SOCKET_PATH_LIMIT:
        raise ConfigError(
            "the path of a plugin's sockets is too long",
            path=str(parent),
            expected=f"at most {SOCKET_PATH_LIMIT} bytes with a socket's name",
            actual=str(length),
            hint="choose a shorter runtime directory",
        )
    guard.add_path(path)
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except OSError as error:
        guard.drop_path(path)
        raise ConfigError(
            f"the directory of a plugin's sockets cannot be made: {error.strerror}", path=str(path)
        ) from error
    return path


def sweep(parent: Path) -> list[str]:
    """Remove the directories of launches that are over.

    Args:
        parent: Where launches make their directories; it need not be there. Its host's lock is held, and nothing has
            been launched yet: all that is in it is a former host's.

    Returns:
        What could not be removed, and why.
    """
    faults = []
    try:
        found = list(os.scandir(parent))
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{parent}: {error.strerror}"]
    for entry in found:
        try:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        except FileNotFoundError:
            continue  # a process of the former host, at its end, was faster
        except OSError as error:
            faults.append(f"{entry.path}: {error.strerror}")
    return faults
