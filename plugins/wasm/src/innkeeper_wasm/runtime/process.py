"""What a process does to itself: die with its parent, take no privileges, keep no descriptor, and ask for its limits.

Everything here is called in a process with one thread, right after it was started or forked.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Iterable

__all__ = [
    "OOM_EXECUTION",
    "OOM_ZYGOTE",
    "OomScore",
    "become_subreaper",
    "close_all_but",
    "die_with_parent",
    "forbid_new_privileges",
    "libc",
    "limit",
    "limit_processor_time",
    "writable_private_bytes",
]

OOM_ZYGOTE = 500
"""``oom_score_adj`` of zygotes: killed before the host."""
OOM_EXECUTION = 1000
"""``oom_score_adj`` of compile children and executions: killed first."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


def _prctl(option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end it now if that has already happened.

    Args:
        parent: Process id of the parent. Its *thread* that forked is what counts; every parent here has one thread.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become_subreaper() -> None:
    """Have orphans below this process handed to it, so that nothing of them stays behind as a zombie elsewhere."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """Set ``no_new_privs``, for this process and all that it forks."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor of this process that is not in ``keep``."""
    start = 0
    for descriptor in sorted(set(keep)):
        if start < descriptor:  # An empty range from 0 would be taken for everything.
            os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, 1 << 30)


def limit(kind: int, value: int) -> None:
    """Lower a resource limit, soft and hard, to ``value`` (a limit that is already lower stays)."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def limit_processor_time(seconds: int) -> None:
    """Have the kernel end this process with SIGXCPU after so much processor time, over all of its threads."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    # Were both limits the same, it would be SIGKILL, and nobody could tell why.
    wanted = seconds + 1 if hard == resource.RLIM_INFINITY else min(seconds + 1, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (min(seconds, wanted), wanted))


def writable_private_bytes() -> int:
    """Return what ``RLIMIT_DATA`` counts of this process now, in bytes."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


class OomScore:
    """This process's ``oom_score_adj``, held open: children inherit what it is when they are forked.

    Opening it is not possible any more once the process is confined, so it is done before.
    """

    def __init__(self) -> None:
        self._file = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file

    def set(self, value: int) -> None:
        """Set the score, 0 to 1000."""
        os.pwrite(self._file, b"%d" % value, 0)

    def close(self) -> None:
        """Leave the score as it is."""
        os.close(self._file)
