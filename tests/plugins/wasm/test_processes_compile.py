"""Compiling: what is admitted, what is refused and in which words, limits, and the cache."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest
import wasmtime

from innkeeper_sdk.errors import ConfigError, WorkflowError
from innkeeper_wasm.driver import (
    BinaryInvalidError,
    BinaryRefusedError,
    BinaryTooLargeError,
    CompileLimitError,
    CompileLimits,
    CompressedBinaryTooLargeError,
    EndingKind,
    LegacyDagError,
    MemoryExportError,
    NotBrotliError,
    Runtime,
    RuntimeLostError,
)
from innkeeper_wasm.driver.cache import ModuleCache

TEXT = '(module (import "env" "version_v2_x" (func)) (memory (export "memory") 1) (func (export "_start")))'
BINARY = bytes(wasmtime.wat2wasm(TEXT))
BOMB = " ".join(
    "(func (result i32) " + "(i32.add " * 400 + "(i32.const 1)" + " (i32.const 2))" * 400 + ")" for _ in range(400)
)


def text_with(body: str) -> bytes:
    return TEXT.replace("(memory", body + " (memory").encode()


async def test_wasm_brotli_and_text_are_compiled_and_described(runtime: Runtime) -> None:
    for binary, text in ((BINARY, False), (brotli.compress(BINARY), False), (TEXT.encode(), True)):
        module = await runtime.compile(binary, text=text)
        assert (module.version_import, module.is_legacy_dag, module.unknown_imports) == ("version_v2_x", False, ())
        assert module.facts.has_start
        assert module.facts.stored_bytes == len(binary)
        assert module.facts.binary_bytes == (len(TEXT) if text else len(BINARY))
        assert module.facts.call_capability_parameters is None


@pytest.mark.parametrize(
    ("binary", "limits", "error", "text"),
    [
        (brotli.compress(BINARY), {"compressed_bytes": 50}, CompressedBinaryTooLargeError, "compressed binary size"),
        (BINARY, {"binary_bytes": len(BINARY) - 1}, BinaryTooLargeError, "decompressed binary size reached"),
        (brotli.compress(BINARY), {"binary_bytes": len(BINARY) - 1}, BinaryTooLargeError, "decompressed binary size"),
        (
            brotli.compress(bytes(1 << 20)),
            {"binary_bytes": 1000},
            BinaryTooLargeError,
            "cannot use 1001, limit is 1000",
        ),
        (b"neither", {}, NotBrotliError, "failed to decompress binary"),
        (b"", {}, NotBrotliError, "failed to decompress binary"),
        (TEXT.encode(), {}, NotBrotliError, "failed to decompress binary"),
        (brotli.compress(TEXT.encode()), {}, BinaryInvalidError, "is not WebAssembly"),
        (BINARY[:-3], {}, BinaryInvalidError, "error creating wasmtime module: "),
        (bytes(wasmtime.wat2wasm("(module)")), {}, MemoryExportError, 'module does not export "memory"'),
    ],
)
async def test_a_refusal_says_which_rule_was_broken(
    runtime: Runtime, binary: bytes, limits: dict[str, Any], error: type[BinaryRefusedError], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        await runtime.compile(binary, limits=CompileLimits(**limits))
    assert isinstance(caught.value, WorkflowError)
    assert caught.value.code.startswith("wasm-")


async def test_text_that_is_none_is_refused(runtime: Runtime) -> None:
    with pytest.raises(BinaryInvalidError, match="error creating wasmtime module"):
        await runtime.compile(b"(module (oops))", text=True)


async def test_sizes_equal_to_their_limits_are_admitted(runtime: Runtime) -> None:
    compressed = brotli.compress(BINARY)
    limits = CompileLimits(compressed_bytes=len(compressed), binary_bytes=len(BINARY))
    await runtime.compile(compressed, limits=limits)


async def test_a_module_that_is_cached_must_still_be_within_the_limits(runtime: Runtime) -> None:
    compressed = brotli.compress(BINARY)
    await runtime.compile(compressed)
    with pytest.raises(BinaryTooLargeError):
        await runtime.compile(compressed, limits=CompileLimits(binary_bytes=len(BINARY) - 1))
    with pytest.raises(CompressedBinaryTooLargeError):
        await runtime.compile(compressed, limits=CompileLimits(compressed_bytes=len(compressed) - 1))


async def test_a_legacy_dag_is_recognised_and_never_executed(runtime: Runtime, guests: Any) -> None:
    module = await runtime.compile(
        b'(module (import "env" "sendResponse" (func)) (memory (export "memory") 1))', text=True
    )
    assert module.is_legacy_dag
    with pytest.raises(LegacyDagError, match="cannot execute a legacy dag workflow"):
        await guests.executor(runtime)(module)
    assert runtime.stats().zygotes == ()


async def test_a_compilation_that_takes_too_long_is_ended(runtime: Runtime) -> None:
    await runtime.compile(BINARY)
    with pytest.raises(CompileLimitError, match=r"did not compile in 0\.05 s") as caught:
        await runtime.compile(text_with(BOMB), text=True, limits=CompileLimits(wall_seconds=0.05))
    assert caught.value.hint
    assert compile_children(runtime) == []


async def test_a_compilation_that_takes_too_much_processor_time_is_ended(runtime: Runtime) -> None:
    with pytest.raises(CompileLimitError, match="did not compile in 1 s of processor time"):
        await runtime.compile(text_with(BOMB * 5), text=True, limits=CompileLimits(cpu_seconds=1))


async def test_a_compilation_that_takes_too_much_memory_is_ended(runtime: Runtime) -> None:
    with pytest.raises(CompileLimitError, match="memory"):
        await runtime.compile(
            brotli.compress(bytes(1 << 29), quality=1), limits=CompileLimits(memory_bytes=1 << 28, binary_bytes=1 << 30)
        )
    await runtime.compile(BINARY)


async def test_a_compiled_module_that_is_too_large_is_refused(runtime: Runtime) -> None:
    with pytest.raises(CompileLimitError, match="the compiled module has more than 4096 bytes"):
        await runtime.compile(BINARY, limits=CompileLimits(output_bytes=4096))


NewRuntime = Callable[..., Runtime]


def compile_children(runtime: Runtime) -> list[int]:
    root = runtime.stats().root
    return [int(pid) for pid in Path(f"/proc/{root}/task/{root}/children").read_text().split()]


async def confined_child(runtime: Runtime) -> int:
    """Return the compile child once it is confined."""
    async with asyncio.timeout(10):
        while True:
            for pid in compile_children(runtime):
                if "Seccomp:\t2" in status_of(pid):
                    return pid
            await asyncio.sleep(0)  # The driver says nothing of a child until it reports.


async def test_a_cancelled_compilation_is_ended(runtime: Runtime) -> None:
    await runtime.compile(BINARY)
    task = asyncio.create_task(runtime.compile(text_with(BOMB), text=True))
    await confined_child(runtime)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert compile_children(runtime) == []


async def test_a_binary_is_compiled_once_however_many_ask_for_it(runtime: Runtime, tmp_path: Path) -> None:
    modules = await asyncio.gather(*(runtime.compile(BINARY) for _ in range(8)))
    assert len({id(module) for module in modules}) == 1
    assert len(list((tmp_path / "modules").iterdir())) == 2


async def test_a_binary_is_not_compiled_again_by_the_next_driver(tmp_path: Path, new_runtime: NewRuntime) -> None:
    found = []
    for _ in range(2):
        runtime = new_runtime()
        await runtime.compile(BINARY)
        found.append({path.name: path.stat().st_ino for path in (tmp_path / "modules").iterdir()})
        await runtime.close()
    assert found[0] == found[1]


async def test_text_and_binary_of_the_same_bytes_are_two_things(runtime: Runtime) -> None:
    await runtime.compile(TEXT.encode(), text=True)
    with pytest.raises(NotBrotliError):
        await runtime.compile(TEXT.encode())


async def test_the_cache_is_private(runtime: Runtime, tmp_path: Path) -> None:
    await runtime.compile(BINARY)
    assert stat.S_IMODE((tmp_path / "modules").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "modules").iterdir()} == {0o600}


async def test_a_disk_that_is_full_is_not_the_fault_of_the_binary(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: ModuleCache) -> tuple[int, Path]:
        return os.open("/dev/full", os.O_WRONLY), tmp_path / "none"

    with monkeypatch.context() as patch:
        patch.setattr(ModuleCache, "new_file", full)
        with pytest.raises(RuntimeLostError, match="ended with status 1 and no report"):
            await runtime.compile(BINARY)
    await runtime.compile(BINARY)


async def test_a_compiled_module_that_was_changed_since_is_not_mapped(
    runtime: Runtime, tmp_path: Path, guests: Any
) -> None:
    module = await runtime.compile(BINARY)
    (path,) = (tmp_path / "modules").glob("*.bin")
    corrupt(path)
    with pytest.raises(RuntimeLostError, match=r"the compiled module has digest [0-9a-f]{64}, expected"):
        await guests.executor(runtime)(module)


async def test_a_module_that_was_released_is_not_executed(runtime: Runtime, guests: Any) -> None:
    module = await runtime.compile(BINARY)
    runtime.release(module)
    with pytest.raises(ValueError, match="has been released"):
        await guests.executor(runtime)(module)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707])
def test_a_cache_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules").chmod(mode)
    with pytest.raises(ConfigError, match="a directory of this user alone") as caught:
        Runtime(tmp_path / "modules")
    assert caught.value.hint is not None
    assert "chmod 700" in caught.value.hint


def test_a_cache_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "modules").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError):
        Runtime(tmp_path / "modules")


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def open_to_others(path: Path) -> None:
    path.chmod(0o666)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize("harm", [corrupt, truncate, open_to_others, replace_by_link, Path.unlink])
@pytest.mark.parametrize("suffix", ["*.bin", "*.facts"])
async def test_a_file_that_is_not_as_it_was_written_is_not_used(
    tmp_path: Path, guests: Any, new_runtime: NewRuntime, harm: Callable[[Path], None], suffix: str
) -> None:
    directory = tmp_path / "modules"
    for number in range(2):
        runtime = new_runtime()
        module = await runtime.compile(BINARY)
        assert (await guests.executor(runtime)(module)).kind is EndingKind.RETURN
        await runtime.close()
        if number == 0:
            (path,) = directory.glob(suffix)
            harm(path)
    (path,) = directory.glob("*.bin")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem


async def test_the_cache_is_bounded_and_the_oldest_use_goes_first(tmp_path: Path, new_runtime: NewRuntime) -> None:
    directory = tmp_path / "modules"
    runtime = new_runtime(cache_entries=2)
    names = []
    for number in range(3):
        await runtime.compile(text_with(f"(func (result i32) (i32.const {number}))"), text=True)
        (new,) = {path.name for path in directory.glob("*.bin")} - set(names)
        names.append(new)
        if number == 1:  # The first one is used again, so that the second is the oldest.
            os.utime(directory / names[1], (1, 1))
    assert {path.name for path in directory.glob("*.bin")} == {names[0], names[2]}
    assert len(list(directory.glob("*.facts"))) == 2


async def test_an_evicted_module_goes_on_working_for_who_has_it(
    tmp_path: Path, guests: Any, new_runtime: NewRuntime
) -> None:
    runtime = new_runtime(cache_entries=1)
    first = await runtime.compile(BINARY)
    await runtime.compile(text_with("(func (result i32) (i32.const 1))"), text=True)
    assert len(list((tmp_path / "modules").glob("*.bin"))) == 1
    assert (await guests.executor(runtime)(first)).kind is EndingKind.RETURN


async def test_two_drivers_share_a_cache(guests: Any, new_runtime: NewRuntime) -> None:
    runtimes = [new_runtime() for _ in range(2)]
    modules = await asyncio.gather(*(runtime.compile(BINARY) for runtime in runtimes))
    for runtime, module in zip(runtimes, modules, strict=True):
        assert (await guests.executor(runtime)(module)).kind is EndingKind.RETURN


async def test_a_compile_child_has_no_file_but_its_own(runtime: Runtime, tmp_path: Path) -> None:
    await runtime.compile(BINARY)
    task = asyncio.create_task(runtime.compile(text_with(BOMB), text=True))
    pid = await confined_child(runtime)
    status, score, files = facts_of(pid)
    task.cancel()
    assert "NoNewPrivs:\t1" in status
    assert score == "1000\n"
    # The compiler's own eventfd and epoll aside: its input, its output, where errors are said, its report.
    names = [name.removeprefix(str(tmp_path)).split(":")[0] for name in files if not name.startswith("anon_inode")]
    assert [name[:14] for name in names] == ["/memfd", "/modules/.new-", "pipe", "socket"]


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def facts_of(pid: int) -> tuple[str, str, list[str]]:
    process = Path(f"/proc/{pid}")
    files = sorted(os.readlink(path) for path in (process / "fd").iterdir())
    return status_of(pid), (process / "oom_score_adj").read_text(), files
