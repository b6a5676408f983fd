"""What confined processes cannot do: each act in a process of its own, under the policy that it is for."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys

import pytest

from innkeeper_wasm.runtime import landlock, seccomp

ACTS = {
    "open": "open('/etc/passwd')",
    "open_own": "open('/proc/self/status')",
    "create": "open('/tmp/innkeeper-test-must-not-exist', 'w')",
    "thread": "__import__('threading').Thread(target=print).start()",
    "fork": "child = os.fork()\nif child == 0: os._exit(0)\nos.waitpid(child, 0)",
    "map_executable": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "map": "mmap.mmap(-1, 4096)[0] = 1",
    "socket": "socket.socket()",
    "execute": "os.execv('/bin/true', ['true'])",
    "kill": "os.kill(os.getpid(), 0)",
    "sleep": "time.sleep(0.001)",
    "entropy": "os.urandom(8)",
    "pipe": "os.write(PIPE[1], b'x'); os.read(PIPE[0], 1)",
    "filter": "process.forbid_new_privileges()",
    "limit_own": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "limit_other": "resource.prlimit(os.getppid(), resource.RLIMIT_CORE)",
    "adopt": "process.become_subreaper()",
    "outlive": "process._prctl(1, 0)",
    "die_with_parent": "process._prctl(1, 9)",
    "descriptor_flags": "fcntl.fcntl(0, fcntl.F_GETFD)",
    "signal_owner": "fcntl.fcntl(PIPE[0], fcntl.F_SETOWN, os.getpid())",
    "signal_number": "fcntl.fcntl(PIPE[0], fcntl.F_SETSIG, 9)",
}
PRELUDE = """
import fcntl, mmap, os, resource, socket, sys, threading, time
from innkeeper_wasm.runtime import landlock, process, seccomp
PIPE = os.pipe()
ACT = compile({act!r}, 'act', 'exec')
process.forbid_new_privileges()
{confine}
try:
    exec(ACT)
except (OSError, RuntimeError) as error:
    os.write(1, f'refused {{type(error).__name__}}'.encode())
    os._exit(0)
os.write(1, b'done')
os._exit(0)
"""


def act(confine: str, name: str) -> str | int:
    """Return what came of an act: done, refused, or the number of the signal that ended its process."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", PRELUDE.format(act=ACTS[name], confine=confine)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode < 0:
        return -done.returncode
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[0]


def under(policy: str) -> str:
    return f"seccomp.install(seccomp.local_program(seccomp.{policy}))"


needs_seccomp = pytest.mark.skipif(
    seccomp.local_program(seccomp.EXECUTION) is None, reason="this kernel or machine has no seccomp filters"
)
needs_landlock = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")

FINE = ["map", "sleep", "entropy", "pipe"]
FATAL = ["socket", "execute", "kill"]


@pytest.mark.parametrize("name", sorted(ACTS.keys() - {"execute", "create"}))
def test_every_act_works_without_confinement(name: str) -> None:
    assert act("pass", name) == "done"


@needs_seccomp
@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("policy", ["EXECUTION", "ZYGOTE", "COMPILE"])
def test_every_policy_lets_a_process_run(policy: str, name: str) -> None:
    assert act(under(policy), name) == "done"


@needs_seccomp
@pytest.mark.parametrize("name", FATAL)
@pytest.mark.parametrize("policy", ["EXECUTION", "ZYGOTE", "COMPILE"])
def test_every_policy_ends_a_process_that_does_what_only_an_attacker_does(policy: str, name: str) -> None:
    assert act(under(policy), name) == signal.SIGSYS


@needs_seccomp
@pytest.mark.parametrize("name", ["open", "open_own", "create"])
@pytest.mark.parametrize("policy", ["EXECUTION", "ZYGOTE", "COMPILE"])
def test_no_policy_lets_a_process_open_files(policy: str, name: str) -> None:
    assert act(under(policy), name) == "refused"


@needs_seccomp
@pytest.mark.parametrize(
    ("policy", "name", "result"),
    [
        ("EXECUTION", "fork", "refused"),
        ("EXECUTION", "thread", "refused"),
        ("EXECUTION", "map_executable", "refused"),
        ("EXECUTION", "filter", "refused"),
        ("ZYGOTE", "fork", "done"),
        ("ZYGOTE", "thread", "refused"),
        ("ZYGOTE", "map_executable", "refused"),
        ("ZYGOTE", "filter", "refused"),
        ("ZYGOTE", "limit_own", "done"),
        ("ZYGOTE", "limit_other", "refused"),
        ("ZYGOTE", "adopt", "refused"),
        ("ZYGOTE", "outlive", "refused"),
        ("ZYGOTE", "die_with_parent", "done"),
        ("ZYGOTE", "descriptor_flags", "done"),
        ("ZYGOTE", "signal_owner", "refused"),
        ("ZYGOTE", "signal_number", "refused"),
        ("EXECUTION", "limit_other", "refused"),
        ("EXECUTION", "signal_owner", "refused"),
        ("COMPILE", "limit_other", "refused"),
        ("COMPILE", "adopt", "refused"),
        ("COMPILE", "signal_owner", "refused"),
        ("COMPILE", "fork", "refused"),
        ("COMPILE", "thread", "done"),
        ("COMPILE", "map_executable", "done"),
    ],
)
def test_each_policy_allows_what_its_process_needs_and_no_more(policy: str, name: str, result: str) -> None:
    assert act(under(policy), name) == result


@needs_seccomp
def test_a_second_filter_only_takes_away() -> None:
    # The second program is made first: under the first filter the kernel cannot be asked what it has.
    both = f"code = seccomp.local_program(seccomp.EXECUTION); {under('ZYGOTE')}; seccomp.install(code)"
    assert act(both, "fork") == "refused"
    assert act(both, "sleep") == "done"


@needs_landlock
@pytest.mark.parametrize("name", ["open", "create"])
def test_landlock_takes_files_away_even_from_root(name: str) -> None:
    assert act("assert landlock.deny_all()", name) == "refused"


@needs_landlock
@pytest.mark.parametrize("name", FINE)
def test_landlock_lets_a_process_run(name: str) -> None:
    assert act("assert landlock.deny_all()", name) == "done"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_programs_fit_the_kernel_and_end_in_an_answer(machine: str) -> None:
    for policy in (seccomp.EXECUTION, seccomp.ZYGOTE, seccomp.COMPILE):
        code = seccomp.program(policy, machine)
        assert code is not None
        assert len(code) % 8 == 0
        assert len(code) // 8 <= 4096
        assert code[-8:-6] == b"\x06\x00"


def test_a_machine_whose_calls_are_not_known_has_no_program() -> None:
    assert seccomp.program(seccomp.EXECUTION, "riscv64") is None


def test_this_machine_is_known() -> None:
    assert seccomp.program(seccomp.EXECUTION, platform.machine()) is not None


def test_capabilities_are_gone_for_good() -> None:
    script = (
        "from innkeeper_wasm.runtime import process; process.forbid_new_privileges(); process.drop_capabilities(); "
        "print(open('/proc/self/status').read())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    sets = dict(line.split(":\t") for line in done.stdout.splitlines() if line.startswith("Cap"))
    assert {name: int(sets[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
        "CapInh": 0,
        "CapPrm": 0,
        "CapEff": 0,
        "CapAmb": 0,
    }
