"""The broker: further connections between two peers, in both directions, named by numbers.

Rules of this module:

1. Whoever serves takes a number of its own, listens, and then says where (``ConnInfo``); the other side dials the
   number. The two sides' numbers are independent.
2. That message and the call that names the number travel on different streams, so either may be first: both create
   the number's slot.
3. What is not dialled within the expiry is forgotten, what is not announced within it cannot be dialled, and a number
   is dialled once.
4. The end of the stream ends all waiting; it does not end what is already connected.
5. Nothing here knows gRPC's stream: it takes what arrived (:meth:`Broker.receive`) and hands out what is to be sent
   (:meth:`Broker.outgoing`). ``innkeeper_sdk.loop.broker_streams`` joins the two; the sockets are those of
   ``innkeeper_sdk.loop.broker_sockets``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc.aio
from attrs import define

from innkeeper_sdk.errors import ConflictError, UnavailableError
from innkeeper_sdk.loop.broker_sockets import check_private, connect, listen
from innkeeper_sdk.loop.channels import new_server, unix_target
from innkeeper_sdk.proto.goplugin.broker_pb2 import ConnInfo

__all__ = ["EXPIRY_SECONDS", "Broker", "Served"]

# go-plugin's grpc_broker.go: how long a dial waits, and how long an announcement is kept.
EXPIRY_SECONDS: Final = 5.0

# Announcements kept at one time: a peer that sends more does not mean them.
_MAX_SLOTS: Final = 10_000

# What is under way when a server stops gets a moment: a connection that is cut makes gRPC log it at the other side.
_STOP_SECONDS: Final = 0.05

_LOGGER: Final = logging.getLogger(__name__)


@define(eq=False)
class _Slot:
    announced: asyncio.Future[ConnInfo | None]  # None: the stream has ended
    claimed: bool = False
    timer: asyncio.TimerHandle | None = None


class Served:
    """One server under one number.

    Attributes:
        id: The number.
        path: Its socket.
    """

    def __init__(self, number: int, path: Path, server: grpc.aio.Server, forget: Callable[[Served], None]) -> None:
        self.id = number
        self.path = path
        self._server = server
        self._forget = forget
        self._closing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """End its calls, those under way after a moment, stop it and remove its socket; idempotent."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await self._server.stop(_STOP_SECONDS)
        finally:
            self.path.unlink(missing_ok=True)
            self._forget(self)


class Broker:
    """Serve and dial numbered connections; one for each pair of peers, made where a loop runs.

    Args:
        directory: Where sockets are made: a directory of this user that nobody else may enter.
        within: Where the peer's sockets must be; None if they may be anywhere.
        expiry: Seconds that a dial waits, and that an announcement is kept.

    Raises:
        ConfigError: The directory is missing, or not private.
    """

    def __init__(self, directory: Path, *, within: Path | None = None, expiry: float = EXPIRY_SECONDS) -> None:
        check_private(directory)
        self._directory = directory
        self._within = within
        self._expiry = expiry
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._slots: dict[int, _Slot] = {}
        self._served: dict[int, Served] = {}
        self._outbox: asyncio.Queue[ConnInfo | None] = asyncio.Queue()
        self._lost = False
        self._flooded = False

    @property
    def is_lost(self) -> bool:
        """Whether the stream to the peer has ended."""
        return self._lost

    def next_id(self) -> int:
        """Return a number of this side that was not used yet; the first is 1."""
        return next(self._numbers)

    async def accept_and_serve(self, number: int, register: Callable[[grpc.aio.Server], None]) -> Served:
        """Serve under a number, and tell the peer once the server listens.

        Args:
            number: From :meth:`next_id`.
            register: Adds the services to the server.

        Returns:
            What is served; whoever asked closes it.

        Raises:
            ConflictError: The number is served already.
            UnavailableError: The stream to the peer has ended, or the socket cannot be made.
            ConfigError: The socket's path is too long.
        """
        self._check_stream()
        if number in self._served:
            raise ConflictError(f"broker id {number} is served already")
        path = self._directory / f"{number}-{secrets.token_hex(4)}.sock"
        target = unix_target(path)
        server = new_server()
        served = self._served[number] = Served(number, path, server, self._drop)
        try:
            register(server)
            listen(server, target, number)
            await server.start()
            self._check_stream()
        except BaseException:
            await served.close()
            raise
        self._tell(number, path)
        return served

    def announce(self, served: Served) -> int:
        """Announce what is served under one more number, since a number is dialled once; return that number.

        Raises:
            UnavailableError: The stream to the peer has ended.
        """
        self._check_stream()
        number = self.next_id()
        self._tell(number, served.path)
        return number

    async def dial(self, number: int) -> grpc.aio.Channel:
        """Connect to what the peer serves under a number.

        Args:
            number: The peer's.

        Returns:
            A connected channel; whoever asked closes it.

        Raises:
            ConflictError: The number was dialled before.
            UnavailableError: It is 0, which stands for nothing; the peer did not say in time where it is served, what
                it said cannot be dialled, or the stream to it has ended.
        """
        self._check_stream()
        if number == 0:
            raise UnavailableError("broker id 0 stands for nothing, so it cannot be dialled")
        slot = self._slots.get(number) or self._open(number)
        if slot.claimed:
            raise ConflictError(f"broker id {number} was dialled before; an id is dialled once")
        slot.claimed = True
        try:
            async with asyncio.timeout(self._expiry):
                info = await slot.announced
        except TimeoutError:
            raise UnavailableError(
                f"the peer did not say where broker id {number} is served", expected=f"within {self._expiry:g} s"
            ) from None
        finally:
            self._forget_later(number, slot)
        if info is None:
            raise _gone()
        return await connect(info, self._within, self._expiry)

    def receive(self, info: ConnInfo) -> None:
        """Take note of where the peer serves a number; a second announcement of it is dropped."""
        if self._lost:
            return
        number = info.service_id
        slot = self._slots.get(number)
        if slot is None:
            if len(self._slots) >= _MAX_SLOTS:
                if not self._flooded:
                    # Once: a peer that floods this table must not flood the log too.
                    _LOGGER.warning("broker ids are dropped: %d announcements wait to be dialled", _MAX_SLOTS)
                self._flooded = True
                return
            slot = self._open(number)
            self._forget_later(number, slot)
        if slot.announced.done():
            _LOGGER.debug("broker id %d was announced twice", number)
            return
        slot.announced.set_result(info)

    async def outgoing(self) -> ConnInfo | None:
        """Return the next message for the peer, None once the stream has ended."""
        if self._lost:
            return None
        return await self._outbox.get()

    def lost(self) -> None:
        """Take note that the stream to the peer has ended; idempotent."""
        if self._lost:
            return
        self._lost = True
        self._outbox.put_nowait(None)
        for slot in self._slots.values():
            if slot.timer is not None:
                slot.timer.cancel()
            if not slot.announced.done():
                slot.announced.set_result(None)
        self._slots.clear()

    async def close(self) -> None:
        """End the stream and everything that this side serves; idempotent."""
        self.lost()
        await asyncio.gather(*(served.close() for served in list(self._served.values())))

    def _tell(self, number: int, path: Path) -> None:
        self._outbox.put_nowait(ConnInfo(service_id=number, network="unix", address=os.fspath(path)))

    def _check_stream(self) -> None:
        if self._lost:
            raise _gone()

    def _open(self, number: int) -> _Slot:
        slot = self._slots[number] = _Slot(self._loop.create_future())
        return slot

    def _forget_later(self, number: int, slot: _Slot) -> None:
        if self._lost:
            return
        if slot.timer is not None:
            slot.timer.cancel()
        slot.timer = self._loop.call_later(self._expiry, self._slots.pop, number, None)

    def _drop(self, served: Served) -> None:
        self._served.pop(served.id, None)


def _gone() -> UnavailableError:
    return UnavailableError("the stream to the peer has ended")
