"""Replies: the relay's signed answers to what a guest waits for.

Rules of this module:

1. An answer passes the provider's own process, which is not believed. So the host signs it, together with the method
   and the digest of the request that it answers, and the enclave takes it only for what it has asked itself.
2. The digest is of the request's bytes as they were sent. In each of them is something that was never sent before and
   that nobody could foretell, an attestation document or a nonce: what was once answered answers nothing later.
3. An error says which rule refused, and nothing of the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Self

from attrs import Attribute, field, fields, frozen

from innkeeper_confidential_workflows.attestation.errors import Code
from innkeeper_confidential_workflows.protocol import cbor
from innkeeper_confidential_workflows.protocol.errors import malformed, refusal
from innkeeper_confidential_workflows.protocol.fields import VERSION, mapping_of, sized
from innkeeper_confidential_workflows.protocol.hashing import domain_hash, request_digest
from innkeeper_confidential_workflows.protocol.signatures import verify_signature

__all__ = ["MAX_ANSWER_BYTES", "REPLY_PREFIX", "Reply", "check_reply", "sign_reply"]

REPLY_PREFIX: Final = "cw-reply/1"

# What a frame to the enclave holds (32 MiB), with room for what is around the answer.
MAX_ANSWER_BYTES: Final = 31 * 1024 * 1024
_MAX_BYTES: Final = MAX_ANSWER_BYTES + 1024
_MAX_METHOD: Final = 64
_DIGEST_BYTES: Final = 32
_STEP: Final = "reply"


@frozen(kw_only=True)
class Reply:
    """The answer to one request.

    Attributes:
        method: The relay's method: 1 to 64 characters.
        request_sha256: SHA-256 of the request as it was received: 32 bytes.
        answer: The method's serialized answer: at most 31 MiB.
    """

    method: str = field()
    request_sha256: bytes = field(validator=sized(_DIGEST_BYTES))
    answer: bytes = field(repr=False)

    @method.validator
    def _check_method(self, _: Attribute[Any], value: object) -> None:
        if type(value) is not str or not 1 <= len(value) <= _MAX_METHOD:
            raise malformed(f"method is no text of 1 to {_MAX_METHOD} characters")

    @answer.validator
    def _check_answer(self, _: Attribute[Any], value: bytes) -> None:
        cbor.check_size(value, limit=MAX_ANSWER_BYTES, what="the answer")

    def encode(self) -> bytes:
        """Return the reply as it is sent and signed."""
        content: dict[str, Any] = {a.name: getattr(self, a.name) for a in fields(type(self))}
        return cbor.encode({"v": VERSION, **content})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the record of a reply.

        Raises:
            AttestationError: ``malformed`` or ``too_large``.
        """
        keys = frozenset(a.name for a in fields(cls))
        return cls(**mapping_of(data, keys, limit=_MAX_BYTES, what="the reply"))


def sign_reply(reply: Reply, sign: Callable[[str, bytes], bytes]) -> tuple[bytes, bytes]:
    """Return a reply as it is sent, and its signature.

    Args:
        reply: The reply.
        sign: The host key's ``sign``.
    """
    data = reply.encode()
    return data, sign(REPLY_PREFIX, domain_hash(REPLY_PREFIX, data))


def check_reply(data: bytes, signature: bytes, *, host_key: bytes, method: str, request: bytes) -> bytes:
    """Return the answer of a reply that the host has signed, to this request.

    Args:
        data: The reply as it was received.
        signature: Its signature.
        host_key: The host's Ed25519 key, as the enclave's configuration has it: 32 bytes.
        method: The relay's method that was asked.
        request: The request as it was sent.

    Raises:
        AttestationError: ``bad_signature``: another has signed it, or it answers another method or request; or it is
            ``malformed`` or ``too_large``.
    """
    cbor.check_size(data, limit=_MAX_BYTES, what="the reply")
    if not verify_signature(host_key, REPLY_PREFIX, domain_hash(REPLY_PREFIX, data), signature):
        raise refusal(Code.BAD_SIGNATURE, "the reply is not signed by the host", step=_STEP)
    reply = Reply.decode(data)
    if reply.method != method:
        raise refusal(Code.BAD_SIGNATURE, "the reply answers another method", step=_STEP)
    if reply.request_sha256 != request_digest(request):
        raise refusal(Code.BAD_SIGNATURE, "the reply answers another request", step=_STEP)
    return reply.answer
