"""The NSM as the enclave sees it, whichever it is.

Rules of this module: it knows a transport and nothing of what answers; each answer is checked before it is used.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from innkeeper_confidential_workflows.nsm.messages import (
    PCR_BYTES,
    RANDOM_BYTES,
    ErrorCode,
    NsmError,
    Request,
    encode_request,
    read_answer,
)
from innkeeper_confidential_workflows.nsm.transport import NsmTransport

__all__ = ["NsmClient", "PcrState"]


@frozen
class PcrState:
    """A register.

    Args:
        locked: Whether it can no longer be extended.
        value: 48 bytes.
    """

    locked: bool
    value: bytes


class NsmClient:
    """Asks an NSM.

    Args:
        transport: The way to it.
    """

    def __init__(self, transport: NsmTransport) -> None:
        self._transport = transport

    def attest(
        self, user_data: bytes | None = None, nonce: bytes | None = None, public_key: bytes | None = None
    ) -> bytes:
        """Return a new attestation document.

        Args:
            user_data: At most 512 bytes.
            nonce: At most 512 bytes.
            public_key: 1 to 1024 bytes.

        Raises:
            NsmError: The NSM refused, or cannot be reached.
        """
        fields = {"user_data": user_data, "nonce": nonce, "public_key": public_key}
        return self._bytes("Attestation", fields, "document")

    def extend(self, index: int, data: bytes) -> bytes:
        """Extend a register, and return its new value.

        Raises:
            NsmError: The NSM refused, or cannot be reached.
        """
        return self._bytes("ExtendPCR", {"index": index, "data": data}, "data", PCR_BYTES)

    def lock(self, index: int) -> None:
        """Lock a register.

        Raises:
            NsmError: The NSM refused, or cannot be reached.
        """
        self._ask("LockPCR", {"index": index})

    def describe(self, index: int) -> PcrState:
        """Return a register.

        Raises:
            NsmError: The NSM refused, or cannot be reached.
        """
        answer = self._ask("DescribePCR", {"index": index})
        locked = answer.get("lock")
        if type(locked) is not bool:
            raise NsmError(ErrorCode.INVALID_RESPONSE, "DescribePCR does not say whether the PCR is locked")
        return PcrState(locked, _checked(answer.get("data"), "DescribePCR", PCR_BYTES))

    def random(self, count: int) -> bytes:
        """Return random bytes.

        Raises:
            NsmError: The NSM refused, or cannot be reached.
        """
        parts: list[bytes] = []
        while (rest := count - sum(map(len, parts))) > 0:
            part = self._bytes("GetRandom", {}, "random")
            if not 1 <= len(part) <= RANDOM_BYTES:
                raise NsmError(ErrorCode.INVALID_RESPONSE, f"GetRandom gave {len(part)} bytes")
            parts.append(part[:rest])
        return b"".join(parts)

    def _ask(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        return read_answer(self._transport.exchange(encode_request(Request(name, fields))), name)

    def _bytes(self, name: str, fields: dict[str, Any], field: str, length: int | None = None) -> bytes:
        return _checked(self._ask(name, fields).get(field), name, length)


def _checked(value: Any, name: str, length: int | None) -> bytes:
    if type(value) is not bytes or not value or (length is not None and len(value) != length):
        raise NsmError(ErrorCode.INVALID_RESPONSE, f"the answer to {name} holds no such bytes")
    return value
