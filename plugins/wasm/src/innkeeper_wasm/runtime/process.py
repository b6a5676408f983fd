"""What a process does to itself: die with its parent, take no privileges, keep no descriptor, and ask for its limits.

Everything here is called in a process with one thread, right after it was started or forked.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import time
from collections.abc import Iterable

__all__ = [
    "OOM_EXECUTION",
    "OOM_ZYGOTE",
    "OomScore",
    "become_subreaper",
    "child_pids",
    "close_all_but",
    "die_with_parent",
    "drop_capabilities",
    "end_children",
    "forbid_new_privileges",
    "libc",
    "limit",
    "limit_processor_time",
    "private_dirty_bytes",
    "writable_private_bytes",
]

OOM_ZYGOTE = 500
"""``oom_score_adj`` of zygotes: killed before the host."""
OOM_EXECUTION = 1000
"""``oom_score_adj`` of compile children and executions: killed first."""

_END_POLL_SECONDS = 0.001

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_CAPABILITY_VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 of linux/capability.h: two words of each set."""

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


def drop_capabilities() -> None:
    """Give up every capability for good; for an ordinary user, who has none, nothing changes.

    Raises:
        OSError: If the kernel refuses.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()  # Effective, permitted and inheritable: low words first, then high words.
    if libc.capget(header, held) != 0:
        raise OSError(ctypes.get_errno(), "capget failed")
    if any(held):
        _empty_bounding_set()
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def _empty_bounding_set() -> None:
    """Leave nothing that a program could get back by being executed, as far as this process may."""
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            number = ctypes.get_errno()
            if number in (errno.EINVAL, errno.EPERM):  # Past the last one; or no CAP_SETPCAP, with no_new_privs set.
                return
            raise OSError(number, f"prctl({_PR_CAPBSET_DROP}): {os.strerror(number)}")


def child_pids() -> list[int]:
    """Return the children of this process (one thread), adopted ones and zombies too."""
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:  # The kernel is built without CONFIG_PROC_CHILDREN.
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _parent(name) == pid]


def _parent(name: str) -> int | None:
    try:
        with open(f"/proc/{name}/stat", "rb") as file:
            status = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # Gone, or another user's.
    return int(status[status.rindex(b")") + 1 :].split()[1])


def end_children(seconds: float) -> bool:
    """Kill and reap the children of this process (one thread), and those that it adopts meanwhile.

    Args:
        seconds: How long it takes at most; a process that takes longer to die is left to the kernel.

    Returns:
        Whether none is left.
    """
    deadline = time.monotonic() + seconds
    while pids := child_pids():
        if time.monotonic() >= deadline:
            return False
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, os.WNOHANG)
        time.sleep(_END_POLL_SECONDS)
    return True


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


def private_dirty_bytes(rollup: bytes) -> int:
    """Return what a process has dirtied for itself alone, as its ``smaps_rollup`` says; 0 if it does not."""
    for line in rollup.splitlines():
        if line.startswith(b"Private_Dirty:"):
            return int(line.split()[1]) * 1024
    return 0


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
