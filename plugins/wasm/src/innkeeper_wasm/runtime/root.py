"""The root process: imports the engine once, and forks compile children and zygotes for the driver.

``python -I -m innkeeper_wasm.runtime.root CONTROL PARENT [HOST]`` where CONTROL is the number of the control socket and
PARENT the process that starts it. It runs no guest code and compiles nothing itself, so that what it has loaded is
shared, unchanged, by everything that is forked from it. It ends when the driver closes the socket, and everything
below it ends with it.

HOST, ``package.module:factory``, names what the calls of executions go through. It is imported here, before anything is
forked, so that it may load and warm up what a confined process could not; the factory itself is called in each
execution, after its fork and its confinement, with the host's end that leads to the driver, and returns the one that
the guest's calls get.
"""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NoReturn

from innkeeper_wasm.runtime import compiler, control, zygote
from innkeeper_wasm.runtime.engine import engine_digest, wasmtime_version
from innkeeper_wasm.runtime.forking import ForkServer, Job
from innkeeper_wasm.runtime.guest import HostFactory
from innkeeper_wasm.runtime.process import become_subreaper, close_all_but, die_with_parent, forbid_new_privileges

__all__ = ["jobs", "main"]

_STANDARD_ERROR = 2


def jobs(wrap: HostFactory | None) -> dict[str, Callable[[Job], NoReturn]]:
    """Return what the root process forks for, by the name of the job."""
    return {"compile": compiler.run, "zygote": partial(zygote.run, wrap=wrap)}


def main(arguments: list[str]) -> None:
    """Serve the driver at the other end of the control socket.

    Args:
        arguments: Number of the control socket, process id of the driver, and what HOST stands for, if anything.
    """
    number, parent = (int(argument) for argument in arguments[:2])
    die_with_parent(parent)
    forbid_new_privileges()
    become_subreaper()
    close_all_but((0, 1, _STANDARD_ERROR, number))
    wrap = _load(arguments[2]) if arguments[2:] else None
    channel = socket.socket(fileno=number)
    control.send(channel, control.encode("ready", wasmtime=wasmtime_version(), engine=engine_digest()))
    gc.collect()
    gc.freeze()
    server = ForkServer(channel, keep=(_STANDARD_ERROR,), reap_orphans=True, end_with_channel=True)
    job = server.accept()
    jobs(wrap)[job.message["op"]](job)


def _load(name: str) -> HostFactory:
    module, _, attribute = name.partition(":")
    factory: HostFactory = getattr(import_module(module), attribute)
    return factory


if __name__ == "__main__":
    main(sys.argv[1:])
