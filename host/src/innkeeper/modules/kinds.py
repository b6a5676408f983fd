"""Kinds: what a file given to the host is, and which bytes of it are stored.

Rules of this module:

1. The ending of the name decides, the longest one that is declared; case does not matter. Only a name without a
   declared ending is judged by its first bytes.
2. Two kinds that claim a file alike are an error: a binary is never run by whichever came first.
3. Stored are the bytes after base64 and before any decompression: hashes and ids cover them. Base64 is strict; only
   white space around it is allowed.
"""

from __future__ import annotations

import base64
import binascii
import string
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from innkeeper_sdk.errors import ConflictError, WorkflowError
from innkeeper_sdk.manifest import Kind, Manifest

__all__ = ["DeclaredKind", "KindMatch", "declare_kinds", "decode", "kind_of"]

_BASE64: Final = "base64"
_SPACE: Final = string.whitespace.encode("ascii")


@frozen
class DeclaredKind:
    """A kind, as a provider's manifest declares it.

    Attributes:
        provider_id: Whose manifest.
        kind: What it says.
    """

    provider_id: str
    kind: Kind


@frozen
class KindMatch:
    """What a file is.

    Attributes:
        provider_id: The provider of the kind.
        kind: The kind's name: the type that is stored.
        module: The module type that takes it.
        encoding: How the file becomes the stored bytes: ``none`` or ``base64``.
    """

    provider_id: str
    kind: str
    module: str
    encoding: str


def declare_kinds(manifests: Iterable[Manifest]) -> list[DeclaredKind]:
    """Gather the kinds of providers.

    Args:
        manifests: Of the enabled providers.
    """
    return [DeclaredKind(manifest.id, kind) for manifest in manifests for kind in manifest.kinds]


def kind_of(file_name: str, content: bytes, kinds: Sequence[DeclaredKind]) -> KindMatch:
    """Return what a file is.

    Args:
        file_name: Its name, with or without directories.
        content: What is in it.
        kinds: The declared kinds.

    Raises:
        WorkflowError: It is empty, or no declared kind takes it.
        ConflictError: Two kinds take it.
    """
    if not content:
        raise WorkflowError("the binary is empty", path=file_name)
    matches = _by_suffix(file_name.casefold(), kinds) or _by_magic(content, kinds)
    if not matches:
        suffixes = sorted({suffix.suffix for one in kinds for suffix in one.kind.suffixes})
        raise WorkflowError(
            "no enabled module type takes this file",
            path=file_name,
            expected=f"a name that ends in {', '.join(suffixes)}" if suffixes else "a module type that takes files",
            hint="see innkeeper plugins list for what is enabled",
        )
    if len(set(matches)) > 1:
        both = " and ".join(f"{match.kind} of the provider {match.provider_id}" for match in matches)
        raise ConflictError(f"more than one kind takes {file_name}: {both}", hint="disable one of them in plugins.yaml")
    return matches[0]


def decode(content: bytes, match: KindMatch, *, path: str | None = None) -> bytes:
    """Return the bytes to store.

    Args:
        content: What is in the file.
        match: What the file is.
        path: The file, for errors.

    Raises:
        WorkflowError: It is not what its name says.
    """
    if match.encoding != _BASE64:
        return content
    text = content.strip(_SPACE)
    try:
        decoded = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise WorkflowError("the binary is not base64", path=path, actual=str(error)) from None
    if base64.b64encode(decoded) != text:
        raise WorkflowError("the binary is not base64", path=path, expected="padding and no unused bits")
    if not decoded:
        raise WorkflowError("the binary is empty", path=path)
    return decoded


def _by_suffix(name: str, kinds: Iterable[DeclaredKind]) -> list[KindMatch]:
    fitting = [
        (len(suffix.suffix), KindMatch(one.provider_id, one.kind.name, one.kind.module, suffix.encoding))
        for one in kinds
        for suffix in one.kind.suffixes
        if name.endswith(suffix.suffix.casefold())
    ]
    longest = max((length for length, _ in fitting), default=0)
    return [match for length, match in fitting if length == longest]


def _by_magic(content: bytes, kinds: Iterable[DeclaredKind]) -> list[KindMatch]:
    return [
        KindMatch(one.provider_id, one.kind.name, one.kind.module, "none")
        for one in kinds
        if any(content.startswith(bytes.fromhex(magic)) for magic in one.kind.magic)
    ]
