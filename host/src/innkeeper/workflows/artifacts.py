"""The binaries of this host's workflows, for providers that run them elsewhere: ``artifacts@1.0.0``.

Rules of this module:

1. What is read is what is stored, byte for byte. Nothing here compares it with its digest: whoever reads trusts the
   digest that it knows, not this host, and checks the whole.
2. A read from the beginning goes to the store. What follows may come from memory, so that a large binary is not loaded
   once for every piece of it; what was changed in between shows at the next read from the beginning, or as a digest
   that does not fit.
3. A simulated workflow is in no table: its binary is kept here while it lives.
4. Only a locator of this form is looked up; what it asks for beyond that is an error, never a guess.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from innkeeper.workflows.deployment import locator_digest
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    Visibility,
)
from innkeeper_sdk.errors import NotFoundError
from innkeeper_sdk.manifest import CapabilityDeclaration, Method
from innkeeper_sdk.proto.values.v1.values_pb2 import Map
from innkeeper_sdk.values import wrap

__all__ = ["ARTIFACTS", "CHUNK_BYTES", "ArtifactReader", "Binaries"]

ARTIFACTS: Final = CapabilityDeclaration(
    id="artifacts@1.0.0",
    type=CapabilityType.ACTION,
    description="Reads the binaries of this host's workflows",
    visibility=Visibility.INTERNAL,
    methods={"Read": Method(input=Map.DESCRIPTOR.full_name, output=Map.DESCRIPTOR.full_name, idempotent=True)},
)

# What one answer carries at most; a gRPC message has a default bound of 4 MiB.
CHUNK_BYTES: Final = 1 << 20

# Two readers at once find their binaries in memory; a third one reads the store more often.
_HELD: Final = 2
# Between two pieces of one read; whoever is slower than that has gone.
_IDLE_SECONDS: Final = 30.0

_FIELDS: Final = {"locator": "string_value", "offset": "int64_value"}


@define(eq=False)
class _Kept:
    """The binary of simulated workflows."""

    binary: bytes
    workflows: int = 0


@define(eq=False)
class _Held:
    """A binary that is being read."""

    binary: bytes
    expiry: asyncio.TimerHandle


class Binaries:
    """Find binaries by their locators.

    Args:
        stored: Returns the stored binary of a locator, or None.
    """

    def __init__(self, stored: Callable[[str], Awaitable[bytes | None]]) -> None:
        self._stored = stored
        self._simulated: dict[str, _Kept] = {}
        self._held: dict[str, _Held] = {}

    def keep(self, locator: str, binary: bytes) -> None:
        """Keep the binary of a simulated workflow, once more."""
        self._simulated.setdefault(locator, _Kept(binary)).workflows += 1

    def release(self, locator: str) -> None:
        """Forget the binary of a simulated workflow, once."""
        kept = self._simulated[locator]
        kept.workflows -= 1
        if not kept.workflows:
            del self._simulated[locator]

    async def read(self, locator: str, offset: int) -> tuple[bytes, int]:
        """Return a piece of a binary, and the size of the whole.

        Args:
            locator: ``artifact:sha256/<64 hexadecimal digits>``.
            offset: Where the piece begins, from 0 to the size.

        Raises:
            NotFoundError: No workflow of this host has such a binary.
            ValueError: The offset lies outside of it.
            DatabaseError: It cannot be read.
        """
        binary = await self._whole(locator, fresh=offset == 0)
        if not 0 <= offset <= len(binary):
            raise ValueError(f"the offset {offset} is outside of a binary of {len(binary)} bytes")
        piece = binary[offset : offset + CHUNK_BYTES]
        if offset + len(piece) < len(binary):
            self._hold(locator, binary)
        else:
            self._drop(locator)
        return piece, len(binary)

    def close(self) -> None:
        """Let go of everything; idempotent."""
        self._simulated.clear()
        for locator in list(self._held):
            self._drop(locator)

    async def _whole(self, locator: str, *, fresh: bool) -> bytes:
        held = self._held.get(locator)
        if held is not None and not fresh:
            return held.binary
        if not locator_digest(locator):
            raise NotFoundError("not the locator of a binary of this host")
        binary = await self._stored(locator)
        if binary is None and locator in self._simulated:
            binary = self._simulated[locator].binary
        if binary is None:
            raise NotFoundError("no workflow of this host has this binary")
        return binary

    def _hold(self, locator: str, binary: bytes) -> None:
        self._drop(locator)
        while len(self._held) >= _HELD:
            self._drop(next(iter(self._held)))
        expiry = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._drop, locator)
        self._held[locator] = _Held(binary, expiry)

    def _drop(self, locator: str) -> None:
        held = self._held.pop(locator, None)
        if held is not None:
            held.expiry.cancel()


class ArtifactReader(Capability):
    """The capability ``artifacts@1.0.0``.

    ``Read`` takes a ``values.v1.Map`` with ``locator``, a text, and ``offset``, an int64; it answers with one of
    ``data``, at most 1 MiB, and ``size``, the size of the whole.

    Args:
        binaries: What is read.
    """

    def __init__(self, binaries: Binaries) -> None:
        self._binaries = binaries

    @property
    def info(self) -> CapabilityInfo:
        """Return what this capability says of itself."""
        return CapabilityInfo(id=ARTIFACTS.id, type=ARTIFACTS.type, description=ARTIFACTS.description)

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Read one piece.

        Raises:
            CapabilityError: There is no such method or binary, or the request is not what it has to be.
            DatabaseError: The binary cannot be read.
        """
        if request.method not in ARTIFACTS.methods:
            return await super().execute(request)
        locator, offset = _asked(request.payload)
        try:
            data, size = await self._binaries.read(locator, offset)
        except NotFoundError as error:
            raise CapabilityError(error.message, error_code=ErrorCode.NotFound) from None
        except ValueError as error:
            raise _invalid(str(error)) from None
        answer = AnyMessage()
        answer.Pack(Map(fields={"data": wrap(data), "size": wrap(size)}))
        return CapabilityResponse(payload=answer)

    async def close(self) -> None:
        """Let go of every binary."""
        self._binaries.close()


def _asked(payload: AnyMessage) -> tuple[str, int]:
    message = Map()
    try:
        understood = payload.Unpack(message)
    except DecodeError:
        understood = False
    if not understood:
        raise _invalid(f"a read is asked for with a {Map.DESCRIPTOR.full_name}")
    kinds = {name: value.WhichOneof("value") for name, value in message.fields.items()}
    if kinds != _FIELDS:
        raise _invalid("a read is asked for with a locator, a text, and an offset, an int64, and nothing else")
    return message.fields["locator"].string_value, message.fields["offset"].int64_value


def _invalid(message: str) -> CapabilityError:
    return CapabilityError(message, error_code=ErrorCode.InvalidArgument)
