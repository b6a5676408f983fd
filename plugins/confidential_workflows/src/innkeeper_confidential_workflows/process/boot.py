"""Booting: from the helper's socket to a stream on which an enclave has shown itself.

Rules of this module:

1. The launcher is asked once, and has a time to answer.
2. The boot document must be a good one, over this configuration and nonce. That it is judged here is for whoever reads
   the log of a broken installation: what is released is decided elsewhere, by those who do not believe this process.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from datetime import UTC, datetime
from typing import Final

from innkeeper_confidential_workflows.attestation import (
    Attestation,
    AttestationError,
    Expectations,
    Root,
    Tee,
    peek_root,
    verify,
)
from innkeeper_confidential_workflows.enclave.channel import FrameChannel
from innkeeper_confidential_workflows.enclave.frames import BOOT_METHOD, Booted, FrameError
from innkeeper_confidential_workflows.launcher.errors import LaunchError
from innkeeper_confidential_workflows.launcher.messages import NONCE_BYTES, BootRequest, receive_started
from innkeeper_confidential_workflows.protocol.hashing import user_data_of

__all__ = ["boot_enclave"]

_SECONDS: Final = 30.0


async def boot_enclave(launcher: socket.socket, config: bytes, logger: logging.Logger) -> FrameChannel:
    """Boot the enclave of this process.

    Args:
        launcher: The socket to the launcher.
        config: The enclave's configuration.
        logger: Where it is told what has booted.

    Returns:
        The conversation with the enclave, which serves from now on.

    Raises:
        LaunchError: There is no enclave, or it has not shown itself in time, or not well.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    try:
        async with asyncio.timeout(_SECONDS):
            launcher.send(BootRequest(config=config, nonce=nonce).encode(), socket.MSG_NOSIGNAL)
            await _readable(launcher)
            module_id, stream = receive_started(launcher)
            channel = await FrameChannel.open(stream)
            try:
                attestation = _verify(await channel.receive(), config, nonce)
            except BaseException:
                await channel.close()
                raise
    except TimeoutError:
        raise LaunchError(f"the enclave has not booted within {_SECONDS:g} s", hint="its log says why") from None
    except (OSError, FrameError, AttestationError) as error:
        raise LaunchError(f"the enclave has not booted: {error}", hint="its log says why") from error
    logger.warning(
        "INSECURE SIMULATION: enclave %s has booted: PCR0 %s, PCR1 %s, PCR2 %s",
        module_id,
        *(attestation.pcrs[index].hex() for index in (0, 1, 2)),
    )
    return channel


def _verify(frame: object, config: bytes, nonce: bytes) -> Attestation:
    if frame is None:
        raise FrameError("it has ended")
    if not isinstance(frame, Booted):
        raise FrameError("it does not say that it has")
    try:
        root = Root(peek_root(frame.document), Tee.SIM)
    except ValueError as error:
        raise FrameError(f"its document is signed by what is no simulation: {error}") from None
    return verify(
        frame.document,
        now=datetime.now(UTC),
        roots=[root],
        expect=Expectations(nonce=nonce, user_data=user_data_of(BOOT_METHOD, config)),
    )


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock)
