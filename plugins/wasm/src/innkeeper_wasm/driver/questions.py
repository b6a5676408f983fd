"""What an execution asks its host: the payloads of its questions and of their answers, and who answers which.

A payload that no execution sends is a :class:`WireError`: its process has been broken out of.
"""

from __future__ import annotations

import struct
from typing import Final

from innkeeper_wasm.driver.records import Callbacks, CallRefused
from innkeeper_wasm.runtime.wire import BUFFER_TOO_SMALL, Kind, WireError

__all__ = ["ACCEPTED", "ask"]

_I64: Final = struct.Struct("<q")
_I32: Final = struct.Struct("<i")
_U32: Final = struct.Struct("<I")

ACCEPTED: Final = _I32.pack(0)
"""The answer to a response that was taken."""


async def ask(callbacks: Callbacks, kind: Kind, payload: bytes) -> bytes:
    """Return the payload of the answer to a question.

    Args:
        callbacks: Who answers it.
        kind: One of :data:`innkeeper_wasm.runtime.wire.CALLS`.
        payload: The question's.

    Raises:
        CallRefused: The answer is an error text.
        WireError: The payload is none.
    """
    match kind:
        case Kind.CALL_CAPABILITY:
            await callbacks.call_capability(payload)
            answer = b""
        case Kind.GET_SECRETS:
            await callbacks.get_secrets(payload)
            answer = b""
        case Kind.AWAIT_CAPABILITIES:
            capacity, request = _capacity(payload)
            answer = _fitting(await callbacks.await_capabilities(request), capacity)
        case Kind.AWAIT_SECRETS:
            capacity, request = _capacity(payload)
            answer = _fitting(await callbacks.await_secrets(request), capacity)
        case Kind.NOW:
            answer = _I64.pack(await callbacks.now(_mode(payload)))
        case Kind.NODE_TIME:
            answer = _I64.pack(await callbacks.node_time())
        case Kind.EMIT_METRIC:
            answer = _I32.pack(await callbacks.emit_metric(payload))
        case _:
            answer = _I32.pack(await callbacks.send_response(payload))
    return answer


def _capacity(payload: bytes) -> tuple[int, bytes]:
    if len(payload) < _I64.size:
        raise WireError("an await without the capacity of its buffer")
    return _I64.unpack_from(payload)[0], payload[_I64.size :]


def _fitting(response: bytes, capacity: int) -> bytes:
    if len(response) > capacity:
        raise CallRefused(BUFFER_TOO_SMALL.decode())
    return response


def _mode(payload: bytes) -> int:
    if len(payload) != _U32.size:
        raise WireError("a question for the time without its mode")
    return int(_U32.unpack(payload)[0])
