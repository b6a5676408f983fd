"""Messages as JSON, for people: what a trigger is configured with, and what an event carries.

Rules of this module:

1. A message is known from the SDK, or from the descriptors beside a provider's manifest; no provider is imported.
2. What providers define alike they share. Of two that define one message differently, the later one is refused with
   both names, so that nobody decides how another one's payloads are shown.
3. Showing never fails: a payload of an unknown message, or of bytes that are none, has no JSON. Reading what a person
   wrote does, with what was wrong.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from innkeeper.modules.descriptors import Definitions, base_definitions, read_definitions
from innkeeper_sdk.documents import near_miss
from innkeeper_sdk.errors import ManifestError, UsageError

__all__ = ["Messages"]

_PREFIX: Final = "type.googleapis.com/"
# Messages with a JSON of their own, such as a time's text.
_WELL_KNOWN: Final = "google.protobuf."


class Messages:
    """Keep the messages of the SDK and of providers."""

    def __init__(self) -> None:
        self._base = base_definitions()
        self._providers: dict[str, Definitions] = {}

    def add(self, provider_id: str, data: bytes, *, path: str | None = None) -> None:
        """Add a provider's messages, in place of those added before.

        Args:
            provider_id: The provider.
            data: A serialized FileDescriptorSet with all imports.
            path: The file, for errors.

        Raises:
            ManifestError: It is none, or redefines what is the SDK's or another provider's; nothing changes.
        """
        definitions = read_definitions(provider_id, data, self._base, path=path)
        for other_id, other in self._providers.items():
            name = None if other_id == provider_id else definitions.difference(other)
            if name is not None:
                raise ManifestError(
                    f"the providers {other_id} and {provider_id} define {name} differently",
                    provider=provider_id,
                    path=path,
                    hint="disable one of them in plugins.yaml",
                )
        self._providers[provider_id] = definitions

    def remove(self, provider_id: str) -> None:
        """Remove a provider's messages; idempotent."""
        self._providers.pop(provider_id, None)

    def to_json(self, payload: AnyMessage) -> str | None:
        """Return a payload as protobuf JSON.

        Args:
            payload: The payload, from anyone.

        Returns:
            One line of JSON, or None if its message, or one inside it, is not known, or its bytes are not that message.
        """
        message = self._new(payload.type_url.rpartition("/")[2])
        if message is None:
            return None
        try:
            message.ParseFromString(payload.value)
            return json_format.MessageToJson(message, indent=None, ensure_ascii=False, descriptor_pool=self._pool())
        except (DecodeError, json_format.Error, TypeError, ValueError, RecursionError):
            return None

    def from_json(self, full_name: str, text: str) -> AnyMessage:
        """Read protobuf JSON.

        Args:
            full_name: The message.
            text: What a person wrote.

        Raises:
            UsageError: The message is not known, or the text is not one.
        """
        message = self._new(full_name)
        if message is None:
            close = near_miss(full_name, self._names())
            raise UsageError(
                f"no enabled provider declares the message {full_name[:200]}",
                hint=f"did you mean {close}?" if close else "see innkeeper plugins list for what is enabled",
            )
        if not full_name.startswith(_WELL_KNOWN) and not text.lstrip().startswith("{"):
            raise UsageError(f"the JSON is no {full_name}", expected="an object")  # json_format takes any list
        try:
            json_format.Parse(text, message, descriptor_pool=self._pool())
        except (json_format.ParseError, TypeError, ValueError, RecursionError) as error:
            what = str(error) or type(error).__name__
            raise UsageError(f"the JSON is no {full_name}: {what}") from None
        return AnyMessage(type_url=_PREFIX + full_name, value=message.SerializeToString(deterministic=True))

    def find(self, full_name: str) -> Descriptor | None:
        """Return the descriptor of a message, or None if it is not known."""
        for definitions in (self._base, *self._providers.values()):
            descriptor = definitions.messages.get(full_name)
            if descriptor is not None:
                return descriptor
        return None

    def _new(self, full_name: str) -> Message | None:
        descriptor = self.find(full_name)
        return None if descriptor is None else GetMessageClass(descriptor)()

    def _names(self) -> list[str]:
        return [name for definitions in (self._base, *self._providers.values()) for name in definitions.messages]

    def _pool(self) -> Any:
        # json_format asks its pool for the messages inside an Any, which may be of another provider.
        return _AllMessages(self)


class _AllMessages:
    """The part of a descriptor pool that json_format uses, over all pools."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    def FindMessageTypeByName(self, full_name: str) -> Descriptor:
        """Return a message's descriptor.

        Raises:
            KeyError: It is not known.
        """
        descriptor = self._messages.find(full_name)
        if descriptor is None:
            raise KeyError(full_name)
        return descriptor
