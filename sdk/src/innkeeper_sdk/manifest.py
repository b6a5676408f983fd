"""A provider's manifest: what it contributes, readable without importing it.

Rules of this module:

1. The manifest is ``innkeeper-provider.yaml`` in the provider's top-level package. Reading it imports nothing of the
   provider and runs nothing of it.
2. Unknown keys are faults, and all faults of a manifest are reported together, each with where it stands.
3. What the host needs to decide about a provider stands here, never in the provider's code.
4. The records are here; how a document becomes one, and what must hold among its parts, is in ``manifest_reader`` and
   ``manifest_rules``, which are imported when a manifest is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from innkeeper_sdk.capability import CapabilityType, Visibility
from innkeeper_sdk.documents import Node
from innkeeper_sdk.manifest_ids import CAPABILITY_ID, CAPABILITY_ID_LENGTH, HOST_ID, PROVIDER_ID

__all__ = [
    "CAPABILITY_ID",
    "CAPABILITY_ID_LENGTH",
    "HOST_ID",
    "MANIFEST_NAME",
    "PROVIDER_ID",
    "Attribute",
    "CapabilityDeclaration",
    "Check",
    "Command",
    "ErrorDeclaration",
    "Kind",
    "Limit",
    "LimitScope",
    "LimitType",
    "Manifest",
    "Method",
    "ModuleDeclaration",
    "Part",
    "Process",
    "Suffix",
    "parse_manifest",
    "read_manifest",
]

MANIFEST_NAME: Final = "innkeeper-provider.yaml"


class Part(Enum):
    """Where a capability can run."""

    HOST = "host"
    LOOP = "loop"


class LimitType(Enum):
    """What a limit counts. Sizes are decimal, as in the reference: 1kb is 1000 bytes."""

    SIZE = "size"
    DURATION = "duration"
    INTEGER = "integer"
    BOOLEAN = "boolean"


class LimitScope(Enum):
    """Where the operator may set a limit: a workflow limit may also be set for an owner or globally."""

    GLOBAL = "global"
    OWNER = "owner"
    WORKFLOW = "workflow"


@frozen
class Method:
    """A capability's method.

    Attributes:
        input: Full name of the message it takes.
        output: Full name of the message it answers with, or that its events carry.
        idempotent: Whether repeating a call whose answer was lost is harmless.
        calls: The limit that counts its calls per execution, which the host then enforces, or None.
    """

    input: str | None = None
    output: str | None = None
    idempotent: bool = False
    calls: str | None = None


@frozen
class CapabilityDeclaration:
    """A capability that the provider may register.

    Attributes:
        id: ``name[:label…]@semver``.
        type: What it offers.
        description: One sentence.
        visibility: Its default; plugins.yaml may only tighten it.
        where: Where it can run.
        methods: Its methods by name.
    """

    id: str
    type: CapabilityType
    description: str = ""
    visibility: Visibility = Visibility.INTERNAL
    where: Sequence[Part] = (Part.HOST,)
    methods: Mapping[str, Method] = field(factory=dict)


@frozen
class ModuleDeclaration:
    """A module type of the provider."""

    name: str
    description: str = ""


@frozen
class Suffix:
    """A file name's ending, and how the file is turned into the bytes that are stored.

    Attributes:
        suffix: With its leading dot.
        encoding: ``base64`` or ``none``.
    """

    suffix: str
    encoding: str = "none"


@frozen
class Kind:
    """Binaries that a module type takes.

    Attributes:
        name: The spec type that is stored.
        module: The module type.
        suffixes: Endings of file names; the longest that fits decides.
        magic: First bytes, hexadecimal, of which a file may have one; used when no suffix fits.
    """

    name: str
    module: str
    suffixes: Sequence[Suffix] = ()
    magic: Sequence[str] = ()


@frozen
class Command:
    """A command: a verb under a noun of the host, or a noun of its own.

    Attributes:
        noun: The first word.
        verb: The second word, or None.
        run: ``package.module:function``; the function takes the arguments and returns the exit code.
        help: One line.
    """

    noun: str
    run: str
    verb: str | None = None
    help: str = ""


@frozen
class Process:
    """A process part."""

    executable: str
    extra: str | None = None
    capabilities: Sequence[str] = ()
    needs: Sequence[str] = ()
    helper: bool = False


@frozen
class Attribute:
    """A key of workflow attributes.

    Attributes:
        schema: JSON Schema of its value.
        default: The value that binds to nothing; absent is the same.
        module: The module type that any other value binds the whole workflow to, or None.
        refused: Why it is refused, if it is: then no workflow may have it.
        description: One sentence.
    """

    schema: Mapping[str, Any] = field(factory=dict)
    default: Any = None
    module: str | None = None
    refused: str | None = None
    description: str = ""


@frozen
class Limit:
    """A limit.

    Attributes:
        type: What it counts.
        default: In its unit: ``100kb``, ``30s``, a number or a switch.
        scope: The narrowest place where it may be set.
        description: One sentence.
        at_most: Another limit that this one must not exceed.
    """

    type: LimitType
    default: bool | int | float | str
    scope: LimitScope = LimitScope.WORKFLOW
    description: str = ""
    at_most: str | None = None


@frozen
class ErrorDeclaration:
    """What ``innkeeper explain CODE`` says of one of the provider's errors."""

    title: str
    explanation: str = ""


@frozen
class Check:
    """A check of ``innkeeper doctor``, run in a child process."""

    id: str
    run: str
    help: str = ""


@frozen
class Manifest:
    """Everything that a provider contributes.

    Attributes:
        id: The provider's id, the same as its entry point's name.
        title: What a person calls it.
        sdk: The range of SDK versions that it works with, as in PEP 440.
        modules: Module types, by declaration order.
        kinds: Kinds of binaries.
        sources: Workflow sources.
        secret_stores: Secret stores.
        services: Services of the host part.
        commands: Commands.
        capabilities: Capabilities that it may register.
        processes: Process parts, by name.
        needs: Ids of providers that must be ready first.
        attributes: Keys of workflow attributes.
        limits: Limits, by name.
        errors: Errors, by code.
        checks: Checks of the doctor.
        messages: File beside the manifest with a compiled FileDescriptorSet of its messages, or None.
        config: JSON Schema of its ``config`` in plugins.yaml; absent means that it takes none.
    """

    id: str
    title: str
    sdk: str
    modules: Sequence[ModuleDeclaration] = ()
    kinds: Sequence[Kind] = ()
    sources: Sequence[str] = ()
    secret_stores: Sequence[str] = ()
    services: Sequence[str] = ()
    commands: Sequence[Command] = ()
    capabilities: Sequence[CapabilityDeclaration] = ()
    processes: Mapping[str, Process] = field(factory=dict)
    needs: Sequence[str] = ()
    attributes: Mapping[str, Attribute] = field(factory=dict)
    limits: Mapping[str, Limit] = field(factory=dict)
    errors: Mapping[str, ErrorDeclaration] = field(factory=dict)
    checks: Sequence[Check] = ()
    messages: str | None = None
    config: Mapping[str, Any] | None = None


def parse_manifest(document: object, *, path: str, root: Node | None = None) -> Manifest:
    """Turn a manifest's document into a record.

    Args:
        document: What the YAML says, as JSON-able values.
        path: The file, for errors.
        root: The document's root, so that errors say where; without it they say which value.

    Returns:
        The manifest.

    Raises:
        ManifestError: It is not valid; the message lists every fault.
    """
    from innkeeper_sdk.manifest_reader import structure_manifest  # noqa: PLC0415 - see rule 4

    return structure_manifest(document, path=path, root=root)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Args:
        path: The file.

    Returns:
        The manifest.

    Raises:
        ManifestError: It is missing, unreadable or not valid.
    """
    from innkeeper_sdk.manifest_reader import read_document  # noqa: PLC0415 - see rule 4

    document, root = read_document(path)
    return parse_manifest(document, path=str(path), root=root)
