"""The enclave's process, as its launcher has it: started with two sockets and nothing else, and ended by a kill."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

from innkeeper_confidential_workflows.enclave.processes import end_children
from innkeeper_confidential_workflows.launcher.bundle import Bundle
from innkeeper_confidential_workflows.launcher.errors import LaunchError

__all__ = ["Enclave"]

_MONITOR: Final = "innkeeper_confidential_workflows.enclave.monitor"
# Of the host and of this launch: by them whatever is left behind is found.
_MARKS: Final = ("INNKEEPER_GUARDED", "INNKEEPER_LAUNCH")
_STANDARD_ERROR: Final = 2
_END_SECONDS: Final = 5.0

_log = logging.getLogger("innkeeper.launcher")


class Enclave:
    """A monitor that runs. Make it with :meth:`start`.

    Attributes:
        stream: The outer end of its stream to the host, until it is handed on.
        nsm: The NSM's end of its other socket; it does not block.
        pidfd: Readable when it has ended.
    """

    def __init__(self, process: subprocess.Popen[bytes], stream: socket.socket, nsm: socket.socket) -> None:
        self._process = process
        self.stream = stream
        self.nsm = nsm
        self.pidfd = os.pidfd_open(process.pid)

    @classmethod
    def start(cls, bundle: Bundle, scratch: Path) -> Enclave:
        """Start the monitor of a bundle.

        It dies with this process. Its environment is the guard's mark alone; what it says goes where this process says
        what it does; its working directory is the root.

        Args:
            bundle: What it can load.
            scratch: Its private directory.

        Raises:
            LaunchError: It cannot be started.
        """
        directory, cache, own = scratch / "bundle", scratch / "no-cache", scratch / "monitor"
        bundle.link(directory)
        own.mkdir(mode=0o700)
        command = bundle.command(directory, cache)
        stream, their_stream = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        nsm, their_nsm = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        nsm.setblocking(False)
        numbers = (their_stream.fileno(), their_nsm.fileno())
        arguments = [str(os.getpid()), *(str(number) for number in numbers), str(own), *command]
        environment = {name: os.environ[name] for name in _MARKS if name in os.environ}
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module, by its measured interpreter
                [*command, _MONITOR, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=_STANDARD_ERROR,
                pass_fds=numbers,
                env={"LANG": "C.UTF-8", **environment},
                cwd="/",
            )
        except OSError as error:
            stream.close()
            nsm.close()
            raise LaunchError(f"the enclave cannot be started: {error}") from error
        finally:
            their_stream.close()
            their_nsm.close()
        return cls(process, stream, nsm)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def end(self) -> int:
        """Kill it, stopped or not, and everything below it, which this process has adopted by then.

        Returns:
            Its exit status, or minus the signal that has ended it.
        """
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        status = self._process.wait()
        if not end_children(_END_SECONDS):
            _log.error("a process of the enclave does not end")
        os.close(self.pidfd)
        self.stream.close()
        self.nsm.close()
        return status
