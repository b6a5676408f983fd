"""A process that forks on request: the loop of the root process, and of a zygote inside its guest's first host call.

Rules of this module:

1. A message with an ``id`` is a job: the server forks, and :meth:`ForkServer.accept` returns the job *in the child*. In
   the server itself it never returns.
2. For each child the driver gets ``started`` (id, pid), then ``exited`` (id, wait status). If the fork fails it gets
   ``failed`` (id, text). The driver opens its own pidfds, for it must not kill what a guest that has broken out names.
3. After ``drain``, or when the driver closes the channel and rule 5 does not apply, the server takes no more jobs and
   ends when its last child has: an eviction never ends a running execution.
4. A child's descriptors are its job's and nothing else; it dies with the server. The server's sockets are closed under
   their objects, which therefore must outlive the child: it ends by ``os._exit``.
5. The root process ends at once when the driver closes the channel: then the driver is gone, and everything below must
   go. It kills and reaps what is below it first, for a guest that has broken out may have forked.
6. What the root process adopts is an orphan of a process that has died, and is killed: an execution dies with its
   zygote, and a zygote that drains outlives its executions, so it is nothing that we have forked.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterable
from typing import Any, NoReturn

from attrs import frozen

from innkeeper_wasm.runtime import control
from innkeeper_wasm.runtime.process import (
    OOM_EXECUTION,
    OomScore,
    child_pids,
    close_all_but,
    die_with_parent,
    end_children,
)

__all__ = ["ForkServer", "Job"]

_END_SECONDS = 2.0
"""How long the root process reaps at its end; a process that takes longer to die is left to the kernel."""


@frozen
class Job:
    """What a child was forked for.

    Args:
        message: The message that asked for it.
        descriptors: The descriptors that came with it; the child owns them.
    """

    message: dict[str, Any]
    descriptors: list[int]


class ForkServer:
    """Fork a child per job, and tell the driver how each begins and ends.

    Args:
        channel: The control socket.
        keep: Further descriptors that children keep (standard error, if anything).
        oom: The server's ``oom_score_adj``, if children are to have another one than the server.
        own_score: The server's own score, restored after each fork.
        reap_orphans: Whether to reap children of children too (the root process is their subreaper).
        end_with_channel: Whether to end at once when the driver closes the channel (rule 5).
    """

    def __init__(
        self,
        channel: socket.socket,
        *,
        keep: Iterable[int] = (),
        oom: OomScore | None = None,
        own_score: int = 0,
        reap_orphans: bool = False,
        end_with_channel: bool = False,
    ) -> None:
        self._channel = channel
        self._keep = tuple(keep)
        self._oom = oom
        self._own_score = own_score
        self._end_with_channel = end_with_channel
        self._children: dict[int, tuple[int, int]] = {}
        self._draining = False
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._wake: tuple[socket.socket, socket.socket] | None = None
        if reap_orphans:
            self._wake = socket.socketpair()
            for end in self._wake:
                end.setblocking(False)
            signal.set_wakeup_fd(self._wake[1].fileno(), warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            self._poll.register(self._wake[0], select.POLLIN)

    def accept(self) -> Job:
        """Serve for ever; return the job in each child that is forked for one."""
        channel = self._channel.fileno()
        while True:
            if self._draining and not self._children:
                os._exit(0)
            for descriptor, _ in self._poll.poll():
                if descriptor == channel:
                    job = self._next_job()
                    if job is not None and self._fork(job):
                        return job
                elif descriptor in self._children:
                    self._reap(descriptor)
                elif self._wake is not None and descriptor == self._wake[0].fileno():
                    self._reap_orphans(self._wake[0])

    def _next_job(self) -> Job | None:
        received = control.receive(self._channel)
        if received is None:
            self._channel_closed()
            return None
        message, descriptors = received
        if "id" in message and not self._draining:
            return Job(message, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if message["op"] == "drain":
            self._draining = True
        elif "id" in message:
            self._say("failed", id=message["id"], text="draining")
        return None

    def _channel_closed(self) -> None:
        if self._end_with_channel:
            self.end()
        self._poll.unregister(self._channel)
        self._draining = True

    def _fork(self, job: Job) -> bool:
        """Fork for ``job``; return True in the child."""
        server = os.getpid()
        if self._oom is not None:
            self._oom.set(OOM_EXECUTION)
        try:
            pid = os.fork()
        except OSError as error:
            self._say("failed", id=job.message["id"], text=f"fork: {error.strerror}")
            return False
        finally:
            if self._oom is not None and os.getpid() == server:
                self._oom.set(self._own_score)
        if pid == 0:
            self._become_child(server, job)
            return True
        pidfd = os.pidfd_open(pid)
        for descriptor in job.descriptors:
            os.close(descriptor)
        self._children[pidfd] = (pid, job.message["id"])
        self._poll.register(pidfd, select.POLLIN)
        self._say("started", id=job.message["id"], pid=pid)
        return False

    def _become_child(self, server: int, job: Job) -> None:
        die_with_parent(server)
        if self._wake is not None:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_all_but((*self._keep, *job.descriptors))

    def _reap(self, pidfd: int) -> None:
        pid, number = self._children[pidfd]
        # Without waiting: an event may be stale, and its number another child's by now.
        found, status = os.waitpid(pid, os.WNOHANG)
        if not found:
            return
        del self._children[pidfd]
        self._poll.unregister(pidfd)
        os.close(pidfd)
        self._say("exited", id=number, status=status)

    def _reap_orphans(self, wake: socket.socket) -> None:
        wake.recv(4096)
        self._reap_all()
        for pid in set(child_pids()) - {pid for pid, _ in self._children.values()}:
            # Not reaped yet, so the number is still its own; its end wakes this process again.
            os.kill(pid, signal.SIGKILL)

    def _reap_all(self) -> None:
        known = {pid: pidfd for pidfd, (pid, _) in self._children.items()}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_pid in known:
                self._reap(known.pop(found.si_pid))
            else:
                os.waitpid(found.si_pid, 0)

    def _say(self, op: str, **fields: Any) -> None:
        try:
            control.send(self._channel, control.encode(op, **fields))
        except (BrokenPipeError, ConnectionResetError):
            if self._end_with_channel:
                self.end()

    @staticmethod
    def end() -> NoReturn:
        """End everything below this process, orphans that it adopts meanwhile too, and then it."""
        end_children(_END_SECONDS)
        os._exit(0)
