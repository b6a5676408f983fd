"""The method ``Report``: a payload with a header, signed.

Rules of this module:

1. The encoder names the key; every check comes before a number is taken or a key is made.
2. Every report has a number of its own. Keys and numbers are read and written by one thread, in turn, to its end: a
   caller that goes away in between breaks nothing.
3. The config digest is fixed by the encoder, f and the signers' public parts: it changes with the signing set only.
4. What is wrong with the keys goes to the log; a workflow is told that its report cannot be signed, and no more.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from innkeeper_consensus.faults import ConsensusError, internal, invalid
from innkeeper_consensus.header import report_context, report_header
from innkeeper_consensus.signing import SIGNERS, Signer
from innkeeper_consensus.simple import OUTCOME_LIMIT, details, settle, size_fault
from innkeeper_consensus.store import SigningStore
from innkeeper_sdk.capability import CapabilityError, ErrorCode, ErrorVisibility, Origin, RequestMetadata
from innkeeper_sdk.errors import InnkeeperError, VerificationError
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    AggregationType,
    AttributedSignature,
    ConsensusDescriptor,
    ReportRequest,
    ReportResponse,
)
from innkeeper_sdk.proto.values.v1.values_pb2 import Value

__all__ = ["Reporter", "config_digest", "signed_report"]

_F: Final = 0
_SIGNER_ID: Final = 0  # the only node's index
_DOMAIN: Final = b"innkeeper.consensus.signing-set.v1"
_SIGNING_ALGORITHMS: Final = ("ecdsa", "ed25519")
_HASHING_ALGORITHMS: Final = ("keccak256", "blake2b_256")
_DESCRIPTOR: Final = ConsensusDescriptor(aggregation=AggregationType.AGGREGATION_TYPE_IDENTICAL)


def config_digest(encoder: str, f: int, publics: Iterable[bytes]) -> bytes:
    """Return the digest of a signing set, 32 bytes.

    Args:
        encoder: What the set signs for.
        f: Faulty nodes tolerated.
        publics: The signers' public parts, by signer id.
    """
    digest = hashlib.sha256(_DOMAIN)
    for part in (encoder.encode(), f.to_bytes(4, "big"), *publics):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()


def signed_report(raw_report: bytes, *, signer: Signer, digest: bytes, sequence: int) -> ReportResponse:
    """Return a report with its signature.

    Args:
        raw_report: Header and payload.
        signer: The only node's key.
        digest: The signing set's, 32 bytes.
        sequence: The report's number.
    """
    context = report_context(digest, sequence)
    return ReportResponse(
        config_digest=digest,
        seq_nr=sequence,
        report_context=context,
        raw_report=raw_report,
        sigs=[AttributedSignature(signature=signer.sign(raw_report, context), signer_id=_SIGNER_ID)],
    )


class Reporter:
    """Makes reports.

    Args:
        directory: Where keys and the number are kept; nothing is made there before the first report.
        logger: Where new signers and faults of the keys are told.
        clock: The time, in Unix seconds.
    """

    def __init__(self, directory: Path, logger: logging.Logger, clock: Callable[[], float] = time.time) -> None:
        self._store = SigningStore(directory)
        self._logger = logger
        self._clock = clock
        self._signers: dict[str, Signer] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="report-keys")
        self._closed = False

    async def report(self, request: ReportRequest, metadata: RequestMetadata, *, size_limit: int) -> ReportResponse:
        """Return a signed report.

        Args:
            request: The payload and what it is for.
            metadata: Who asks; it goes into the header.
            size_limit: Most bytes of the request with its metadata.

        Raises:
            CapabilityError: The request is refused, or the report cannot be made.
        """
        encoder = _validated(request)
        received = int(self._clock())
        too_big = size_fault(request, metadata, size_limit)
        errors = [] if too_big is None else [too_big]
        values = [Value(bytes_value=request.encoded_payload)] if too_big is None else []
        outcome = settle(_DESCRIPTOR, values, errors, None, f=_F, metadata=metadata)
        raw_report = report_header(metadata, received) + outcome.bytes_value
        if len(raw_report) > OUTCOME_LIMIT:
            raise ConsensusError(
                f"report too large: the report for this request is {len(raw_report)} bytes which exceeds the maximum "
                f"allowed size of {OUTCOME_LIMIT} bytes",
                origin=Origin.SYSTEM,
                details=details(metadata, _DESCRIPTOR),
            )
        if self._closed:
            raise internal("cannot sign a report, service has been closed")
        try:
            signer, sequence = await asyncio.get_running_loop().run_in_executor(self._worker, self._take, encoder)
        except InnkeeperError as error:
            self._logger.exception("a report cannot be signed")
            raise CapabilityError(
                "the report cannot be signed", error_code=ErrorCode.Internal, visibility=ErrorVisibility.PRIVATE
            ) from error
        digest = config_digest(encoder, _F, [signer.public])
        return signed_report(raw_report, signer=signer, digest=digest, sequence=sequence)

    async def close(self) -> None:
        """Let go of the keys, after the reports that are being made; idempotent."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._worker, self._let_go)
            self._worker.shutdown(wait=False)

    def _take(self, encoder: str) -> tuple[Signer, int]:
        self._store.open()
        signer = self._signers.get(encoder)
        if signer is None:
            secret, new = self._store.secret(encoder)
            try:
                signer = SIGNERS[encoder](secret)
            except ValueError:
                raise VerificationError(
                    f"the signing key for {encoder} is no key of its curve",
                    hint="restore it from a backup; a new key is another signer",
                ) from None
            self._signers[encoder] = signer
            self._logger.info("%s signer for %s: 0x%s", "new" if new else "known", encoder, signer.public.hex())
        return signer, self._store.next_number()

    def _let_go(self) -> None:
        self._signers.clear()
        self._store.close()


def _validated(request: ReportRequest) -> str:
    """Return the encoder that a request names, in any case."""
    for what, given, supported in (
        ("encoder name", request.encoder_name, tuple(SIGNERS)),
        ("signing algorithm", request.signing_algo, _SIGNING_ALGORITHMS),
        ("hashing algorithm", request.hashing_algo, _HASHING_ALGORITHMS),
    ):
        if given.lower() not in supported:
            raise invalid(
                f"report request validation failed: unsupported {what} '{given}' for report request. "
                f"Supported {what}s are: [{' '.join(supported)}]"
            )
    return request.encoder_name.lower()
