"""``innkeeper-enclave-launcher``: starts a simulated enclave for the LOOP process that it is the helper of.

Rules of this module:

1. Outside development it refuses before it does anything.
2. It ends with its parent, with the enclave, and when it is told to; the enclave always ends with it.
"""

from __future__ import annotations

import logging
import os
import resource
import secrets
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from innkeeper_confidential_workflows.enclave.processes import become_subreaper
from innkeeper_confidential_workflows.launcher.bundle import find_bundle
from innkeeper_confidential_workflows.launcher.enclave import Enclave
from innkeeper_confidential_workflows.launcher.errors import LaunchError
from innkeeper_confidential_workflows.launcher.measure import measure
from innkeeper_confidential_workflows.launcher.scratch import scratch_directory
from innkeeper_confidential_workflows.launcher.serving import Ending, serve
from innkeeper_confidential_workflows.nsm.authority import Authority
from innkeeper_confidential_workflows.nsm.simulated import MODULE_PREFIX, SimulatedNsm
from innkeeper_sdk.errors import ExitCode, InnkeeperError

__all__ = ["AUTHORITY_DIRECTORY", "main"]

AUTHORITY_DIRECTORY: Final = "simulation"
"""Where, in the provider's data directory, the root key of simulated documents is."""

_HELPER: Final = "INNKEEPER_HELPER_LAUNCHER_FD"
_BANNER: Final = "INSECURE SIMULATION: there is no trusted hardware here; whoever runs this machine can read everything"

_log = logging.getLogger("innkeeper.launcher")


def main() -> int:
    """Run the launcher; return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    environment = os.environ.get("INNKEEPER_ENVIRONMENT")
    if environment != "development":
        _log.critical(
            "simulated enclaves are for environment: development, this is %s; use another backend, or run with --dev",
            environment or "unknown",
        )
        return ExitCode.CONFIG
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Of a terminal: the host ends its parts in order.
    signal.signal(signal.SIGTERM, _terminated)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    become_subreaper()
    _log.warning(_BANNER)
    try:
        ending = _launch(_parent(), _directory("INNKEEPER_DATA_DIR"), _directory("INNKEEPER_RUNTIME_DIR"))
    except InnkeeperError as error:
        _log.critical("%s", error)
        return error.exit_code
    if ending is Ending.PARENT_GONE:
        return ExitCode.OK
    _log.error("the enclave is over: %s", ending.value)
    return ExitCode.PROBLEMS


def _launch(parent: socket.socket, data: Path, runtime: Path) -> Ending:
    module_id = f"{MODULE_PREFIX}{secrets.token_hex(8)}-enc{secrets.token_hex(8)}"
    bundle = find_bundle()
    registers = measure(bundle, module_id)
    nsm = SimulatedNsm(Authority.load_or_create(data / AUTHORITY_DIRECTORY), module_id=module_id, pcrs=registers)
    with scratch_directory(runtime) as scratch:
        enclave = Enclave.start(bundle, scratch)
        try:
            _log.info(
                "enclave %s, process %d, PCR0 %s, PCR1 %s, PCR2 %s",
                module_id,
                enclave.pid,
                *(registers[index].hex() for index in (0, 1, 2)),
            )
            return serve(parent, enclave, nsm, module_id)
        finally:
            status = enclave.end()
            _log.info("enclave %s has ended with status %d", module_id, status)


def _parent() -> socket.socket:
    number = os.environ.get(_HELPER, "")
    if not number.isdecimal():
        raise LaunchError(f"{_HELPER} names no socket", hint="the launcher is started by the host, as a helper")
    try:
        return socket.socket(fileno=int(number))
    except OSError as error:
        raise LaunchError(f"{_HELPER} names no socket: {error.strerror}") from error


def _directory(name: str) -> Path:
    path = Path(os.environ.get(name, ""))
    if not path.is_absolute() or not path.is_dir():
        raise LaunchError(f"{name} names no directory", path=str(path))
    return path


def _terminated(_: int, __: FrameType | None) -> NoReturn:
    # Unwinds: the enclave and its directory go first.
    sys.exit(ExitCode.OK)


if __name__ == "__main__":
    sys.exit(main())
