"""The parent's end of an enclave: what happens when it is over, and between two Initialises."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from pathlib import Path

import pytest

from innkeeper_confidential_workflows.launcher.errors import LaunchError
from innkeeper_confidential_workflows.launcher.messages import MAX_PACKET_BYTES, send_started
from innkeeper_confidential_workflows.process.enclave import Enclave
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig
from innkeeper_sdk.capability import CapabilityError, ErrorCode
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from tests.plugins.confidential_workflows.enclave.enclave_world import (
    Guest,
    World,
    booted,
    hello,
    value_result,
    work,
)

LOGGER = logging.getLogger("tests.process")


async def waiting_guest(world: World) -> asyncio.Task[sdk.ExecutionResult]:
    """Return an execution that waits for its host."""
    asked = asyncio.Event()

    async def never(_: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        asked.set()
        return await asyncio.get_running_loop().create_future()

    world.host.on_capability = never
    guest = Guest().capability(sdk.CapabilityRequest(id="a@1.0.0", method="m", callback_id=1))
    running = asyncio.create_task(world.run(work(world.host.add(guest.binary()))))
    async with asyncio.timeout(30):
        await asked.wait()
    return running


@pytest.mark.parametrize("victim", ["monitor", "launcher"])
async def test_when_the_enclave_dies_what_runs_fails_and_its_maker_is_told_once(
    tmp_path: Path, victim: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with booted(tmp_path) as world:
        running = await waiting_guest(world)
        os.kill(world.monitor if victim == "monitor" else world.launcher.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            with pytest.raises(CapabilityError) as caught:
                await running
            await world.gone.wait()
        assert caught.value.error_code is ErrorCode.Unavailable
        with pytest.raises(CapabilityError, match="the enclave is over"):
            await world.enclave.execute(b"", 1)
        with pytest.raises(LaunchError, match="is over"):
            await world.enclave.boot(world.host.config.encode())
    assert caplog.text.count("this process ends, and another one with a new enclave takes its place") == 1


async def test_a_later_initialise_finds_the_enclave_booted(tmp_path: Path) -> None:
    async with booted(tmp_path) as world:
        await world.enclave.boot(world.host.config.encode())
        assert await world.run(work(world.host.add(hello()))) == value_result("hello")


async def test_another_configuration_needs_another_enclave(tmp_path: Path) -> None:
    async with booted(tmp_path) as world:
        other = EnclaveConfig(host_key=bytes(32), vault_key=bytes(32)).encode()
        with pytest.raises(LaunchError, match="another configuration"):
            await world.enclave.boot(other)


async def test_without_an_initialise_the_enclaves_questions_are_refused(tmp_path: Path) -> None:
    async with booted(tmp_path) as world:
        world.enclave.registry = None
        error = await world.failure(work(hello()))
        assert error.error_code is ErrorCode.Unavailable
        assert "not initialised" in error.message


async def test_a_request_that_no_frame_holds_is_refused_and_the_next_one_runs(tmp_path: Path) -> None:
    async with booted(tmp_path) as world:
        with pytest.raises(CapabilityError) as caught:
            await world.enclave.execute(bytes(40 << 20), 10)
        assert caught.value.error_code is ErrorCode.InvalidArgument
        assert await world.run(work(world.host.add(hello()))) == value_result("hello")


async def test_closing_fails_what_runs(tmp_path: Path) -> None:
    async with booted(tmp_path) as world:
        running = await waiting_guest(world)
        await world.enclave.close()
        with pytest.raises(CapabilityError, match="the enclave is over"):
            await running
        assert not world.gone.is_set()


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


async def booting(theirs: socket.socket, ours: socket.socket) -> tuple[Enclave, asyncio.Task[None]]:
    """Return a parent whose boot request has arrived at a launcher that is played."""
    enclave = Enclave(ours, LOGGER, on_gone=lambda: None)
    task = asyncio.create_task(enclave.boot(EnclaveConfig(host_key=bytes(32), vault_key=bytes(32)).encode()))
    await asyncio.to_thread(theirs.recv, MAX_PACKET_BYTES)
    return enclave, task


async def test_a_launcher_that_ends_before_the_boot_is_said_so() -> None:
    ours, theirs = pair()
    enclave, task = await booting(theirs, ours)
    theirs.close()
    with pytest.raises(LaunchError, match="the launcher has ended"):
        await task
    await enclave.close()


@pytest.mark.parametrize("packet", [b"nonsense", b"\xa0"])
async def test_a_launcher_that_answers_nonsense_is_said_so(packet: bytes) -> None:
    ours, theirs = pair()
    with theirs:
        enclave, task = await booting(theirs, ours)
        theirs.send(packet)
        with pytest.raises(LaunchError, match="no stream"):
            await task
    await enclave.close()


async def test_an_enclave_that_ends_in_its_boot_is_said_so() -> None:
    ours, theirs = pair()
    with theirs:
        enclave, task = await booting(theirs, ours)
        stream, other = socket.socketpair()
        with stream:
            send_started(theirs, "i-INSECURE-SIM-x", stream)
        other.close()
        with pytest.raises(LaunchError, match="has not booted: it has ended"):
            await task
    await enclave.close()


async def test_a_document_that_is_none_is_no_boot() -> None:
    from innkeeper_confidential_workflows.enclave.frames import Booted, encode

    ours, theirs = pair()
    with theirs:
        enclave, task = await booting(theirs, ours)
        stream, other = socket.socketpair()
        with stream:
            send_started(theirs, "i-INSECURE-SIM-x", stream)
        with other:
            other.sendall(encode(Booted(document=b"document")))
            with pytest.raises(LaunchError, match="malformed"):
                await task
    await enclave.close()
