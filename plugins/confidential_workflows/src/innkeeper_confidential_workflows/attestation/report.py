"""What verifying a document yields.

Rules of this module: an :class:`Attestation` says what is true of an enclave, and only the verifier makes one;
:class:`Claims` in a report are what a document says of itself, true or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from attrs import frozen

from innkeeper_confidential_workflows.attestation.document import Claims
from innkeeper_confidential_workflows.attestation.roots import Tee

__all__ = ["OK", "Attestation", "Report", "Step"]

OK: Final = "ok"


@frozen
class Attestation:
    """What a genuine document says.

    Args:
        module_id: The enclave's id.
        timestamp: When the document was made, in UTC.
        tee: What stands behind the root that verified it.
        pcrs: Index to value.
        public_key: What the enclave put there, or ``None``.
        user_data: Likewise.
        nonce: Likewise.
        payload_sha256: The digest of what was signed, 32 bytes: the document's identity.
    """

    module_id: str
    timestamp: datetime
    tee: Tee
    pcrs: Mapping[int, bytes]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    payload_sha256: bytes


@frozen
class Step:
    """One check.

    Args:
        name: What was checked.
        ok: Whether it held.
        detail: What was found, for a person.
    """

    name: str
    ok: bool
    detail: str


@frozen
class Report:
    """How the checks of a document went.

    Args:
        verdict: ``ok`` or the code of the refusal.
        steps: The checks that were run; only the last can have failed.
        attestation: What the document says, if all held.
        claims: What it claims, true or not, if it could be read that far.
    """

    verdict: str
    steps: tuple[Step, ...]
    attestation: Attestation | None
    claims: Claims | None
