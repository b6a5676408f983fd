"""What enclave and NSM say to each other: CBOR, as over ``/dev/nsm``.

Rules of this module:

1. A request without fields is its name as text; one with fields is a map from its name to the map of its fields. An
   answer is built the same way; a refusal is ``{"Error": NAME}``.
2. A request has at most 4096 bytes, an answer at most 12288: the limits of the Linux driver, drivers/misc/nsm.c.
3. Both sides read strictly: unknown requests and fields are refused, not guessed at.

Names and fields: ``Request``, ``Response`` and ``ErrorCode`` in src/api/mod.rs of aws-nitro-enclaves-nsm-api.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import cbor2
from attrs import frozen

from innkeeper_confidential_workflows.attestation.cbor import NotStrictError, decode

__all__ = [
    "DIGEST",
    "MAX_ANSWER",
    "MAX_REQUEST",
    "PCR_BYTES",
    "PCR_COUNT",
    "RANDOM_BYTES",
    "ErrorCode",
    "NsmError",
    "Request",
    "encode_answer",
    "encode_error",
    "encode_request",
    "read_answer",
    "read_request",
]

MAX_REQUEST: Final = 0x1000  # bytes
MAX_ANSWER: Final = 0x3000  # bytes
PCR_COUNT: Final = 32
PCR_BYTES: Final = 48
RANDOM_BYTES: Final = 256  # how many GetRandom gives at most
DIGEST: Final = "SHA384"


class ErrorCode(StrEnum):
    """Why the NSM refuses a request."""

    INVALID_ARGUMENT = "InvalidArgument"
    INVALID_INDEX = "InvalidIndex"
    INVALID_RESPONSE = "InvalidResponse"
    READ_ONLY_INDEX = "ReadOnlyIndex"
    INVALID_OPERATION = "InvalidOperation"
    BUFFER_TOO_SMALL = "BufferTooSmall"
    INPUT_TOO_LARGE = "InputTooLarge"
    INTERNAL_ERROR = "InternalError"


class NsmError(Exception):
    """Raised when the NSM refuses a request, or its answer is none.

    Args:
        code: Why.
        message: One sentence.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """Return code and sentence."""
        return f"{self.code}: {self.message}"


@frozen
class Request:
    """One request.

    Args:
        name: Which.
        fields: Its fields, by name.
    """

    name: str
    fields: dict[str, Any]


# The names of all requests, and the types of their fields; a field may be null where None is among its types.
_NUMBER: Final = (int,)
_BYTES: Final = (bytes,)
_OPTIONAL: Final = (bytes, type(None))
_REQUESTS: Final[dict[str, dict[str, tuple[type, ...]]]] = {
    "DescribePCR": {"index": _NUMBER},
    "ExtendPCR": {"index": _NUMBER, "data": _BYTES},
    "LockPCR": {"index": _NUMBER},
    "LockPCRs": {"range": _NUMBER},
    "DescribeNSM": {},
    "Attestation": {"user_data": _OPTIONAL, "nonce": _OPTIONAL, "public_key": _OPTIONAL},
    "GetRandom": {},
}


def encode_request(request: Request) -> bytes:
    """Return a request's bytes.

    Raises:
        NsmError: ``InputTooLarge``: they are more than the device takes.
    """
    data = _encode(request.name, request.fields)
    if len(data) > MAX_REQUEST:
        raise NsmError(ErrorCode.INPUT_TOO_LARGE, f"the request has {len(data)} bytes, more than {MAX_REQUEST}")
    return data


def read_request(data: bytes) -> Request:
    """Return the request that some bytes are.

    Raises:
        NsmError: ``InputTooLarge``; ``InvalidOperation`` for what is no request; ``InvalidArgument`` for one with other
            fields than it has.
    """
    if len(data) > MAX_REQUEST:
        raise NsmError(ErrorCode.INPUT_TOO_LARGE, f"the request has more than {MAX_REQUEST} bytes")
    name, fields = _read(data, ErrorCode.INVALID_OPERATION)
    kinds = _REQUESTS.get(name)
    if kinds is None:
        raise NsmError(ErrorCode.INVALID_OPERATION, "there is no such request")
    if not isinstance(fields, dict) or fields.keys() - kinds.keys():
        raise NsmError(ErrorCode.INVALID_ARGUMENT, f"{name} has other fields")
    for field, types in kinds.items():
        # An optional field may be left out, as serde's Option may.
        if type(fields.get(field)) not in types:
            raise NsmError(ErrorCode.INVALID_ARGUMENT, f"{field} of {name} is missing or of another type")
    return Request(name, {field: fields.get(field) for field in kinds})


def encode_answer(name: str, fields: dict[str, Any]) -> bytes:
    """Return an answer's bytes."""
    return _encode(name, fields)


def encode_error(code: ErrorCode) -> bytes:
    """Return a refusal's bytes."""
    return cbor2.dumps({"Error": str(code)})


def read_answer(data: bytes, name: str) -> dict[str, Any]:
    """Return the fields of the answer to a request.

    Raises:
        NsmError: It is a refusal, or ``InvalidResponse``: it is no answer to that request.
    """
    if len(data) > MAX_ANSWER:
        raise NsmError(ErrorCode.INVALID_RESPONSE, f"the answer has more than {MAX_ANSWER} bytes")
    found, fields = _read(data, ErrorCode.INVALID_RESPONSE)
    if found == "Error":
        codes = [code for code in ErrorCode if fields == str(code)]
        raise NsmError(codes[0] if codes else ErrorCode.INVALID_RESPONSE, f"{name} was refused")
    if found != name or not isinstance(fields, dict):
        raise NsmError(ErrorCode.INVALID_RESPONSE, f"it is no answer to {name}")
    return fields


def _encode(name: str, fields: dict[str, Any]) -> bytes:
    return cbor2.dumps({name: fields} if fields else name)


def _read(data: bytes, code: ErrorCode) -> tuple[str, Any]:
    try:
        value = decode(data)
    except NotStrictError as error:
        raise NsmError(code, f"it cannot be read: {error}") from error
    if type(value) is str:
        return value, {}
    if type(value) is dict and len(value) == 1:
        name, fields = next(iter(value.items()))
        if type(name) is str:
            return name, fields
    raise NsmError(code, "it is neither a name nor a map with one")
