"""What a driver takes from a process that may have been taken over: frames in turn and within limits, or the end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from innkeeper_wasm.driver import Ending, EndingKind, GuestLimits
from innkeeper_wasm.driver.channel import ControlChannel
from innkeeper_wasm.driver.children import Child, Children, open_child, signal_name
from innkeeper_wasm.driver.execution import Execution
from innkeeper_wasm.driver.output import ProcessOutput
from innkeeper_wasm.driver.root import RootProcess
from innkeeper_wasm.driver.zygote import Zygote, ZygoteKey
from innkeeper_wasm.runtime import control
from innkeeper_wasm.runtime.facts import BinaryFacts
from innkeeper_wasm.runtime.wire import FrameReader, Kind, Request, encode

LIMITS = GuestLimits(log_line_bytes=10, log_events_don=2, log_events_node=1, message_bytes=1000)
FINE = Ending(kind=EndingKind.EXIT)


class Peer:
    """A process that says what the test wants.

    Attributes:
        child: What the driver knows of the process.
        gave_up: Whether the driver has given its zygote up.
    """

    def __init__(self, host: Any, *, silent: bool = False) -> None:
        self.child = Child()
        self.gave_up = False
        self._stream: socket.socket | None = None
        request = Request(request=b"request", don_seed=1, node_seed=2, limits=LIMITS)
        self.execution = Execution(
            request,
            host,
            logger=logging.getLogger("test"),
            label="test",
            fork=self._fork,
            give_up=self._give_up,
            silent=silent,
        )
        deadline = asyncio.get_running_loop().time() + 10
        self.task = asyncio.create_task(self.execution.run(deadline))

    def _fork(self, descriptor: int) -> Child:
        self._stream = socket.socket(fileno=descriptor)
        self._stream.setblocking(False)
        return self.child

    def _give_up(self) -> None:
        self.gave_up = True
        self.child.ended(None)

    @property
    def stream(self) -> socket.socket:
        assert self._stream is not None
        return self._stream

    async def say(self, *frames: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.stream, b"".join(frames))

    async def hear(self) -> tuple[Kind, bytes]:
        reader = FrameReader(10_000)
        while (frame := reader.next()) is None:
            reader.feed(await asyncio.get_running_loop().sock_recv(self.stream, 10_000))
        return frame.kind, frame.payload

    def close(self) -> None:
        self.stream.close()
        self.child.ended(None)


MakePeer = Callable[..., Peer]


@pytest_asyncio.fixture
async def make_peer() -> AsyncIterator[MakePeer]:
    peers: list[Peer] = []

    def make(host: Any, *, silent: bool = False) -> Peer:
        peers.append(Peer(host, silent=silent))
        return peers[-1]

    yield make
    for peer in peers:
        peer.task.cancel()
        peer.close()
    await asyncio.gather(*(peer.task for peer in peers), return_exceptions=True)


async def test_a_well_behaved_process_gets_its_request_and_its_answers(make_peer: MakePeer, guests: Any) -> None:
    peer = make_peer(guests.Host(await_secrets=b"secrets"))
    kind, payload = await peer.hear()
    assert (kind, Request.unpack(payload).request) == (Kind.REQUEST, b"request")
    await peer.say(encode(Kind.AWAIT_SECRETS, struct.pack("<q", 7) + b"ids"))
    assert await peer.hear() == (Kind.OK, b"secrets")
    await peer.say(encode(Kind.AWAIT_SECRETS, struct.pack("<q", 6) + b"ids"))
    assert await peer.hear() == (Kind.ERROR, b"response buffer too small")
    await peer.say(encode(Kind.SEND_RESPONSE, b"result"))
    assert await peer.hear() == (Kind.OK, bytes(4))
    await peer.say(encode(Kind.OUTCOME, FINE.pack()))
    assert await peer.task == FINE
    assert peer.execution.response == b"result"


QUESTION = encode(Kind.NODE_TIME)
LINE = encode(Kind.LOG, struct.pack("<I", 1) + b"line")


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ([QUESTION, QUESTION], "a frame of kind NODE_TIME before the last one was answered"),
        ([QUESTION, LINE], "a frame of kind LOG before the last one was answered"),
        ([QUESTION, encode(Kind.OUTCOME, FINE.pack())], "a frame of kind OUTCOME before the last one was answered"),
        ([encode(Kind.OK)], "a frame of kind OK, which only a host sends"),
        ([encode(Kind.REQUEST)], "a frame of kind REQUEST, which only a host sends"),
        ([b"\0\0\0\0\0"], "a frame of 0 bytes"),
        ([b"\xff\xff\xff\xff\1"], "a frame of 4294967295 bytes"),
        ([b"\1\0\0\0\x63"], "a frame of unknown kind 99"),
        ([encode(Kind.OUTCOME, b"\xff\0\0\0\0")], "an outcome that is none: an outcome of kind 255"),
        ([encode(Kind.OUTCOME, b"")], "an outcome that is none: an outcome of 0 bytes"),
        ([encode(Kind.NOTICE, b"notice")] * 101, "more notices than an execution may"),
        ([LINE] * 4, "a log line beyond its limits"),
        ([encode(Kind.LOG, struct.pack("<I", 1) + bytes(11))], "a log line beyond its limits"),
        ([encode(Kind.LOG, b"abc")], "a log line beyond its limits"),
        ([encode(Kind.NOW, b"abc")], "a question for the time without its mode"),
        ([encode(Kind.AWAIT_CAPABILITIES, b"abc")], "an await without the capacity of its buffer"),
    ],
)
async def test_a_process_that_says_what_it_must_not_is_ended(
    make_peer: MakePeer, guests: Any, frames: list[bytes], text: str
) -> None:
    async def later(_: Any) -> int:
        await asyncio.Event().wait()
        return 0

    peer = make_peer(guests.Host(node_time=later))
    await peer.say(*frames)
    ending = await peer.task
    assert ending.kind is EndingKind.CRASHED
    assert ending.text.startswith(f"the execution was ended, because it sent {text}")


async def test_what_a_process_said_before_it_ended_counts(make_peer: MakePeer, guests: Any) -> None:
    peer = make_peer(guests.Host())
    await peer.say(encode(Kind.OUTCOME, FINE.pack()))
    peer.child.ended(9)
    assert await peer.task == FINE


@pytest.mark.parametrize(
    ("status", "signal", "text"),
    [
        (9, 9, "the execution was killed by SIGKILL"),
        (11, 11, "the execution was killed by SIGSEGV"),
        (40, 40, "the execution was killed by signal 40"),
        (0, 0, "the execution ended with status 0 without an outcome"),
        (3 << 8, 0, "the execution ended with status 3 without an outcome"),
    ],
)
async def test_a_process_that_ends_without_a_word_has_crashed(
    make_peer: MakePeer, guests: Any, status: int, signal: int, text: str
) -> None:
    peer = make_peer(guests.Host())
    peer.stream.close()
    peer.child.ended(status)
    assert await peer.task == Ending(kind=EndingKind.CRASHED, signal=signal, text=text)


async def test_an_answer_for_a_process_that_has_ended_goes_nowhere(make_peer: MakePeer, guests: Any) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def time(_: Any) -> int:
        asked.set()
        await answer.wait()
        return 1

    peer = make_peer(guests.Host(node_time=time))
    await peer.say(QUESTION)
    await asked.wait()
    peer.stream.close()
    answer.set()
    await asyncio.sleep(0)
    peer.child.ended(9)
    assert (await peer.task).signal == 9


async def test_notices_are_bounded(make_peer: MakePeer, guests: Any, caplog: pytest.LogCaptureFixture) -> None:
    peer = make_peer(guests.Host())
    await peer.say(*[encode(Kind.NOTICE, b"notice")] * 1000, encode(Kind.OUTCOME, FINE.pack()))
    assert (await peer.task).kind is EndingKind.CRASHED
    assert [record.message for record in caplog.records] == ["test: notice"] * 100


async def test_notices_that_nobody_may_read_are_dropped_and_counted(
    make_peer: MakePeer, guests: Any, caplog: pytest.LogCaptureFixture
) -> None:
    peer = make_peer(guests.Host(), silent=True)
    await peer.say(*[encode(Kind.NOTICE, b"notice")] * 1000, encode(Kind.OUTCOME, FINE.pack()))
    assert (await peer.task).kind is EndingKind.CRASHED
    assert not caplog.records


async def test_other_work_has_its_turn_while_a_process_floods(
    make_peer: MakePeer, guests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper_wasm.driver.execution._FRAMES_AT_ONCE", 10)
    host = guests.Host()
    peer = make_peer(host)
    seen: list[int] = []
    loop = asyncio.get_running_loop()

    def look() -> None:
        seen.append(peer.execution._notices)
        if not peer.task.done():
            loop.call_soon(look)

    look()
    await peer.say(*[encode(Kind.NOTICE, b"notice")] * 95, encode(Kind.OUTCOME, FINE.pack()))
    assert await peer.task == FINE
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 10


async def test_what_was_too_much_for_one_turn_counts_when_the_process_ends(
    make_peer: MakePeer, guests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper_wasm.driver.execution._FRAMES_AT_ONCE", 1)
    peer = make_peer(guests.Host())
    await peer.say(*[encode(Kind.NOTICE, b"notice")] * 5, encode(Kind.OUTCOME, FINE.pack()))
    peer.stream.close()
    peer.child.ended(0)
    assert await peer.task == FINE


async def test_a_process_that_asks_on_without_reading_is_ended(make_peer: MakePeer, guests: Any) -> None:
    answered = asyncio.Event()

    async def secrets(_: Any) -> bytes:
        answered.set()
        return bytes(5_000_000)

    peer = make_peer(guests.Host(await_secrets=secrets))
    question = encode(Kind.AWAIT_SECRETS, struct.pack("<q", 5_000_000))
    await peer.say(question)
    await answered.wait()
    await peer.say(question)
    ending = await peer.task
    assert ending.kind is EndingKind.CRASHED
    assert "before it had read the last answer" in ending.text


async def test_an_execution_ends_after_its_deadline_whatever_its_zygote_says(
    make_peer: MakePeer, guests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper_wasm.driver.execution._REAP_SECONDS", 0.01)
    peer = make_peer(guests.Host())
    monkeypatch.setattr(peer.execution, "_give_up", lambda: None)
    await asyncio.sleep(0)
    peer.execution._expire()
    async with asyncio.timeout(5):
        assert (await peer.task).kind is EndingKind.DEADLINE


@pytest.mark.parametrize("status", [10**30, 0x10000, -1, 0x137F, 0xFFFF])
async def test_an_end_that_is_none_is_refused(status: int) -> None:
    channel, theirs, _ = channels()
    children = Children(channel, os.getpid)
    child = children.fork("execute", ())
    with pytest.raises(ValueError, match="unexpected message 'exited'"):
        children.handle({"op": "exited", "id": 1, "status": status}, [])
    assert not child.exited.done()
    channel.close()
    theirs.close()


async def test_a_process_that_is_said_to_have_ended_is_killed() -> None:
    channel, theirs, _ = channels()
    children = Children(channel, os.getpid)
    children.fork("execute", ())
    process = subprocess.Popen(  # noqa: ASYNC220 - this thread must be its parent
        [sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE
    )
    try:
        children.handle({"op": "started", "id": 1, "pid": process.pid}, [])
        children.handle({"op": "exited", "id": 1, "status": 0}, [])
        assert process.wait(10) == -9
    finally:
        process.kill()
        process.communicate()
    channel.close()
    theirs.close()


async def test_output_that_floods_is_dropped_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    output = ProcessOutput(reading, logging.getLogger("test"))
    os.write(writing, b"A\n" * 20_000)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    os.close(writing)
    output.close()
    messages = [record.message for record in caplog.records]
    assert 200 <= len(messages) <= 210
    kept = len(messages) - 1
    assert messages == ["guest process: A"] * kept + [f"guest process: {20_000 - kept} more lines were dropped"]


async def test_output_is_logged_by_line_and_long_lines_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    output = ProcessOutput(reading, logging.getLogger("test"))
    os.write(writing, b"one\n\n" + b"x" * 5000 + b"\nlast")
    os.close(writing)
    output.close()
    assert [record.message for record in caplog.records] == [
        "guest process: one",
        "guest process: " + "x" * 4096,
        "guest process: last",
    ]


@pytest.mark.parametrize("used", [-1, 10**12])
async def test_a_zygote_that_claims_a_size_that_it_cannot_have_is_killed(used: int) -> None:
    zygote, killed = unforked_zygote()
    zygote._message({"op": "warm", "private_bytes": used, "layers": []}, [])
    assert killed == [True]
    assert not zygote.warm.done()
    zygote._lost()


async def test_the_size_of_a_zygote_is_what_the_kernel_says() -> None:
    zygote, killed = unforked_zygote()
    zygote._message({"op": "warm", "private_bytes": 1, "layers": []}, [])
    assert (zygote.private_bytes, killed) == (1, [])
    zygote.measure()
    assert zygote.private_bytes > 1_000_000
    zygote._lost()


def unforked_zygote() -> tuple[Zygote, list[bool]]:
    """Return a zygote that is this very process, and what collects attempts to kill it."""
    killed: list[bool] = []

    class Process(Child):
        def kill(self) -> None:
            killed.append(True)

    class Root:
        class children:
            @staticmethod
            def fork(op: str, descriptors: tuple[int, ...], **fields: Any) -> Child:
                for descriptor in descriptors:
                    os.close(descriptor)
                process = Process()
                process.pid = os.getpid()
                return process

    facts = SimpleNamespace(version_import="", call_capability_parameters=2, compiled_sha256="")
    root, found = cast(RootProcess, Root()), cast(BinaryFacts, facts)
    return Zygote(root, ZygoteKey(module="m", memory_bytes=1 << 20), 0, found), killed


async def test_a_process_that_cannot_be_killed_takes_its_zygote_along(
    make_peer: MakePeer, guests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper_wasm.driver.execution._REAP_SECONDS", 0.01)
    peer = make_peer(guests.Host())
    await asyncio.sleep(0)
    peer.execution._expire()
    assert (await peer.task).kind is EndingKind.DEADLINE
    assert peer.gave_up


def test_only_children_of_their_server_are_ever_killed() -> None:
    ours = subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        pidfd = open_child(ours.pid, os.getpid())
        assert pidfd is not None
        os.close(pidfd)
        assert open_child(ours.pid, os.getppid()) is None
        assert open_child(ours.pid, None) is None
        for foreign in (os.getpid(), os.getppid(), 1, 0, -1, 1 << 40):
            assert open_child(foreign, ours.pid) is None
    finally:
        ours.communicate()
    assert open_child(ours.pid, os.getpid()) is None


def channels() -> tuple[ControlChannel, socket.socket, list[Any]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    taken: list[Any] = []
    channel = ControlChannel(ours, lambda message, fds: taken.append((message, fds)), lambda: taken.append("closed"))
    return channel, theirs, taken


async def taken_after(taken: list[Any], count: int) -> None:
    async with asyncio.timeout(5):
        while len(taken) < count:  # noqa: ASYNC110 - the channel calls back, and that is what is tested
            await asyncio.sleep(0)


@pytest.mark.parametrize("data", [b"x", b"[]", b'{"op":1}', b"{}", b"[" * 60_000, b"\xff"])
async def test_a_channel_ends_at_the_first_message_that_is_none(data: bytes) -> None:
    channel, theirs, taken = channels()
    theirs.send(control.encode("fine"))
    theirs.send(data)
    await taken_after(taken, 2)
    assert taken == [({"op": "fine"}, []), "closed"]
    channel.close()
    theirs.close()


async def test_a_channel_sends_in_order_however_slow_the_other_end_is() -> None:
    channel, theirs, _ = channels()
    descriptors = [os.dup(0) for _ in range(400)]
    for number, descriptor in enumerate(descriptors):
        channel.send("message", (descriptor,), number=number, text="x" * 5000)
    loop = asyncio.get_running_loop()
    theirs.setblocking(False)
    for number in range(400):
        while True:
            try:
                received = control.receive(theirs)
                break
            except BlockingIOError:
                ready = asyncio.Event()
                loop.add_reader(theirs, ready.set)
                await ready.wait()
                loop.remove_reader(theirs)
        assert received is not None
        assert received[0]["number"] == number
        os.close(received[1][0])
    channel.close()
    theirs.close()
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


async def test_a_channel_that_is_closed_closes_what_it_was_given() -> None:
    channel, theirs, taken = channels()
    channel.close()
    descriptor = os.dup(0)
    channel.send("message", (descriptor,))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    theirs.close()
    assert taken == []


async def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(control.ControlError, match="at most 65536 fit a packet"):
        control.encode("x", text="x" * 65_536)


@pytest.mark.parametrize(
    "message",
    [
        {"op": "started", "id": 1, "pid": "1"},
        {"op": "started", "id": 2, "pid": 1},
        {"op": "exited", "id": 1},
        {"op": "exited", "id": [], "status": 0},
        {"op": "failed", "id": 1},
        {"op": "other", "id": 1},
        {"op": "started"},
    ],
)
async def test_messages_about_children_that_no_server_sends_are_refused(message: dict[str, Any]) -> None:
    channel, theirs, _ = channels()
    children = Children(channel, os.getpid)
    child = children.fork("execute", ())
    descriptor = os.dup(0)
    with pytest.raises(ValueError, match="unexpected message"):
        children.handle(message, [descriptor])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert not child.exited.done()
    channel.close()
    theirs.close()


async def test_a_child_that_could_not_be_forked_is_lost_with_its_reason() -> None:
    channel, theirs, _ = channels()
    children = Children(channel, os.getpid)
    child = children.fork("execute", ())
    children.handle({"op": "failed", "id": 1, "text": "fork: no"}, [])
    assert (await child.exited, child.problem, child.pid) == (None, "fork: no", None)
    assert len(children) == 0
    channel.close()
    theirs.close()


async def test_a_child_has_one_identity() -> None:
    channel, theirs, _ = channels()
    children = Children(channel, os.getpid)
    children.fork("execute", ())
    children.handle({"op": "started", "id": 1, "pid": 1}, [])
    with pytest.raises(ValueError, match="again as 2"):
        children.handle({"op": "started", "id": 1, "pid": 2}, [])
    children.lost()
    channel.close()
    theirs.close()


def test_signals_without_a_name_have_a_number() -> None:
    assert (signal_name(9), signal_name(40)) == ("SIGKILL", "signal 40")
