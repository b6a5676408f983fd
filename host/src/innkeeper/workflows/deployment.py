"""What is deployed, and whether it is acceptable.

Rules of this module:

1. Everything that can be told without running anything is told here, before anything is stored or stopped.
2. A deployment is refused or accepted whole. Faulty attributes are an error, never "none".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Final

from attrs import field, frozen

from innkeeper.engine.ports import HostLimits
from innkeeper.modules.attributes import Attributes, Binding, DeclaredAttribute, binding, parse_attributes
from innkeeper.store.types import storable_text
from innkeeper.workflows.identity import parse_owner, workflow_id
from innkeeper_sdk.errors import WorkflowError

__all__ = ["LOCAL", "SIMULATION", "Accepted", "Deployment", "accept", "artifact_locator", "locator_digest"]

# Ids of sources, in the reference's form kind:name:version.
LOCAL: Final = "local:deploy:v1"
SIMULATION: Final = "local:simulation:v1"

# The width of the columns.
_NAME: Final = 255
_TAG: Final = 255

_LOCATOR: Final = re.compile(r"artifact:sha256/(?P<digest>[0-9a-f]{64})", re.ASCII)


@frozen(kw_only=True)
class Deployment:
    """A workflow as somebody deploys it.

    Attributes:
        binary: As it is to be stored: after base64, before any decompression.
        kind: The kind of the binary.
        name: 1 to 255 characters.
        owner: 20 bytes in hexadecimal, with or without ``0x``.
        config: Its configuration.
        attributes: One JSON object; empty is ``{}``.
        tag: At most 255 characters.
    """

    binary: bytes = field(repr=False)
    kind: str
    name: str
    owner: str
    config: bytes = field(default=b"", repr=False)
    attributes: bytes = b""
    tag: str = ""


@frozen(kw_only=True)
class Accepted:
    """A deployment that is acceptable.

    Attributes:
        workflow_id: Its id.
        owner: 40 lower-case hexadecimal digits.
        attributes: Its attributes.
        binding: The module type that they bind it to, or None.
        deployment: What was deployed.
    """

    workflow_id: str
    owner: str
    attributes: Attributes
    binding: Binding | None
    deployment: Deployment


def accept(
    deployment: Deployment,
    *,
    kinds: Collection[str],
    declared: Mapping[str, DeclaredAttribute],
    limits: HostLimits,
) -> Accepted:
    """Check a deployment.

    Args:
        deployment: What was deployed.
        kinds: The kinds that enabled providers declare.
        declared: The attributes that installed providers declare.
        limits: The limits in force.

    Raises:
        WorkflowError: It is not acceptable.
        LimitExceededError: Its configuration is too large.
    """
    _check_text("name", deployment.name, least=1, most=_NAME)
    _check_text("tag", deployment.tag, least=0, most=_TAG)
    owner = parse_owner(deployment.owner)
    if deployment.kind not in kinds:
        raise WorkflowError(
            "no enabled module type takes this kind of workflow",
            path="kind",
            expected=" or ".join(sorted(kinds)) or "a module type that takes some kind",
            actual=repr(deployment.kind[:64]),
        )
    if not deployment.binary:
        raise WorkflowError("the workflow's binary is empty", path="binary")
    attributes = parse_attributes(deployment.attributes, declared)
    found = workflow_id(owner=owner, name=deployment.name, binary=deployment.binary, config=deployment.config)
    limits.check("PerWorkflow.ConfigSizeLimit", len(deployment.config), owner=owner, workflow_id=found)
    return Accepted(
        workflow_id=found,
        owner=owner,
        attributes=attributes,
        binding=binding(attributes, declared),
        deployment=deployment,
    )


def artifact_locator(binary: bytes) -> str:
    """Return the locator of a locally deployed binary."""
    return f"artifact:sha256/{hashlib.sha256(binary).hexdigest()}"


def locator_digest(url: str) -> str:
    """Return the SHA-256 that a locator names, or an empty text if it is none."""
    match = _LOCATOR.fullmatch(url)
    return match["digest"] if match else ""


def _check_text(what: str, text: str, *, least: int, most: int) -> None:
    if not least <= len(text) <= most:
        raise WorkflowError(
            f"the workflow's {what} has a wrong length",
            path=what,
            expected=f"{least} to {most} characters",
            actual=str(len(text)),
        )
    if storable_text(text) != text or not text.isprintable():
        raise WorkflowError(
            f"the workflow's {what} has characters that cannot be shown", path=what, expected="printable text"
        )
