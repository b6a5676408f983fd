"""Fetching, hashing and keeping binaries."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from innkeeper_confidential_workflows.enclave.binaries import Binaries
from innkeeper_confidential_workflows.enclave.frames import Chunk
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin
from innkeeper_wasm.driver import BinaryInvalidError, CompileLimits

LIMIT = 1000


class Link:
    """Reads from bytes, a hundred at a time, and may say another size than there is."""

    def __init__(self, **binaries: bytes) -> None:
        self.binaries = binaries
        self.size: int | None = None
        self.offsets: list[int] = []
        self.endless = False
        self.gate: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def read(self, locator: str, offset: int) -> Chunk:
        self.offsets.append(offset)
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        binary = self.binaries[locator]
        data = bytes(100) if self.endless else binary[offset : offset + 100]
        return Chunk(id=1, data=data, size=len(binary) if self.size is None else self.size)


class Module:
    def __init__(self, binary: bytes) -> None:
        self.binary = binary

    def require_runnable(self) -> None:
        if self.binary.startswith(b"legacy"):
            raise BinaryInvalidError("a legacy one")


class Runtime:
    """Compiles everything but what begins with ``bad``."""

    def __init__(self) -> None:
        self.compiled: list[bytes] = []
        self.released: list[bytes] = []

    async def compile(self, binary: bytes, *, limits: CompileLimits) -> Module:
        self.compiled.append(binary)
        if binary.startswith(b"bad"):
            raise BinaryInvalidError("a bad one")
        return Module(binary)

    def release(self, module: Module) -> None:
        self.released.append(module.binary)


def binaries(link: Link, runtime: Runtime, capacity: int = 2) -> Any:
    limits = CompileLimits(compressed_bytes=LIMIT)
    return Binaries(link, runtime, limits=limits, capacity=capacity)  # type: ignore[arg-type] # the parts that are used


def sha256(binary: bytes) -> bytes:
    return hashlib.sha256(binary).digest()


async def use(made: Any, locator: str, binary: bytes) -> bytes:
    async with made.use(locator, sha256(binary)) as module:
        found: bytes = module.binary
        return found


async def refusal(made: Any, locator: str, binary: bytes) -> CapabilityError:
    with pytest.raises(CapabilityError) as caught:
        await use(made, locator, binary)
    return caught.value


async def test_a_binary_is_read_part_by_part_and_compiled_once() -> None:
    binary = bytes(range(250))
    link, runtime = Link(a=binary), Runtime()
    made = binaries(link, runtime)
    assert await use(made, "a", binary) == binary
    assert await use(made, "a", binary) == binary
    assert link.offsets == [0, 100, 200]
    assert runtime.compiled == [binary]


async def test_what_has_another_digest_is_never_compiled() -> None:
    link, runtime = Link(a=b"other"), Runtime()
    error = await refusal(binaries(link, runtime), "a", b"wanted")
    assert "binary hash mismatch" in error.message
    assert error.error_code is ErrorCode.FailedPrecondition
    assert runtime.compiled == []


@pytest.mark.parametrize("size", [3, 0, 50], ids=["less", "none", "more"])
async def test_a_size_that_is_a_lie_brings_no_other_binary(size: int) -> None:
    link, runtime = Link(a=b"0123456789"), Runtime()
    link.size = size
    assert await use(binaries(link, runtime), "a", b"0123456789") == b"0123456789"
    assert runtime.compiled == [b"0123456789"]


async def test_a_binary_as_large_as_the_limit_is_taken() -> None:
    binary = bytes(LIMIT)
    assert await use(binaries(Link(a=binary), Runtime()), "a", binary) == binary


async def test_a_larger_one_is_refused_after_its_first_part() -> None:
    binary = bytes(LIMIT + 1)
    link, runtime = Link(a=binary), Runtime()
    error = await refusal(binaries(link, runtime), "a", binary)
    assert error.error_code is ErrorCode.LimitExceeded
    assert link.offsets == [0]
    assert runtime.compiled == []


async def test_reading_ends_at_the_limit_whatever_the_parent_goes_on_to_send() -> None:
    link, runtime = Link(a=b""), Runtime()
    link.endless, link.size = True, LIMIT
    made = binaries(link, runtime)
    assert "mismatch" in (await refusal(made, "a", b"x")).message
    assert len(link.offsets) == LIMIT // 100
    link.offsets.clear()
    link.size = LIMIT + 1
    assert (await refusal(made, "a", b"x")).error_code is ErrorCode.LimitExceeded


@pytest.mark.parametrize(("binary", "text", "released"), [(b"bad", "a bad one", 0), (b"legacy", "a legacy one", 1)])
async def test_what_is_not_admitted_is_the_authors_to_mend_and_is_not_kept(
    binary: bytes, text: str, released: int
) -> None:
    link, runtime = Link(a=binary), Runtime()
    made = binaries(link, runtime)
    for _ in range(2):
        error = await refusal(made, "a", binary)
        assert text in error.message
        assert error.origin is Origin.USER
    assert len(runtime.compiled) == 2
    assert len(runtime.released) == 2 * released


async def test_those_used_longest_ago_are_dropped_and_those_in_use_are_not() -> None:
    link, runtime = Link(a=b"a", b=b"b", c=b"c"), Runtime()
    made = binaries(link, runtime, capacity=2)
    async with made.use("a", sha256(b"a")):
        await use(made, "b", b"b")
        await use(made, "c", b"c")
        assert runtime.released == [b"b"]
    await use(made, "a", b"a")
    assert runtime.compiled == [b"a", b"b", b"c"]
    await use(made, "b", b"b")
    assert runtime.released == [b"b", b"c"]


async def test_more_than_are_kept_may_be_in_use() -> None:
    link, runtime = Link(a=b"a", b=b"b"), Runtime()
    made = binaries(link, runtime, capacity=1)
    async with made.use("a", sha256(b"a")), made.use("b", sha256(b"b")):
        assert runtime.released == []
    assert len(runtime.released) == 1


async def test_who_stops_waiting_for_a_fetch_stops_nobody_else() -> None:
    link, runtime = Link(a=b"a"), Runtime()
    link.gate = asyncio.Event()
    made = binaries(link, runtime)
    first, second = (asyncio.create_task(use(made, "a", b"a")) for _ in range(2))
    await link.asked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    link.gate.set()
    assert await second == b"a"
    assert runtime.compiled == [b"a"]


async def test_one_that_is_slow_to_come_holds_up_no_other() -> None:
    link, runtime = Link(a=b"a", b=b"b"), Runtime()
    made = binaries(link, runtime)
    link.gate = asyncio.Event()
    slow = asyncio.create_task(use(made, "a", b"a"))
    await link.asked.wait()
    gate, link.gate = link.gate, None
    assert await use(made, "b", b"b") == b"b"
    gate.set()
    assert await slow == b"a"
