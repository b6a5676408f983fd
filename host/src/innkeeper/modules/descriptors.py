"""Descriptors of messages, read from a provider's manifest without importing the provider.

Rules of this module:

1. Each provider has a pool of its own: files of two providers may have the same name.
2. Files that the SDK or protobuf bring are taken from there. A provider may carry copies of them that say the same; a
   file that says something else under one of their names, or adds to one of their packages, is an error.
3. Two messages are the same if they read and write the same bytes and the same JSON; comments and options do not count.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from innkeeper_sdk.errors import ManifestError

__all__ = ["Definitions", "base_definitions", "read_definitions"]

_WELL_KNOWN: Final = (
    "any", "api", "descriptor", "duration", "empty", "field_mask", "source_context", "struct", "timestamp", "type",
    "wrappers",
)  # fmt: skip
# Every release of protoc has another version of this file; it carries options and is nobody's payload.
_DESCRIPTOR_FILE: Final = "google/protobuf/descriptor.proto"
# Packages that are reserved with everything above and below them, though not all of it is loaded.
_RESERVED: Final = ("google.protobuf", "innkeeper.control")
# Descriptors of a large provider take some hundred kilobytes.
_MAX_SIZE: Final = 16 * 1024 * 1024


@frozen(eq=False)
class Definitions:
    """Messages and enums of one source.

    Attributes:
        pool: Where they and all they use are.
        messages: Messages by full name, nested ones too.
        enums: Enums by full name.
        packages: The packages of its files.
        files: The files themselves, by name.
    """

    pool: DescriptorPool
    messages: Mapping[str, Descriptor]
    enums: Mapping[str, EnumDescriptor]
    packages: frozenset[str]
    files: Mapping[str, bytes]

    def difference(self, other: Definitions) -> str | None:
        """Return the name of something that both define, each in another way; None if there is nothing."""
        for name in sorted(self.messages.keys() & other.messages.keys()):
            if _message_shape(self.messages[name]) != _message_shape(other.messages[name]):
                return name
        for name in sorted(self.enums.keys() & other.enums.keys()):
            if _enum_shape(self.enums[name]) != _enum_shape(other.enums[name]):
                return name
        crossed = (self.messages.keys() & other.enums.keys()) | (self.enums.keys() & other.messages.keys())
        return min(crossed, default=None)


def base_definitions() -> Definitions:
    """Return what the SDK and protobuf define: every message that needs no provider."""
    import innkeeper_sdk.proto  # noqa: PLC0415 - its modules are found and imported here

    names = [f"google.protobuf.{name}_pb2" for name in _WELL_KNOWN]
    found = pkgutil.walk_packages(innkeeper_sdk.proto.__path__, "innkeeper_sdk.proto.")
    names += [module.name for module in found if module.name.endswith("_pb2")]
    files: dict[str, bytes] = {}
    for name in names:
        file = importlib.import_module(name).DESCRIPTOR
        files[file.name] = file.serialized_pb
    return _define(DescriptorPool(), files, own=files)


def read_definitions(provider_id: str, data: bytes, base: Definitions, *, path: str | None = None) -> Definitions:
    """Read a provider's descriptors.

    Args:
        provider_id: The provider, for errors.
        data: A serialized FileDescriptorSet.
        base: What the SDK and protobuf define.
        path: The file, for errors.

    Raises:
        ManifestError: It is too large or no such set, a file is missing, or it redefines what is not the provider's.
    """
    if len(data) > _MAX_SIZE:
        raise ManifestError(
            "the messages are too large", provider=provider_id, path=path, expected=f"at most {_MAX_SIZE} bytes"
        )
    try:
        files = {file.name: file.SerializeToString() for file in FileDescriptorSet.FromString(data).file}
        own = {name: file for name, file in files.items() if name != _DESCRIPTOR_FILE}
        definitions = _define(DescriptorPool(), {**base.files, **own}, own=own)
    except (DecodeError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise ManifestError(
            "the messages are no compiled descriptors",
            provider=provider_id,
            path=path,
            actual=str(error) or type(error).__name__,
            hint="compile them with protoc --include_imports --descriptor_set_out",
        ) from error
    redefined = definitions.difference(base) or _intruder(definitions, base)
    if redefined is not None:
        raise ManifestError(
            f"the messages redefine {redefined}, which is not the provider's",
            provider=provider_id,
            path=path,
            hint="use a package of your own",
        )
    return definitions


def _intruder(definitions: Definitions, base: Definitions) -> str | None:
    """Return a name that is new in a package of the SDK or of protobuf; None if there is none."""
    for name, descriptor in sorted([*definitions.messages.items(), *definitions.enums.items()]):
        if name in base.messages or name in base.enums:
            continue
        package = descriptor.file.package
        if package in base.packages or name in base.packages or any(_overlap(name, kept) for kept in _RESERVED):
            return name
    return None


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _define(pool: DescriptorPool, files: Mapping[str, bytes], *, own: Mapping[str, bytes]) -> Definitions:
    """Add files and what they import to a pool, and gather what the own ones define."""
    added: dict[str, FileDescriptor | None] = {}

    def add(name: str) -> FileDescriptor:
        if name in added:
            file = added[name]
            if file is None:
                raise ValueError(f"{name} imports itself")
            return file
        if name not in files:
            raise ValueError(f"the file {name} is missing")
        added[name] = None
        for dependency in FileDescriptorProto.FromString(files[name]).dependency:
            add(dependency)
        pool.AddSerializedFile(files[name])
        added[name] = file = pool.FindFileByName(name)
        return file

    own_files = [add(name) for name in own]
    messages = {m.full_name: m for file in own_files for m in _messages(file)}
    enums = {e.full_name: e for file in own_files for e in file.enum_types_by_name.values()}
    enums |= {e.full_name: e for m in messages.values() for e in m.enum_types}
    return Definitions(pool, messages, enums, frozenset(file.package for file in own_files), dict(own))


def _messages(parent: FileDescriptor | Descriptor) -> Iterator[Descriptor]:
    children = parent.message_types_by_name.values() if isinstance(parent, FileDescriptor) else parent.nested_types
    for child in children:
        yield child
        yield from _messages(child)


def _message_shape(message: Descriptor) -> object:
    return (message.GetOptions().map_entry, sorted(_field_shape(field) for field in message.fields))


def _field_shape(field: FieldDescriptor) -> tuple[object, ...]:
    return (
        field.number,
        field.name,
        field.json_name,
        field.type,
        field.is_repeated,
        field.is_required,
        field.has_presence,
        field.message_type.full_name if field.message_type else "",
        field.enum_type.full_name if field.enum_type else "",
        field.containing_oneof.name if field.containing_oneof else "",
    )


def _enum_shape(enum: EnumDescriptor) -> object:
    return (enum.is_closed, sorted((value.number, value.name) for value in enum.values))
