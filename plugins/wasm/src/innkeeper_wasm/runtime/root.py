"""The root process: imports the engine once, and forks compile children and zygotes for the driver.

``python -I -m innkeeper_wasm.runtime.root CONTROL PARENT`` where CONTROL is the number of the control socket and
PARENT the process that starts it. It runs no guest code and compiles nothing itself, so that what it has loaded is
shared, unchanged, by everything that is forked from it. It ends when the driver closes the socket, and everything
below it ends with it.
"""

from __future__ import annotations

import gc
import socket
import sys

from innkeeper_wasm.runtime import compiler, control, zygote
from innkeeper_wasm.runtime.engine import engine_digest, wasmtime_version
from innkeeper_wasm.runtime.forking import ForkServer
from innkeeper_wasm.runtime.process import become_subreaper, close_all_but, die_with_parent, forbid_new_privileges

__all__ = ["JOBS", "main"]

_STANDARD_ERROR = 2

JOBS = {"compile": compiler.run, "zygote": zygote.run}
"""What the root process forks for."""


def main(arguments: list[str]) -> None:
    """Serve the driver at the other end of the control socket.

    Args:
        arguments: Number of the control socket, process id of the driver.
    """
    number, parent = (int(argument) for argument in arguments)
    die_with_parent(parent)
    forbid_new_privileges()
    become_subreaper()
    close_all_but((0, 1, _STANDARD_ERROR, number))
    channel = socket.socket(fileno=number)
    control.send(channel, control.encode("ready", wasmtime=wasmtime_version(), engine=engine_digest()))
    gc.collect()
    gc.freeze()
    server = ForkServer(channel, keep=(_STANDARD_ERROR,), reap_orphans=True, end_with_channel=True)
    job = server.accept()
    JOBS[job.message["op"]](job)


if __name__ == "__main__":
    main(sys.argv[1:])
