"""Releases: the vault's signed answer to a request for secrets.

Rules of this module:

1. An answer has one item for each name asked for, in that order: a sealed secret, or why there is none. It names the
   request that it answers by that request's digest.
2. Whoever opens it first checks the vault's signature, the request, and that no item was added, dropped, doubled or
   moved. Then each secret opens for its own name, version, execution and challenge only.
3. No opened value is in any error or repr.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Self, TypeAlias

from attrs import Attribute, field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from innkeeper_confidential_workflows.attestation.errors import Code
from innkeeper_confidential_workflows.protocol import cbor
from innkeeper_confidential_workflows.protocol.bodies import MAX_SECRETS, SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.errors import malformed, refusal
from innkeeper_confidential_workflows.protocol.fields import (
    VERSION,
    check_name,
    error_text,
    exactly,
    mapping_of,
    natural,
    sized,
    take,
)
from innkeeper_confidential_workflows.protocol.hashing import domain_hash, request_digest
from innkeeper_confidential_workflows.protocol.sealing import SEAL_OVERHEAD, SealInfo, open_sealed
from innkeeper_confidential_workflows.protocol.signatures import sign, verify_signature

__all__ = [
    "MAX_SECRET_BYTES",
    "OpenedSecret",
    "RefusedSecret",
    "Release",
    "ReleaseItem",
    "SealedSecret",
    "open_release",
    "sign_release",
    "verify_release",
]

RELEASE_PREFIX: Final = "cw-release/1"

# The reference's limit of a secret as it is stored (27 kb, decimal as all of its sizes).
MAX_SECRET_BYTES: Final = 27_000
# 100 secrets as large as they may be, with room for their names.
_MAX_BYTES: Final = 4 * 1024 * 1024
_KEYS: Final = frozenset({"request_sha256", "items"})
_SEALED: Final = frozenset({"namespace", "key", "version", "sealed"})
_REFUSED: Final = frozenset({"namespace", "key", "error"})
_STEP: Final = "release"


def _check_sealed(_: Any, attribute: Attribute[bytes], value: object) -> None:
    if type(value) is not bytes or not SEAL_OVERHEAD <= len(value) <= MAX_SECRET_BYTES + SEAL_OVERHEAD:
        raise malformed(f"{attribute.name} is no sealed secret")


@frozen(kw_only=True)
class SealedSecret:
    """A secret that was released.

    Attributes:
        namespace: Normalised.
        key: Its name.
        version: From 1.
        sealed: What ``sealing.seal`` returned.
    """

    namespace: str = field(validator=check_name)
    key: str = field(validator=check_name)
    version: int = field(validator=natural(1))
    sealed: bytes = field(validator=_check_sealed, repr=False)


@frozen(kw_only=True)
class RefusedSecret:
    """A secret that there is not, or that is not released.

    Attributes:
        namespace: Normalised.
        key: Its name.
        error: Why, for the author of the workflow.
    """

    namespace: str = field(validator=check_name)
    key: str = field(validator=check_name)
    error: str = field(validator=error_text)


ReleaseItem: TypeAlias = SealedSecret | RefusedSecret


def _as_tuple(items: Iterable[ReleaseItem]) -> tuple[ReleaseItem, ...]:
    return tuple(items)


@frozen(kw_only=True)
class Release:
    """The answer to a request for secrets.

    Attributes:
        request_sha256: SHA-256 of the request's body as it was received: 32 bytes.
        items: In the order of the request.
    """

    request_sha256: bytes = field(validator=sized(32))
    items: tuple[ReleaseItem, ...] = field(converter=_as_tuple)

    @items.validator
    def _check_items(self, _: Attribute[Any], value: tuple[object, ...]) -> None:
        if not 1 <= len(value) <= MAX_SECRETS:
            raise malformed(f"items is no list of 1 to {MAX_SECRETS}")
        if not all(isinstance(item, (SealedSecret, RefusedSecret)) for item in value):
            raise malformed("items has something else than secrets")

    def encode(self) -> bytes:
        """Return the release as it is sent and signed."""
        items = [_encoded(item) for item in self.items]
        return cbor.encode({"v": VERSION, "request_sha256": self.request_sha256, "items": items})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the record of a release.

        Raises:
            AttestationError: ``malformed`` or ``too_large``.
        """
        content = mapping_of(data, _KEYS, limit=_MAX_BYTES, what="the release")
        items = tuple(_item(value) for value in take(content["items"], list, "items"))
        return cls(request_sha256=content["request_sha256"], items=items)


@frozen(kw_only=True)
class OpenedSecret:
    """A secret as the guest gets it.

    Attributes:
        namespace: Normalised.
        key: Its name.
        value: The secret's text; never shown.
    """

    namespace: str
    key: str
    value: str = field(repr=False)


def sign_release(release: Release, private_key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    """Return a release as it is sent, and the vault's signature.

    Args:
        release: The release.
        private_key: The vault's.
    """
    data = release.encode()
    return data, sign(private_key, RELEASE_PREFIX, domain_hash(RELEASE_PREFIX, data))


def verify_release(data: bytes, signature: bytes, *, vault_key: bytes, request: bytes) -> Release:
    """Return a release that the vault has signed, as the answer to a request.

    Args:
        data: The release as it was received.
        signature: Its signature.
        vault_key: The vault's Ed25519 key, as the enclave's configuration has it: 32 bytes.
        request: The body of the request as it was sent, an encoded ``SecretsBody``.

    Raises:
        AttestationError: ``bad_signature``: another has signed it, or it answers another request or not all of it; or
            it is ``malformed`` or ``too_large``.
    """
    cbor.check_size(data, limit=_MAX_BYTES, what="the release")
    if not verify_signature(vault_key, RELEASE_PREFIX, domain_hash(RELEASE_PREFIX, data), signature):
        raise refusal(Code.BAD_SIGNATURE, "the release is not signed by the vault", step=_STEP)
    release = Release.decode(data)
    if release.request_sha256 != request_digest(request):
        raise refusal(Code.BAD_SIGNATURE, "the release answers another request", step=_STEP)
    if _names(release.items) != list(SecretsBody.decode(request).secrets):
        raise refusal(Code.BAD_SIGNATURE, "the release does not answer what was asked, in that order", step=_STEP)
    return release


def open_release(
    data: bytes,
    signature: bytes,
    *,
    vault_key: bytes,
    request: bytes,
    nonce: bytes,
    private_key: X25519PrivateKey,
) -> tuple[OpenedSecret | RefusedSecret, ...]:
    """Verify a release and open its secrets; the execution's child does this.

    Args:
        data: The release as it was received.
        signature: Its signature.
        vault_key: The vault's key, as the enclave's configuration has it.
        request: The body of the request as it was sent.
        nonce: Of the challenge that the request was made by.
        private_key: The execution's.

    Returns:
        One item for each name asked for, in that order.

    Raises:
        AttestationError: As :func:`verify_release`; also ``bad_signature`` when a secret does not open, and
            ``malformed`` when what is opened is no text.
    """
    release = verify_release(data, signature, vault_key=vault_key, request=request)
    asked = SecretsBody.decode(request)
    opened: list[OpenedSecret | RefusedSecret] = []
    for item in release.items:
        if isinstance(item, RefusedSecret):
            opened.append(item)
            continue
        info = seal_info(asked, SecretName(item.namespace, item.key), item.version, nonce)
        value = _text(open_sealed(private_key, info, item.sealed))
        if value is None:
            raise malformed("a secret is no text")
        opened.append(OpenedSecret(namespace=item.namespace, key=item.key, value=value))
    return tuple(opened)


def seal_info(body: SecretsBody, name: SecretName, version: int, nonce: bytes) -> SealInfo:
    """Return what a secret of a request is sealed for.

    Args:
        body: The request.
        name: Which of its secrets.
        version: The secret's.
        nonce: Of the request's challenge.
    """
    return SealInfo(
        workflow_id=body.workflow_id,
        owner=body.owner,
        execution_id=body.execution_id,
        binary_sha256=body.binary_sha256,
        namespace=name.namespace,
        key=name.key,
        version=version,
        nonce=nonce,
    )


def _text(value: bytes) -> str | None:
    # No error is raised from here: it would hold the bytes, also as the context of another.
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _names(items: Sequence[ReleaseItem]) -> list[SecretName]:
    return [SecretName(item.namespace, item.key) for item in items]


def _encoded(item: ReleaseItem) -> dict[str, Any]:
    name = {"namespace": item.namespace, "key": item.key}
    if isinstance(item, RefusedSecret):
        return {**name, "error": item.error}
    return {**name, "version": item.version, "sealed": item.sealed}


def _item(value: object) -> ReleaseItem:
    content = take(value, dict, "an item")
    if "error" in content:
        exactly(content, _REFUSED, what="an item")
        return RefusedSecret(**content)
    exactly(content, _SEALED, what="an item")
    return SealedSecret(**content)
