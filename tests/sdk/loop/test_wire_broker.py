"""The broker's table, between two sides that are joined by hand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from innkeeper_sdk.errors import ConfigError, ConflictError, UnavailableError
from innkeeper_sdk.loop.broker import Broker, Served
from innkeeper_sdk.proto.goplugin.broker_pb2 import ConnInfo

EXPIRY = 0.4
PATIENCE = 30.0
Until = Callable[[Callable[[], bool]], Awaitable[None]]


def greeter(text: bytes) -> grpc.GenericRpcHandler[bytes, bytes]:
    async def greet(request: bytes, context: object) -> bytes:
        return text

    method = grpc.unary_unary_rpc_method_handler(greet)
    return grpc.method_handlers_generic_handler("test.Greeter", {"Greet": method})


def serving(text: bytes):  # type: ignore[no-untyped-def] # a closure for one server
    return lambda server: server.add_generic_rpc_handlers((greeter(text),))


async def greet(channel: grpc.aio.Channel) -> bytes:
    try:
        answer: bytes = await channel.unary_unary("/test.Greeter/Greet")(b"", timeout=PATIENCE)
        return answer
    finally:
        await channel.close()


async def carry(one: Broker, other: Broker) -> None:
    while (info := await one.outgoing()) is not None:
        other.receive(ConnInfo.FromString(info.SerializeToString()))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "s"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
async def pair(directory: Path) -> AsyncIterator[tuple[Broker, Broker]]:
    one, other = Broker(directory, expiry=PATIENCE), Broker(directory, expiry=PATIENCE)
    tasks = [asyncio.create_task(carry(one, other)), asyncio.create_task(carry(other, one))]
    yield one, other
    await asyncio.gather(one.close(), other.close())
    await asyncio.gather(*tasks)


@pytest.fixture
async def broker(directory: Path) -> AsyncIterator[Broker]:
    alone = Broker(directory, expiry=PATIENCE)
    yield alone
    await alone.close()


@pytest.fixture
async def hasty(directory: Path) -> AsyncIterator[Broker]:
    alone = Broker(directory, expiry=EXPIRY)
    yield alone
    await alone.close()


async def announced(broker: Broker, text: bytes = b"x") -> tuple[ConnInfo, Served]:
    """Serve something, and take the message for the peer out of the broker's hands."""
    served = await broker.accept_and_serve(broker.next_id(), serving(text))
    info = await broker.outgoing()
    assert info is not None
    return info, served


async def test_numbers_begin_at_1_and_are_each_sides_own(pair: tuple[Broker, Broker]) -> None:
    one, other = pair

    assert [one.next_id(), one.next_id(), other.next_id()] == [1, 2, 1]


async def test_what_one_side_serves_the_other_dials_in_both_directions(pair: tuple[Broker, Broker]) -> None:
    one, other = pair
    await one.accept_and_serve(1, serving(b"one"))
    await other.accept_and_serve(1, serving(b"other"))

    assert await greet(await other.dial(1)) == b"one"
    assert await greet(await one.dial(1)) == b"other"


async def test_a_dial_may_come_before_the_announcement(pair: tuple[Broker, Broker]) -> None:
    one, other = pair
    dialling = asyncio.create_task(other.dial(3))
    await asyncio.sleep(0)

    await one.accept_and_serve(3, serving(b"late"))

    assert await greet(await dialling) == b"late"


async def test_the_server_listens_before_it_is_announced(broker: Broker) -> None:
    info, _ = await announced(broker)

    async with grpc.aio.insecure_channel(f"unix:{info.address}") as channel:
        assert await channel.unary_unary("/test.Greeter/Greet")(b"", timeout=PATIENCE) == b"x"
    assert (info.network, info.HasField("knock")) == ("unix", False)


async def test_a_dial_without_an_announcement_ends_at_the_expiry(hasty: Broker) -> None:
    with pytest.raises(UnavailableError, match=r"did not say where broker id 9 is served.*within 0.4 s"):
        await hasty.dial(9)


async def test_an_announcement_that_nobody_dials_is_forgotten(hasty: Broker, until: Until) -> None:
    info, _ = await announced(hasty)
    hasty.receive(info)
    await until(lambda: not hasty._slots)

    with pytest.raises(UnavailableError, match="did not say"):
        await hasty.dial(info.service_id)


async def test_forgotten_slots_leave_the_table_empty(hasty: Broker, until: Until) -> None:
    for number in range(50):
        hasty.receive(ConnInfo(service_id=number, network="unix", address="/nowhere"))
    with pytest.raises(UnavailableError):
        await hasty.dial(60)

    assert hasty._slots
    await until(lambda: not hasty._slots)


async def test_a_second_announcement_of_a_number_is_dropped(broker: Broker) -> None:
    info, _ = await announced(broker, b"first")
    broker.receive(ConnInfo(service_id=info.service_id, network="unix", address=info.address))
    broker.receive(ConnInfo(service_id=info.service_id, network="unix", address="/nowhere"))

    assert await greet(await broker.dial(info.service_id)) == b"first"


async def test_a_number_is_dialled_once(broker: Broker) -> None:
    info, _ = await announced(broker)
    broker.receive(info)
    channel = await broker.dial(info.service_id)

    with pytest.raises(ConflictError, match="dialled before"):
        await broker.dial(info.service_id)
    broker.receive(info)
    with pytest.raises(ConflictError, match="dialled before"):
        await broker.dial(info.service_id)
    await channel.close()


async def test_a_number_that_is_being_dialled_is_not_dialled_again(hasty: Broker) -> None:
    first = asyncio.create_task(hasty.dial(5))
    await asyncio.sleep(0)

    with pytest.raises(ConflictError):
        await hasty.dial(5)
    with pytest.raises(UnavailableError):
        await first


async def test_a_dial_that_is_cancelled_does_not_harm_the_broker(broker: Broker) -> None:
    dialling = asyncio.create_task(broker.dial(5))
    await asyncio.sleep(0)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling

    broker.receive(ConnInfo(service_id=5, network="unix", address="/nowhere"))
    info, _ = await announced(broker)
    broker.receive(info)
    assert await greet(await broker.dial(info.service_id)) == b"x"


async def test_200_connections_at_once_do_not_mix(directory: Path) -> None:
    one, other = Broker(directory, expiry=PATIENCE), Broker(directory, expiry=PATIENCE)
    tasks = [asyncio.create_task(carry(one, other)), asyncio.create_task(carry(other, one))]

    async def round_trip(number: int) -> bytes:
        served = await one.accept_and_serve(number, serving(str(number).encode()))
        answer = await greet(await other.dial(number))
        await served.close()
        return answer

    answers = await asyncio.gather(*(round_trip(one.next_id()) for _ in range(200)))

    assert answers == [str(number).encode() for number in range(1, 201)]
    await asyncio.gather(one.close(), other.close(), *tasks)


async def test_the_end_of_the_stream_ends_waiting_dials_at_once(broker: Broker) -> None:
    dialling = asyncio.create_task(broker.dial(5))
    await asyncio.sleep(0)

    broker.lost()

    with pytest.raises(UnavailableError, match="the stream to the peer has ended"):
        await asyncio.wait_for(dialling, PATIENCE / 4)
    assert broker.is_lost


async def test_after_the_end_of_the_stream_nothing_is_dialled_served_or_sent(broker: Broker, directory: Path) -> None:
    broker.lost()
    broker.lost()
    broker.receive(ConnInfo(service_id=1, network="unix", address="/nowhere"))

    with pytest.raises(UnavailableError):
        await broker.dial(1)
    with pytest.raises(UnavailableError):
        await broker.accept_and_serve(1, serving(b"x"))
    assert await broker.outgoing() is None
    assert os.listdir(directory) == []


async def test_what_is_connected_outlives_the_stream(pair: tuple[Broker, Broker]) -> None:
    one, other = pair
    await one.accept_and_serve(1, serving(b"x"))
    channel = await other.dial(1)

    other.lost()

    assert await greet(channel) == b"x"


async def test_whoever_waits_for_messages_learns_of_the_end(broker: Broker) -> None:
    waiting = asyncio.create_task(broker.outgoing())
    await asyncio.sleep(0)

    broker.lost()

    assert await asyncio.wait_for(waiting, PATIENCE / 4) is None


@pytest.mark.parametrize(
    ("network", "address"), [("tcp", "127.0.0.1:1"), ("unix", "relative"), ("unix", ""), ("", "/x"), ("unix", "@x")]
)
async def test_what_is_not_an_absolute_unix_socket_is_not_dialled(broker: Broker, network: str, address: str) -> None:
    broker.receive(ConnInfo(service_id=1, network=network, address=address))

    with pytest.raises(UnavailableError, match="not served on a unix socket"):
        await broker.dial(1)


@pytest.mark.parametrize("address", ["/run/docker.sock", "{}", "{}/../x.sock", "{}-other/x.sock", "/"])
async def test_a_peer_that_was_given_a_directory_is_dialled_nowhere_else(directory: Path, address: str) -> None:
    broker = Broker(directory, within=directory, expiry=PATIENCE)
    address = address.format(directory)
    broker.receive(ConnInfo(service_id=1, network="unix", address=address))

    with pytest.raises(UnavailableError, match="not served in the directory of PLUGIN_UNIX_SOCKET_DIR") as failed:
        await broker.dial(1)

    assert address not in str(failed.value)
    await broker.close()


async def test_a_peer_that_was_given_a_directory_is_dialled_there_and_deeper(directory: Path) -> None:
    deeper = directory / "plugin-1"
    deeper.mkdir(mode=0o700)
    peer, host = Broker(deeper), Broker(directory, within=directory, expiry=PATIENCE)
    info, _ = await announced(peer)
    host.receive(info)

    assert await greet(await host.dial(info.service_id)) == b"x"
    await asyncio.gather(peer.close(), host.close())


async def test_a_socket_where_nobody_listens_is_told_without_its_path(hasty: Broker, directory: Path) -> None:
    hasty.receive(ConnInfo(service_id=1, network="unix", address=str(directory / "nobody")))

    with pytest.raises(UnavailableError, match="nobody answers") as failed:
        await hasty.dial(1)

    assert str(directory) not in str(failed.value)


async def test_a_path_that_is_too_long_is_not_dialled(broker: Broker) -> None:
    broker.receive(ConnInfo(service_id=1, network="unix", address="/" + "x" * 107))

    with pytest.raises(ConfigError, match="too long"):
        await broker.dial(1)


async def test_number_0_is_never_dialled(broker: Broker) -> None:
    broker.receive(ConnInfo(service_id=0, network="unix", address="/x"))

    with pytest.raises(UnavailableError, match="stands for nothing"):
        await broker.dial(0)


async def test_a_flood_of_announcements_is_bounded_and_told_once(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("innkeeper_sdk.loop.broker._MAX_SLOTS", 10)
    for number in range(1, 30):
        broker.receive(ConnInfo(service_id=number, network="unix", address="/x"))

    assert len(broker._slots) == 10
    assert caplog.text.count("broker ids are dropped") == 1


async def test_a_number_is_served_once(broker: Broker) -> None:
    await broker.accept_and_serve(1, serving(b"x"))

    with pytest.raises(ConflictError, match="served already"):
        await broker.accept_and_serve(1, serving(b"y"))


async def test_closing_what_is_served_stops_it_and_removes_its_socket(hasty: Broker, directory: Path) -> None:
    info, served = await announced(hasty)
    assert os.listdir(directory) == [os.path.basename(info.address)]

    await asyncio.gather(served.close(), served.close())

    assert os.listdir(directory) == []
    hasty.receive(info)
    with pytest.raises(UnavailableError, match="nobody answers"):
        await hasty.dial(info.service_id)


async def test_services_that_cannot_be_registered_leave_nothing(broker: Broker, directory: Path) -> None:
    def fails(server: grpc.aio.Server) -> None:
        raise KeyError("no service")

    with pytest.raises(KeyError):
        await broker.accept_and_serve(1, fails)

    assert os.listdir(directory) == []
    await broker.accept_and_serve(1, serving(b"x"))


async def test_a_directory_that_is_gone_is_told(broker: Broker, directory: Path) -> None:
    os.rmdir(directory)

    with pytest.raises(UnavailableError, match="socket of broker id 1 cannot be made") as failed:
        await broker.accept_and_serve(1, serving(b"x"))

    assert str(directory) not in str(failed.value)
    os.mkdir(directory, mode=0o700)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
async def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    open_to_others = tmp_path / "open"
    open_to_others.mkdir()
    open_to_others.chmod(mode)

    with pytest.raises(ConfigError, match="not private"):
        Broker(open_to_others)


async def test_a_directory_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not there"):
        Broker(tmp_path / "missing")


async def test_a_link_to_a_private_directory_is_refused(tmp_path: Path, directory: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(directory)

    with pytest.raises(ConfigError, match="not private"):
        Broker(link)


def open_things(directory: Path) -> tuple[int, int, int]:
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), len(os.listdir(directory))


async def test_a_hundred_rounds_leak_no_descriptor_thread_or_socket(directory: Path, until: Until) -> None:
    async def once() -> None:
        one, other = Broker(directory, expiry=PATIENCE), Broker(directory, expiry=PATIENCE)
        tasks = [asyncio.create_task(carry(one, other)), asyncio.create_task(carry(other, one))]
        await one.accept_and_serve(1, serving(b"x"))
        assert await greet(await other.dial(1)) == b"x"
        await asyncio.gather(one.close(), other.close(), *tasks)

    for _ in range(5):
        await once()
    before = open_things(directory)
    for _ in range(100):
        await once()

    # gRPC ends connections a moment after it was told to.
    await until(lambda: open_things(directory)[0] <= before[0])
    assert open_things(directory)[2] == 0
    assert open_things(directory)[1] <= before[1] + 4
