"""The verifier of attestation documents: a pure library, without asyncio, gRPC or the SDK.

Nothing else in Innkeeper parses a document, and nothing is believed of one that :func:`verify` did not return.
"""

from __future__ import annotations

from innkeeper_confidential_workflows.attestation.document import MAX_DOCUMENT, Claims, peek_root
from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.attestation.expectations import Expectations, KeyKind, Measurement
from innkeeper_confidential_workflows.attestation.report import OK, Attestation, Report, Step
from innkeeper_confidential_workflows.attestation.roots import (
    AWS_ROOT_G1,
    SIMULATION_ORGANISATION,
    Root,
    Tee,
    is_simulation,
    load_roots,
    trusted_roots,
)
from innkeeper_confidential_workflows.attestation.verify import STEP_NAMES, explain, verify

__all__ = [
    "AWS_ROOT_G1",
    "MAX_DOCUMENT",
    "OK",
    "SIMULATION_ORGANISATION",
    "STEP_NAMES",
    "Attestation",
    "AttestationError",
    "Claims",
    "Code",
    "Expectations",
    "KeyKind",
    "Measurement",
    "Report",
    "Root",
    "Step",
    "Tee",
    "explain",
    "is_simulation",
    "load_roots",
    "peek_root",
    "trusted_roots",
    "verify",
]
