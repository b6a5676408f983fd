"""The record of each decision on a release.

Rules of this module:

1. A decision is one log record: its code, who asked, the digest of the document's payload, the names of the secrets,
   and which of them there are not or the host refused, by their places. Never a value, and never the document's own
   digest: one statement may have many documents.
2. What could not be read is null; what was read before the document was verified is a claim, and so is the digest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from innkeeper_confidential_workflows.attestation.document import check_size, decode_document, parse_headers
from innkeeper_confidential_workflows.attestation.errors import AttestationError
from innkeeper_confidential_workflows.protocol.bodies import SecretsBody

__all__ = ["RELEASED", "Decision", "record"]

RELEASED: Final = "ok"


@frozen
class Decision:
    """A decision on a release.

    Attributes:
        code: ``ok``, or the code of the refusal.
        step: Which check refused; empty for none.
        body: The body as it was received.
        document: The document as it was received.
        missing: The places of names that there are not, from 0.
        refused: The places of names that the host has refused, from 0.
    """

    code: str
    step: str
    body: bytes
    document: bytes
    missing: Sequence[int] = ()
    refused: Sequence[int] = ()


def record(logger: logging.Logger, decision: Decision) -> None:
    """Write a decision."""
    body = _body(decision.body)
    content = {
        "code": decision.code,
        "step": decision.step,
        "workflow": body and body.workflow_id,
        "execution": body and body.execution_id,
        "owner": body and body.owner,
        "document": _payload_digest(decision.document),
        "secrets": body and [f"{name.namespace}/{name.key}" for name in body.secrets],
        "missing": list(decision.missing),
        "refused": list(decision.refused),
    }
    level = logging.INFO if decision.code == RELEASED else logging.WARNING
    logger.log(level, "release %s", json.dumps(content, ensure_ascii=False))


def _body(data: bytes) -> SecretsBody | None:
    try:
        return SecretsBody.decode(data)
    except AttestationError:
        return None


def _payload_digest(document: bytes) -> str | None:
    try:
        check_size(document)
        return parse_headers(decode_document(document)).payload_sha256.hex()
    except AttestationError:
        return None
