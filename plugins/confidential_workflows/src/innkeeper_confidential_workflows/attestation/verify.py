"""The one verifier of attestation documents.

Rules of this module:

1. It is a pure function: the clock, the roots and the expectations are parameters, and there is no default clock.
2. The checks are a list, run in its order until one refuses. ``explain`` tells how far it came, ``verify`` raises; both
   run the same list.
3. An :class:`Attestation` is made only after all checks. Before that there are only claims, and they are called so.
4. A document is known by its nonce or the digest of its payload, never by its own digest: with (r, n - s) for (r, s),
   or with a tag around it, the same statement has another encoding.
5. Consuming the nonce, so that it is good only once, is up to whoever issued it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Any, Final

from attrs import define, field
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from innkeeper_confidential_workflows.attestation.chain import Chain, load_chain, pinned_root, validate_chain
from innkeeper_confidential_workflows.attestation.document import (
    Claims,
    Envelope,
    check_size,
    decode_document,
    parse_claims,
    parse_headers,
    parse_payload,
)
from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.attestation.expectations import (
    CHALLENGE_SKEW,
    CODE_PCRS,
    WINDOW,
    Expectations,
    is_zero,
)
from innkeeper_confidential_workflows.attestation.report import OK, Attestation, Report, Step
from innkeeper_confidential_workflows.attestation.roots import Root

__all__ = ["STEP_NAMES", "explain", "verify"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = 48  # bytes of each of r and s


@define
class _Run:
    """What the checks of one document found so far; each check relies on those before it."""

    document: bytes
    now: datetime
    roots: Sequence[Root]
    expect: Expectations
    parts: tuple[bytes, dict[Any, Any], bytes, bytes] = field(init=False)
    envelope: Envelope = field(init=False)
    values: dict[str, Any] = field(init=False)
    claims: Claims | None = field(init=False, default=None)
    chain: Chain = field(init=False)
    root: Root = field(init=False)

    @property
    def read(self) -> Claims:
        """The claims, which every check behind that of the fields has."""
        if self.claims is None:
            raise RuntimeError("a check that needs the fields ran before they were read")
        return self.claims

    def size(self) -> str:
        return check_size(self.document)

    def encoding(self) -> str:
        self.parts = decode_document(self.document)
        return "a COSE_Sign1 of four parts, without tags inside"

    def headers(self) -> str:
        self.envelope = parse_headers(self.parts)
        return f"ES384, payload of {len(self.envelope.payload)} bytes"

    def payload(self) -> str:
        self.values = parse_payload(self.envelope.payload)
        return "a map with every mandatory field, each once"

    def fields(self) -> str:
        self.claims = claims = parse_claims(self.values)
        ignored = f", {claims.unknown_keys} unknown keys ignored" if claims.unknown_keys else ""
        return f"every field within its limits, {len(claims.pcrs)} PCRs{ignored}"

    def keys(self) -> str:
        self.chain = load_chain(self.read)
        return "leaf and intermediates: P-384, ecdsa-with-SHA384"

    def trusted_root(self) -> str:
        self.root = pinned_root(self.read, self.roots)
        return f"the bundle begins with the trusted root {self.root.sha256}"

    def path(self) -> str:
        return validate_chain(self.chain, self.root, self.now)

    def signature(self) -> str:
        signature = self.envelope.signature
        r, s = (int.from_bytes(part, "big") for part in (signature[:_NUMBER], signature[_NUMBER:]))
        try:
            self.chain.key.verify(encode_dss_signature(r, s), self.envelope.signed_bytes, ec.ECDSA(SHA384()))
        except InvalidSignature as error:
            raise AttestationError(
                Code.BAD_SIGNATURE, "the signature is not that of the leaf's key over this payload"
            ) from error
        return "made by the leaf's key"

    def freshness(self) -> str:
        # Whole numbers: a timestamp may be larger than any date.
        made = self.read.timestamp_ms * 1000
        age = _microseconds(self.now - _EPOCH) - made
        if abs(age) > _microseconds(WINDOW):
            raise AttestationError(
                Code.STALE, f"the document was made {_ago(age)}, more than {WINDOW.seconds} seconds away"
            )
        since = self.expect.not_before
        if since is not None and made < _microseconds(since - CHALLENGE_SKEW - _EPOCH):
            raise AttestationError(Code.STALE, "the document was made before the challenge was issued")
        return f"made {_ago(age)}"

    def tee(self) -> str:
        return f"{self.root.tee}, by the root that verified"

    def debug(self) -> str:
        pcrs = self.read.pcrs
        if zero := [f"PCR{index}" for index in CODE_PCRS if index in pcrs and is_zero(pcrs[index])]:
            raise AttestationError(Code.DEBUG_ENCLAVE, f"{', '.join(zero)} is zero: the enclave runs in debug mode")
        return "no PCR of the code is zero"

    def measurements(self) -> str:
        pcrs = self.read.pcrs
        if missing := [f"PCR{index}" for index in CODE_PCRS if index not in pcrs]:
            raise AttestationError(Code.MEASUREMENT_UNKNOWN, f"the document has no {', '.join(missing)}")
        if not self.expect.accepts_pcrs(pcrs):
            raise AttestationError(Code.MEASUREMENT_UNKNOWN, "the PCRs are not those of a known measurement")
        if self.expect.judges_measurements:
            return "the PCRs are those expected"
        return "PCR0, PCR1 and PCR2 are there; not compared, for no measurement was given"

    def nonce(self) -> str:
        return self._same("nonce", self.expect.nonce, self.read.nonce, Code.NONCE_MISMATCH)

    def user_data(self) -> str:
        return self._same("user data", self.expect.user_data, self.read.user_data, Code.USER_DATA_MISMATCH)

    def _same(self, name: str, expected: bytes | None, found: bytes | None, code: Code) -> str:
        if expected is None:
            return f"not compared, for no {name} was given"
        if found is None or not compare_digest(expected, found):
            raise AttestationError(
                code, f"the document has {'no' if found is None else 'another'} {name} than the one expected"
            )
        return f"the {name} is the one expected"

    def public_key(self) -> str:
        kind, key = self.expect.public_key, self.read.public_key
        if kind is None:
            return "not judged, for no kind of key was asked for"
        if key is None or not kind.accepts(key):
            raise AttestationError(Code.MALFORMED, f"the document carries no public key of the kind {kind.value}")
        return f"a key of the kind {kind.value}"

    def attestation(self) -> Attestation:
        claims = self.read
        return Attestation(
            module_id=claims.module_id,
            timestamp=_EPOCH + timedelta(milliseconds=claims.timestamp_ms),
            tee=self.root.tee,
            pcrs=claims.pcrs,
            public_key=claims.public_key,
            user_data=claims.user_data,
            nonce=claims.nonce,
            payload_sha256=self.envelope.payload_sha256,
        )


# In this order, each relying on those before it.
_CHECKS: Final[tuple[tuple[str, Callable[[_Run], str]], ...]] = (
    ("size", _Run.size),
    ("encoding", _Run.encoding),
    ("headers", _Run.headers),
    ("payload", _Run.payload),
    ("fields", _Run.fields),
    ("certificates", _Run.keys),
    ("root", _Run.trusted_root),
    ("chain", _Run.path),
    ("signature", _Run.signature),
    ("freshness", _Run.freshness),
    ("tee", _Run.tee),
    ("debug", _Run.debug),
    ("measurements", _Run.measurements),
    ("nonce", _Run.nonce),
    ("user_data", _Run.user_data),
    ("public_key", _Run.public_key),
)

# What the checks are called, in their order; part of what the command prints.
STEP_NAMES: Final = tuple(name for name, _check in _CHECKS)


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _ago(microseconds: int) -> str:
    seconds = abs(microseconds) / 1_000_000
    return f"{seconds:.3f} seconds {'before' if microseconds >= 0 else 'after'} the time of verification"


def _run(
    raw: bytes, now: datetime, roots: Sequence[Root], expect: Expectations
) -> tuple[Report, AttestationError | None]:
    if now.tzinfo is None:
        raise ValueError("the time of verification has no time zone")
    run = _Run(raw, now.astimezone(UTC), roots, expect)
    steps: list[Step] = []
    for name, check in _CHECKS:
        try:
            steps.append(Step(name, ok=True, detail=check(run)))
        except AttestationError as error:
            steps.append(Step(name, ok=False, detail=error.message))
            return Report(error.code, tuple(steps), None, run.claims), AttestationError(error.code, error.message, name)
    return Report(OK, tuple(steps), run.attestation(), run.claims), None


def explain(document: bytes, *, now: datetime, roots: Sequence[Root], expect: Expectations) -> Report:
    """Return how each check of a document went.

    Args:
        document: The raw bytes.
        now: The time of verification, with a time zone.
        roots: The roots that are trusted.
        expect: What else it must say.

    Raises:
        ValueError: ``now`` has no time zone.
    """
    return _run(document, now, roots, expect)[0]


def verify(document: bytes, *, now: datetime, roots: Sequence[Root], expect: Expectations) -> Attestation:
    """Return what a document says, if every check holds.

    Args:
        document: The raw bytes.
        now: The time of verification, with a time zone.
        roots: The roots that are trusted.
        expect: What else it must say.

    Raises:
        AttestationError: A check refused it.
        ValueError: ``now`` has no time zone.
    """
    report, error = _run(document, now, roots, expect)
    if error is not None:
        raise error
    if report.attestation is None:
        raise AttestationError(Code.INTERNAL, "the checks ended without a result")
    return report.attestation
