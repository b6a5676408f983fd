"""System call filters (seccomp BPF), as allow-lists.

Rules of this module:

1. A call that a policy does not name fails with ``EPERM``, or ends the process where only an attacker would make it.
2. A policy may only be added to: filters stack, and the strictest answer counts.
3. Another architecture than the one the process runs on, and the x32 calls of x86-64, end the process.

Three policies: :data:`COMPILE` (threads and executable mappings, for the compiler), :data:`ZYGOTE` (fork, but neither
threads nor executable mappings) and :data:`EXECUTION` (none of these).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Mapping

from attrs import field, frozen

from innkeeper_wasm.runtime.process import libc

__all__ = ["COMPILE", "EXECUTION", "ZYGOTE", "Policy", "install", "local_program", "program"]

_Numbers = Mapping[str, tuple[int | None, int | None]]
# Numbers of asm/unistd_64.h (x86-64) and asm-generic/unistd.h (aarch64). None: the architecture has no such call.

_RUN: _Numbers = {
    "brk": (12, 214),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "close": (3, 57),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "fstat": (5, 80),
    "futex": (202, 98),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getrandom": (318, 278),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "lseek": (8, 62),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "nanosleep": (35, 101),
    "poll": (7, None),
    "ppoll": (271, 73),
    "pread64": (17, 67),
    "read": (0, 63),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "set_robust_list": (273, 99),
    "sigaltstack": (131, 132),
    "write": (1, 64),
}
"""What every process may do: compute, allocate, wait, and use the descriptors that it has."""

_SOME: _Numbers = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "fcntl": (72, 25),
    "pidfd_open": (434, 434),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "pwrite64": (18, 68),
    "sched_getaffinity": (204, 123),
    "seccomp": (317, 277),
    "wait4": (61, 260),
    "waitid": (247, 95),
}
"""What a policy may add."""

_FATAL: _Numbers = {
    "accept": (43, 202),
    "bind": (49, 200),
    "bpf": (321, 280),
    "connect": (42, 203),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "kill": (62, 129),
    "mount": (165, 40),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "setns": (308, 268),
    "socket": (41, 198),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vfork": (58, None),
}
"""What none of our code calls, and what code that has broken out of the engine would."""

_NUMBERS: _Numbers = {**_RUN, **_SOME, **_FATAL}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_BIT = 0x40000000

_PROT_EXEC = 4
_CLONE_THREAD = 0x00010000
_FORK_FLAGS = 0x01200011  # CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD: what fork() of glibc passes
_ANY_BIT = 0xFFFFFFFF
_HIGH_WORD = 1 << 8
"""Added to the number of an argument: its high word."""

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_SIGKILL = 9

_Condition = tuple[int, int, int]
"""Argument, mask, and the value that its low word, masked, must have."""
_Ways = tuple[tuple[_Condition, ...], ...]
"""A call is allowed if all conditions of one of these hold."""

_OWN_LIMITS: _Ways = (((0, _ANY_BIT, 0), (_HIGH_WORD, _ANY_BIT, 0)),)
"""``prlimit64`` of this very process: the limits of another one would end it."""
_OWN_DESCRIPTORS: _Ways = tuple(((1, _ANY_BIT, command),) for command in (1, 2, 3, 1030))
"""``fcntl`` with F_GETFD, F_SETFD, F_GETFL and F_DUPFD_CLOEXEC: F_SETOWN and F_SETSIG would signal any process."""
_DIE_WITH_PARENT: _Ways = (((0, _ANY_BIT, _PR_SET_PDEATHSIG), (1, _ANY_BIT, _SIGKILL)),)
"""``prctl`` as each forked child calls it; it cannot be undone, nor the root process be kept from adopting orphans."""
_NAME_THREAD: _Ways = (((0, _ANY_BIT, _PR_SET_NAME),),)
"""``prctl`` as the compiler's threads call it."""
_STACK_FILTER: _Ways = (((0, _ANY_BIT, 1), (1, _ANY_BIT, 0)),)
"""``seccomp`` with SECCOMP_SET_MODE_FILTER and no flags."""

# Classic BPF (linux/filter.h) and its return values (linux/seccomp.h).
_LOAD, _AND, _JUMP_EQUAL, _JUMP_GE, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_KILL_PROCESS, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_SET_MODE_FILTER = 1
_GET_ACTION_AVAIL = 2
_Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


@frozen(kw_only=True)
class Policy:
    """What a process may do beyond running.

    Args:
        more: Names of further calls that are allowed.
        some: Further calls that are allowed with some arguments only.
        fork: Whether ``fork()`` is, and nothing else of ``clone``.
        threads: Whether threads may be made.
        executable: Whether memory may be made executable.
    """

    more: frozenset[str] = frozenset()
    some: Mapping[str, _Ways] = field(factory=dict)
    fork: bool = False
    threads: bool = False
    executable: bool = False


EXECUTION = Policy()
ZYGOTE = Policy(
    more=frozenset({"close_range", "pidfd_open", "pwrite64", "wait4", "waitid"}),
    some={
        "fcntl": _OWN_DESCRIPTORS,
        "prctl": _DIE_WITH_PARENT,
        "prlimit64": _OWN_LIMITS,
        "seccomp": _STACK_FILTER,
    },
    fork=True,
)
COMPILE = Policy(
    more=frozenset({"pwrite64", "sched_getaffinity"}),
    some={"fcntl": _OWN_DESCRIPTORS, "prctl": _NAME_THREAD},
    threads=True,
    executable=True,
)


def program(policy: Policy, machine: str) -> bytes | None:
    """Return the BPF program of a policy, or None for a machine whose call numbers are not known here.

    Args:
        policy: What is allowed.
        machine: As ``platform.machine()`` names it.
    """
    if machine not in _ARCHITECTURES:
        return None
    column, architecture = _ARCHITECTURES[machine]
    allowed = _RUN.keys() | policy.more
    guarded = _guarded(policy)

    def numbers(names: Iterable[str]) -> list[int]:
        return [number for name in sorted(names) if (number := _NUMBERS[name][column]) is not None]

    code = _prologue(architecture, x32=machine == "x86_64")
    for number in numbers(allowed - guarded.keys()):
        code += _answer(number, _ALLOW)
    for name, ways in guarded.items():
        for number in numbers([name]):
            code += _allow_if(number, ways)
    # glibc falls back to clone, whose flags a filter can see.
    for number in numbers(["clone3"]):
        code += _answer(number, _ERRNO | errno.ENOSYS)
    for number in numbers(_FATAL):
        code += _answer(number, _KILL_PROCESS)
    code.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _guarded(policy: Policy) -> dict[str, _Ways]:
    """Return the calls of a policy that are allowed with some arguments only."""
    guarded = dict(policy.some)
    if not policy.executable:
        guarded["mmap"] = guarded["mprotect"] = (((2, _PROT_EXEC, 0),),)
    if policy.fork:
        guarded["clone"] = (((0, _ANY_BIT, _FORK_FLAGS),),)
    elif policy.threads:
        guarded["clone"] = (((0, _CLONE_THREAD, _CLONE_THREAD),),)
    return guarded


def _prologue(architecture: int, *, x32: bool) -> list[_Instruction]:
    code: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if x32:
        code += [(_JUMP_GE, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL_PROCESS)]
    return code


def _answer(number: int, action: int) -> list[_Instruction]:
    return [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, action)]


def _allow_if(number: int, ways: _Ways) -> list[_Instruction]:
    """Allow a call if its arguments are as one of the ways says; else answer ``EPERM``."""
    code: list[_Instruction] = []
    for way in ways:
        for index, (argument, mask, value) in enumerate(way):
            high, position = divmod(argument, _HIGH_WORD)
            # Both machines are little-endian. A mismatch skips what is left of this way, each condition being three.
            rest = 3 * (len(way) - 1 - index) + 1
            code += [
                (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * position + 4 * high),
                (_AND, 0, 0, mask),
                (_JUMP_EQUAL, 0, rest, value),
            ]
        code.append((_RETURN, 0, 0, _ALLOW))
    code.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    return [(_JUMP_EQUAL, 0, len(code), number), *code]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def local_program(policy: Policy) -> bytes | None:
    """Return the BPF program of a policy for this machine, or None if it or its kernel has no filters."""
    machine = platform.machine()
    return program(policy, machine) if machine in _ARCHITECTURES and _supported() else None


def _supported() -> bool:
    """Tell whether the kernel has seccomp filters with the actions used here."""
    action = ctypes.c_uint32(_KILL_PROCESS)
    return bool(libc.syscall(_call_number(), _GET_ACTION_AVAIL, 0, ctypes.byref(action)) == 0)


def install(code: bytes) -> None:
    """Put this process (one thread, ``no_new_privs`` set) under a filter for good.

    Args:
        code: What :func:`program` has returned.

    Raises:
        OSError: If the kernel refuses the filter.
    """
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = _Program(len(code) // 8, ctypes.addressof(buffer))
    if libc.syscall(_call_number(), _SET_MODE_FILTER, 0, ctypes.byref(filter_)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _call_number() -> int:
    number = _NUMBERS["seccomp"][_ARCHITECTURES[platform.machine()][0]]
    assert number is not None  # noqa: S101 - both architectures have it
    return number
