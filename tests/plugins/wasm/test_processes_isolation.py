"""What the processes of a guest have and do not have, and that none of them outlives its driver."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from innkeeper_wasm.driver import GuestLimits, Runtime

DRIVER = """
import asyncio, sys, time
from pathlib import Path
from innkeeper_wasm.driver import EndingKind, Runtime

TEXT = b'''(module (import "env" "version_v2" (func)) (import "env" "now" (func $now (param i32) (result i32)))
 (memory (export "memory") 1) (func (export "_start") (drop (call $now (i32.const 0)))))'''

class Host:
    def __init__(self, runtime, hold):
        self.runtime, self.hold = runtime, hold
    async def now(self, mode):
        while not self.runtime.stats().zygotes[0].executions:
            await asyncio.sleep(0)
        stats = self.runtime.stats()
        pids = [stats.root] + [zygote.pid for zygote in stats.zygotes] + list(stats.zygotes[0].executions)
        print(*pids, *stats.zygotes[0].layers, flush=True)
        if self.hold:
            await asyncio.sleep(3600)
        return 1

async def main():
    runtime = Runtime(Path(sys.argv[1]) / "modules")
    module = await runtime.compile(TEXT, text=True)
    outcome = await runtime.execute(
        module, request=b"", callbacks=Host(runtime, sys.argv[2] == "hold"), don_seed=0, node_seed=0,
        deadline=asyncio.get_running_loop().time() + 30,
    )
    assert outcome.kind is EndingKind.RETURN, outcome
    await runtime.close()
    print(sorted(name for name in sys.modules if name.split(".")[0] in ("wasmtime", "brotli", "_brotli")))

asyncio.run(main())
"""


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))


def descriptors(pid: int) -> list[str]:
    return sorted(os.readlink(path).split(":")[0] for path in Path(f"/proc/{pid}/fd").iterdir())


def environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@contextlib.asynccontextmanager
async def held(runtime: Runtime, guests: Any, **options: Any) -> Any:
    """Hold an execution in a host call; yield the process ids of root, zygote and execution."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def now(_: int) -> int:
        asked.set()
        await release.wait()
        return 1

    host = guests.Host(guests.assemble([("now", 0)]), now=now)
    task = asyncio.create_task(guests.executor(runtime)(guests.interpreter(), host, **options))
    async with asyncio.timeout(20):
        await asked.wait()
        while not runtime.stats().zygotes[0].executions:  # noqa: ASYNC110 - its number may come behind its question
            await asyncio.sleep(0)
    stats = runtime.stats()
    yield stats.root, stats.zygotes[0].pid, stats.zygotes[0].executions[0]
    release.set()
    assert (await task).error is None


async def test_an_execution_has_its_stream_and_no_other_descriptor(runtime: Runtime, guests: Any) -> None:
    async with held(runtime, guests) as (_, _, execution):
        assert descriptors(execution) == ["socket"]


async def test_a_zygote_has_no_descriptor_of_another(runtime: Runtime, guests: Any) -> None:
    async with held(runtime, guests) as (root, zygote, _):
        # Where errors are said; its channel; its own score and use of memory; the end of its child.
        found = [name for name in descriptors(zygote) if "/oom_score_adj" not in name and "smaps_rollup" not in name]
        assert set(found) <= {"pipe", "socket", "anon_inode", "pidfd"} | {
            name for name in found if name.startswith("/memfd") or name.endswith(".bin")
        }
        assert found.count("socket") == 1
        assert found.count("pipe") == 1
        assert descriptors(root).count("/dev/null") == 1


async def test_every_process_is_confined_has_one_thread_and_dies_before_the_host(runtime: Runtime, guests: Any) -> None:
    async with held(runtime, guests) as (root, zygote, execution):
        for pid, parent, filters in ((root, os.getpid(), 0), (zygote, root, 1), (execution, zygote, 2)):
            found = status(pid)
            assert int(found["PPid"]) == parent
            assert found["NoNewPrivs"] == "1"
            assert found["Threads"] == "1"
            assert int(found["Seccomp_filters"]) == filters
            assert os.getsid(pid) == root != os.getsid(0)
        assert (score(zygote), score(execution)) == (500, 1000)
        assert "seccomp" in runtime.stats().zygotes[0].layers


async def test_an_execution_has_its_own_limits(runtime: Runtime, guests: Any) -> None:
    async with held(runtime, guests, limits=GuestLimits(cpu_seconds=7), memory_bytes=1 << 20) as (_, zygote, execution):
        limits = {
            name: resource.prlimit(execution, number)
            for name, number in vars(resource).items()
            if name.startswith("RLIMIT_")
        }
        assert limits["RLIMIT_CPU"] == (7, 8)
        assert limits["RLIMIT_CORE"] == limits["RLIMIT_FSIZE"] == limits["RLIMIT_NPROC"] == (0, 0)
        assert limits["RLIMIT_NOFILE"][1] <= 8
        assert 1 << 28 <= limits["RLIMIT_DATA"][1] <= 1 << 29
        assert resource.prlimit(zygote, resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY


async def test_processor_time_ends_an_execution_even_without_a_deadline(runtime: Runtime, guests: Any) -> None:
    host = guests.Host(guests.assemble([("loop",)]))
    outcome = await guests.executor(runtime)(guests.interpreter(), host, limits=GuestLimits(cpu_seconds=1))
    assert outcome.ending.signal == signal.SIGXCPU


async def test_no_process_of_a_guest_gets_the_environment_of_the_host(
    runtime: Runtime, guests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNKEEPER_SECRET", "value")
    async with held(runtime, guests) as pids:
        for pid in pids:
            assert environment(pid) == [b"LC_ALL=C.UTF-8", b""]


def test_the_engine_is_never_imported_into_the_process_of_the_driver(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", DRIVER, str(tmp_path), "go"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_driver_that_is_killed_leaves_no_process_behind(guests: Any, tmp_path: Path, number: int) -> None:
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", DRIVER, str(tmp_path), "hold", stdout=subprocess.PIPE
    )
    assert driver.stdout is not None
    async with asyncio.timeout(30):
        pids = [int(word) for word in (await driver.stdout.readline()).split() if word.isdigit()]
    assert len(pids) == 3
    async with guests.ends(*pids):
        driver.send_signal(number)
        await driver.wait()


BECOME_NOBODY = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
KEEPCAPS, AMBIENT, RAISE, READ_SEARCH = 8, 47, 2, 2
# The interpreter may lie where only root can read: so this user may read everything, and nothing else.
assert libc.prctl(KEEPCAPS, 1, 0, 0, 0) == 0
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)(1 << READ_SEARCH, 1 << READ_SEARCH, 1 << READ_SEARCH, 0, 0, 0)
assert libc.capset(header, sets) == 0
assert libc.prctl(AMBIENT, RAISE, READ_SEARCH, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-I", "-c", *sys.argv[1:]])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: then all other tests run as an ordinary user")
def test_it_works_as_an_ordinary_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    done = subprocess.run(
        [sys.executable, "-I", "-c", BECOME_NOBODY, DRIVER, str(tmp_path), "go"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "seccomp" in done.stdout
    assert (tmp_path / "modules").stat().st_uid == 65534
