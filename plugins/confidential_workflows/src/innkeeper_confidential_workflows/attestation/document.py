"""An attestation document, from bytes to fields: COSE_Sign1 around a CBOR map.

Rules of this module:

1. Nothing else parses documents. What comes out of here is *claimed*: only ``verify`` says that it is true.
2. The payload stays as it was received. It is never encoded again: the signature covers the bytes, and documents since
   July 2025 have a map without a length in front.
3. The outer array and the protected header have their lengths in front, as in every real document; the payload may have
   indefinite parts.
4. An absent optional field may be given as null, as the NSM does; a mandatory one may not.
5. Keys that are not known are counted and ignored, so that new firmware does not stop every enclave. One that equals a
   known key but for its case is refused: other readers would take it for that key.

Formats and limits: "AWS Nitro Enclaves Attestation Process", docs/attestation_process.md of aws-nitro-enclaves-nsm-api.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import cbor2
from attrs import field, frozen

from innkeeper_confidential_workflows.attestation.cbor import NotStrictError, decode
from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code

__all__ = [
    "MAX_CERTIFICATE",
    "MAX_DOCUMENT",
    "MAX_OPTIONAL",
    "MAX_PAYLOAD",
    "MAX_PCRS",
    "PCR_LENGTHS",
    "Claims",
    "Envelope",
    "check_size",
    "decode_document",
    "parse",
    "parse_claims",
    "parse_headers",
    "parse_payload",
    "peek_root",
]

MAX_DOCUMENT: Final = 18 * 1024  # bytes: the payload's limit, and room for headers and signature
MAX_PAYLOAD: Final = 16 * 1024  # bytes
MAX_CERTIFICATE: Final = 1024  # bytes
MAX_OPTIONAL: Final = 1024  # bytes; AWS's text says 512 in another place, which only the NSM itself enforces
MAX_PCRS: Final = 32
PCR_LENGTHS: Final = (32, 48, 64)  # bytes; really 48, the length of SHA-384

_TAG_SIGN1: Final = 0xD2  # tag 18 in its only shortest form
_ALGORITHM: Final = 1  # COSE header parameter
_ES384: Final = -35
_SIGNATURE: Final = 96  # bytes: r and s of P-384, big-endian, side by side
_DIGEST: Final = "SHA384"

_MANDATORY: Final = frozenset({"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"})
_OPTIONAL: Final = frozenset({"public_key", "user_data", "nonce"})
_KNOWN: Final = _MANDATORY | _OPTIONAL
_FOLDED: Final = frozenset(key.casefold() for key in _KNOWN)


def _refused(message: str) -> AttestationError:
    return AttestationError(Code.MALFORMED, message)


@frozen
class Envelope:
    """A COSE_Sign1 whose headers were checked.

    Args:
        protected: The protected header as received.
        payload: The payload as received.
        signature: 96 bytes, r and s.
    """

    protected: bytes
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def signed_bytes(self) -> bytes:
        """What the signature covers (RFC 9052, section 4.4)."""
        return cbor2.dumps(["Signature1", self.protected, b"", self.payload])

    @property
    def payload_sha256(self) -> bytes:
        """The digest of the payload, 32 bytes: the same for every twin of a document, unlike the document's own."""
        return hashlib.sha256(self.payload).digest()


@frozen
class Claims:
    """The fields of a document, each by itself well-formed, none of them verified.

    Args:
        module_id: The enclave's id.
        timestamp_ms: When the document was made, in milliseconds since the epoch.
        pcrs: Index to value.
        certificate: The leaf, DER.
        cabundle: DER, from the root to the leaf's issuer.
        public_key: What the enclave put there, or ``None``.
        user_data: Likewise.
        nonce: Likewise.
        unknown_keys: How many keys were ignored.
    """

    module_id: str
    timestamp_ms: int
    pcrs: Mapping[int, bytes]
    certificate: bytes = field(repr=False)
    cabundle: tuple[bytes, ...] = field(repr=False)
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    unknown_keys: int


def check_size(document: bytes) -> str:
    """Refuse what is too large to be looked at.

    Raises:
        AttestationError: ``too_large``.
    """
    if len(document) > MAX_DOCUMENT:
        raise AttestationError(Code.TOO_LARGE, f"the document has more than {MAX_DOCUMENT} bytes")
    return f"{len(document)} bytes, at most {MAX_DOCUMENT}"


def decode_document(document: bytes) -> tuple[bytes, dict[Any, Any], bytes, bytes]:
    """Return protected header, unprotected header, payload and signature of a COSE_Sign1, tagged or not.

    Raises:
        AttestationError: ``malformed``.
    """
    if type(document) is not bytes:
        raise TypeError(f"a document is bytes, not {type(document).__name__}")
    tagged = document[:1] == bytes([_TAG_SIGN1])
    value = _decode(document[1:] if tagged else document, "the document")
    if type(value) is not list or len(value) != 4:
        raise _refused("the document is no COSE_Sign1: an array of four parts")
    for part, kind, name in zip(
        value,
        (bytes, dict, bytes, bytes),
        ("protected header", "unprotected header", "payload", "signature"),
        strict=True,
    ):
        if type(part) is not kind:
            raise _refused(f"the {name} is of type {type(part).__name__}, not {kind.__name__}")
    return value[0], value[1], value[2], value[3]


def parse_headers(parts: tuple[bytes, dict[Any, Any], bytes, bytes]) -> Envelope:
    """Return the envelope, if its headers say ES384 and nothing else.

    Raises:
        AttestationError: ``malformed``, or ``too_large`` for the payload.
    """
    protected, unprotected, payload, signature = parts
    header = _decode(protected, "the protected header")
    if type(header) is not dict or [(type(key), key) for key in header] != [(int, _ALGORITHM)]:
        raise _refused("the protected header is no map with the algorithm alone")
    algorithm = header[_ALGORITHM]
    if type(algorithm) is not int or algorithm != _ES384:
        raise _refused(f"the algorithm is not ES384 ({_ES384})")
    if unprotected:
        raise _refused("the unprotected header is not empty")
    if len(signature) != _SIGNATURE:
        raise _refused(f"the signature has {len(signature)} bytes, not {_SIGNATURE}")
    if not payload:
        raise _refused("the payload is empty")
    if len(payload) > MAX_PAYLOAD:
        raise AttestationError(Code.TOO_LARGE, f"the payload has {len(payload)} bytes, more than {MAX_PAYLOAD}")
    return Envelope(protected, payload, signature)


def parse_payload(payload: bytes) -> dict[str, Any]:
    """Return the payload's map, with all mandatory keys and none that could be taken for another.

    Raises:
        AttestationError: ``malformed``.
    """
    value = _decode(payload, "the payload", indefinite=True)
    if type(value) is not dict:
        raise _refused(f"the payload is of type {type(value).__name__}, not a map")
    for key in value:
        if type(key) is not str:
            raise _refused(f"the payload has a key of type {type(key).__name__}")
        if key not in _KNOWN and key.casefold() in _FOLDED:
            raise _refused(f"the payload has a key that is {key.casefold()!r} but for its case")
    if missing := sorted(_MANDATORY - value.keys()):
        raise _refused(f"the payload has no {', '.join(missing)}")
    return value


def parse_claims(value: dict[str, Any]) -> Claims:
    """Return the fields, each within its own limits.

    Raises:
        AttestationError: ``malformed``.
    """
    module_id, digest, timestamp = value["module_id"], value["digest"], value["timestamp"]
    if type(module_id) is not str or not module_id:
        raise _refused("module_id is no text with at least one character")
    if type(digest) is not str or digest != _DIGEST:
        raise _refused(f"digest is not {_DIGEST}")
    if type(timestamp) is not int or timestamp <= 0:
        raise _refused("timestamp is no positive number")
    cabundle = value["cabundle"]
    if type(cabundle) is not list or not cabundle:
        raise _refused("cabundle is no array with at least one certificate")
    return Claims(
        module_id=module_id,
        timestamp_ms=timestamp,
        pcrs=_pcrs(value["pcrs"]),
        certificate=_bytes(value["certificate"], "certificate", 1, MAX_CERTIFICATE),
        cabundle=tuple(_bytes(item, f"cabundle[{index}]", 1, MAX_CERTIFICATE) for index, item in enumerate(cabundle)),
        public_key=_optional(value, "public_key", 1),
        user_data=_optional(value, "user_data", 0),
        nonce=_optional(value, "nonce", 0),
        unknown_keys=len(value.keys() - _KNOWN),
    )


def parse(document: bytes) -> tuple[Envelope, Claims]:
    """Return envelope and claims of a document, of which nothing is verified yet.

    Raises:
        AttestationError: ``too_large`` or ``malformed``.
    """
    check_size(document)
    envelope = parse_headers(decode_document(document))
    return envelope, parse_claims(parse_payload(envelope.payload))


def peek_root(document: bytes) -> bytes:
    """Return the certificate, DER, that a document gives as its root; nothing says yet that it is.

    For trust on first use: whoever pins it then verifies the document with it as the only root.

    Raises:
        AttestationError: ``too_large`` or ``malformed``.
    """
    return parse(document)[1].cabundle[0]


def _decode(data: bytes, what: str, *, indefinite: bool = False) -> Any:
    try:
        return decode(data, indefinite=indefinite)
    except NotStrictError as error:
        raise _refused(f"{what} cannot be read: {error}") from error


def _bytes(value: Any, name: str, least: int, most: int) -> bytes:
    if type(value) is not bytes:
        raise _refused(f"{name} is of type {type(value).__name__}, not a byte string")
    if not least <= len(value) <= most:
        raise _refused(f"{name} has {len(value)} bytes, not {least} to {most}")
    return value


def _optional(value: dict[str, Any], name: str, least: int) -> bytes | None:
    found = value.get(name)
    return None if found is None else _bytes(found, name, least, MAX_OPTIONAL)


def _pcrs(value: Any) -> Mapping[int, bytes]:
    if type(value) is not dict or not 1 <= len(value) <= MAX_PCRS:
        raise _refused(f"pcrs is no map with 1 to {MAX_PCRS} entries")
    for index, pcr in value.items():
        if type(index) is not int or not 0 <= index < MAX_PCRS:
            raise _refused(f"pcrs has a key that is no number from 0 to {MAX_PCRS - 1}")
        if type(pcr) is not bytes or len(pcr) not in PCR_LENGTHS:
            raise _refused(f"PCR{index} is no byte string of {', '.join(map(str, PCR_LENGTHS))} bytes")
    return MappingProxyType(dict(sorted(value.items())))
