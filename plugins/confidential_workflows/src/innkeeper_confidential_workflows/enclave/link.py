"""What the monitor asks its parent: methods of the relay, and parts of binaries.

Rules of this module:

1. Each question has an id of ours; what the parent answers to another one, or in another form, ends the conversation.
2. A failure of the parent is a :class:`CapabilityError`, as whoever answered has said it.
3. When the conversation ends, every open question fails.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TypeVar

from innkeeper_confidential_workflows.enclave.channel import FrameChannel, unexpected
from innkeeper_confidential_workflows.enclave.frames import (
    MAX_CHUNK_BYTES,
    Answer,
    Ask,
    Chunk,
    Frame,
    FrameError,
    Read,
    Refusal,
)
from innkeeper_sdk.capability import CapabilityError, ErrorCode

__all__ = ["HostLink"]

_F = TypeVar("_F", Answer, Chunk)


class HostLink:
    """The questions of one enclave.

    Args:
        channel: Where they are sent; whoever receives from it hands the answers to :meth:`take`.
    """

    def __init__(self, channel: FrameChannel) -> None:
        self._channel = channel
        self._ids = itertools.count(1)
        self._open: dict[int, asyncio.Future[Frame]] = {}
        self._forgotten: set[int] = set()

    async def ask(self, method: str, payload: bytes, *, workflow_id: str, owner: str, execution_id: str) -> bytes:
        """Return the answer of the relay.

        Args:
            method: The relay's method.
            payload: Its serialized message.
            workflow_id: For whom.
            owner: Its owner.
            execution_id: For which execution.

        Raises:
            CapabilityError: The relay, or the parent, refused.
        """
        question = Ask(
            id=next(self._ids),
            method=method,
            payload=payload,
            workflow_id=workflow_id,
            owner=owner,
            execution_id=execution_id,
        )
        return (await self._exchange(question, Answer)).payload

    async def read(self, locator: str, offset: int) -> Chunk:
        """Return a part of a binary.

        Raises:
            CapabilityError: There is none to be had.
        """
        return await self._exchange(Read(id=next(self._ids), locator=locator, offset=offset), Chunk)

    def take(self, frame: Frame) -> None:
        """Take an answer.

        Raises:
            FrameError: It answers nothing that is open.
        """
        if not isinstance(frame, Answer | Chunk | Refusal):
            raise unexpected(frame)
        if frame.id in self._forgotten:
            self._forgotten.discard(frame.id)
            return
        future = self._open.pop(frame.id, None)
        if future is None:
            raise FrameError(f"a frame {frame.op} that answers no question")
        if isinstance(frame, Chunk) and len(frame.data) > MAX_CHUNK_BYTES:
            raise FrameError(f"a chunk of {len(frame.data)} bytes, at most {MAX_CHUNK_BYTES} are allowed")
        if not future.done():
            future.set_result(frame)

    def close(self) -> None:
        """Fail every open question."""
        for future in self._open.values():
            if not future.done():
                future.set_exception(CapabilityError("the host is gone", error_code=ErrorCode.Unavailable))
                future.exception()  # Looked at: nobody may be waiting any more.
        self._open.clear()

    async def _exchange(self, question: Ask | Read, kind: type[_F]) -> _F:
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._open[question.id] = future
        try:
            await self._channel.send(question)
            answer = await future
        except FrameError as error:
            raise CapabilityError(str(error), error_code=ErrorCode.ResourceExhausted) from None
        except ConnectionError:
            raise CapabilityError("the host is gone", error_code=ErrorCode.Unavailable) from None
        finally:
            if self._open.pop(question.id, None) is not None:
                self._forgotten.add(question.id)
        if isinstance(answer, Refusal):
            raise CapabilityError.parse(answer.error)
        if not isinstance(answer, kind):
            raise CapabilityError("the host has answered another question", error_code=ErrorCode.Internal)
        return answer
