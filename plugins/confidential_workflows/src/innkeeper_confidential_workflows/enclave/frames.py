"""What the enclave and its parent say to each other: frames of a length and one CBOR map.

Rules of this module:

1. A frame is ``u32 length (big-endian) | deterministic CBOR``; the length is bounded before anything is read.
2. Each kind of frame has exactly its keys, each of exactly its type; anything else ends the conversation.
3. An id belongs to whoever asks: the parent's are those of executions, the enclave's those of its questions.
4. A failure crosses as the wire form of a capability's error, ``Visibility:Origin:Code:message``.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar, Final, TypeAlias, get_type_hints

from attrs import asdict, fields, frozen

from innkeeper_confidential_workflows.attestation.errors import AttestationError
from innkeeper_confidential_workflows.protocol import cbor

__all__ = [
    "BOOT_METHOD",
    "LENGTH",
    "MAX_CHUNK_BYTES",
    "MAX_FRAME_BYTES",
    "Answer",
    "Ask",
    "Boot",
    "Booted",
    "Cancel",
    "Chunk",
    "Execute",
    "Failed",
    "Frame",
    "FrameError",
    "Read",
    "Refusal",
    "Result",
    "decode",
    "encode",
    "payload_length",
]

LENGTH: Final = struct.Struct(">I")

MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
"""An answer carries a result twice, and a result has at most 10 MiB, as in the reference's enclave."""

MAX_CHUNK_BYTES: Final = 1024 * 1024
"""Most bytes of a binary that one read brings: what the host's artifacts give at a time."""


BOOT_METHOD: Final = "confidential.boot"
"""What the user data of the boot document is made of, with the configuration as its body."""


class FrameError(Exception):
    """Raised when the other end says what it must not; the text quotes nothing of it."""


@frozen(kw_only=True)
class Boot:
    """Parent to enclave, once, first.

    Attributes:
        config: The enclave's configuration, as it is measured.
        nonce: What the boot document answers: 32 bytes.
    """

    op: ClassVar[str] = "boot"
    config: bytes
    nonce: bytes


@frozen(kw_only=True)
class Booted:
    """Enclave to parent: the configuration is measured and locked.

    Attributes:
        document: An attestation document with the nonce of the boot.
    """

    op: ClassVar[str] = "booted"
    document: bytes


@frozen(kw_only=True)
class Execute:
    """Parent to enclave: run a workflow.

    Attributes:
        id: The parent's.
        request: A serialized ConfidentialWorkflowRequest, as it was received.
        deadline_ms: How long it may take, in milliseconds.
    """

    op: ClassVar[str] = "execute"
    id: int
    request: bytes
    deadline_ms: int


@frozen(kw_only=True)
class Cancel:
    """Parent to enclave: nobody waits for an execution any more."""

    op: ClassVar[str] = "cancel"
    id: int


@frozen(kw_only=True)
class Result:
    """Enclave to parent: an execution is over, and its result attested.

    Attributes:
        id: Of the execution.
        response: A serialized ConfidentialWorkflowResponse.
        dropped_logs: How many lines the guest has logged.
        dropped_metrics: How many metrics it has reported.
    """

    op: ClassVar[str] = "result"
    id: int
    response: bytes
    dropped_logs: int
    dropped_metrics: int


@frozen(kw_only=True)
class Failed:
    """Enclave to parent: an execution was refused, or failed.

    Attributes:
        id: Of the execution.
        error: The wire form of its error.
        dropped_logs: How many lines the guest has logged.
        dropped_metrics: How many metrics it has reported.
    """

    op: ClassVar[str] = "failed"
    id: int
    error: str
    dropped_logs: int
    dropped_metrics: int


@frozen(kw_only=True)
class Ask:
    """Enclave to parent: call a method of the relay.

    Attributes:
        id: The enclave's.
        method: The method.
        payload: Its serialized message.
        workflow_id: For whom.
        owner: Its owner.
        execution_id: For which execution; empty while subscribing.
    """

    op: ClassVar[str] = "ask"
    id: int
    method: str
    payload: bytes
    workflow_id: str
    owner: str
    execution_id: str


@frozen(kw_only=True)
class Answer:
    """Parent to enclave: what the relay has answered.

    Attributes:
        id: Of the question.
        payload: The serialized message.
    """

    op: ClassVar[str] = "answer"
    id: int
    payload: bytes


@frozen(kw_only=True)
class Read:
    """Enclave to parent: read on in a binary.

    Attributes:
        id: The enclave's.
        locator: Where the binary is.
        offset: From which byte on.
    """

    op: ClassVar[str] = "read"
    id: int
    locator: str
    offset: int


@frozen(kw_only=True)
class Chunk:
    """Parent to enclave: a part of a binary.

    Attributes:
        id: Of the question.
        data: At most :data:`MAX_CHUNK_BYTES`; empty at its end.
        size: How large the whole is said to be.
    """

    op: ClassVar[str] = "chunk"
    id: int
    data: bytes
    size: int


@frozen(kw_only=True)
class Refusal:
    """Parent to enclave: a question could not be answered.

    Attributes:
        id: Of the question.
        error: The wire form of its error.
    """

    op: ClassVar[str] = "refusal"
    id: int
    error: str


Frame: TypeAlias = Boot | Booted | Execute | Cancel | Result | Failed | Ask | Answer | Read | Chunk | Refusal

_KINDS: Final[dict[str, type[Frame]]] = {
    kind.op: kind for kind in (Boot, Booted, Execute, Cancel, Result, Failed, Ask, Answer, Read, Chunk, Refusal)
}
_TYPES: Final = {
    op: {name: hint for name, hint in get_type_hints(kind).items() if name in {item.name for item in fields(kind)}}
    for op, kind in _KINDS.items()
}


def encode(frame: Frame) -> bytes:
    """Return a frame as it is sent, its length included.

    Raises:
        FrameError: It is too long.
    """
    content: dict[str, Any] = asdict(frame)
    data = cbor.encode({"op": frame.op, **content})
    if len(data) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(data)} bytes, at most {MAX_FRAME_BYTES} are allowed")
    return LENGTH.pack(len(data)) + data


def payload_length(header: bytes) -> int:
    """Return how many bytes follow the four of a frame's length.

    Raises:
        FrameError: Too many, or none.
    """
    length: int = LENGTH.unpack(header)[0]
    if not 0 < length <= MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes, expected 1 to {MAX_FRAME_BYTES}")
    return length


def decode(data: bytes) -> Frame:
    """Return the frame of a map.

    Args:
        data: What follows the length.

    Raises:
        FrameError: It is none.
    """
    try:
        content = cbor.decode(data, limit=MAX_FRAME_BYTES, what="a frame")
    except AttestationError as error:
        raise FrameError(f"what is no frame: {error}") from None
    op = content.pop("op", None) if isinstance(content, dict) else None
    if not isinstance(content, dict) or type(op) is not str or op not in _KINDS:
        raise FrameError("a frame of no known kind")
    types = _TYPES[op]
    if content.keys() != types.keys() or any(type(content[name]) is not kind for name, kind in types.items()):
        raise FrameError(f"a frame {op} with other fields than it has")
    if any(type(value) is int and value < 0 for value in content.values()):
        raise FrameError(f"a frame {op} with a negative number")
    return _KINDS[op](**content)
