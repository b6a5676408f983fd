"""How the checks of a document are shown.

Rules of this module:

1. What is verified and what is only claimed never stand under the same name: the fields of a document that was refused
   are null, and what it says of itself is under ``claims``. A table says how far such claims can be relied on: not at
   all, or, once chain and signature held, that whoever the root vouches for has made them.
2. JSON and YAML show everything; a table explains it to a person; ``plain`` is one line per fact, cells separated by
   tabs, the first of which says what the line is.
3. Bytes are hexadecimal. Text out of a document has its control characters escaped, for it may come from anybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from innkeeper_confidential_workflows.attestation import OK, STEP_NAMES, Attestation, Claims, Report, Root, Tee
from innkeeper_confidential_workflows.attestation.chain import pinned_root

__all__ = ["Form", "record", "show"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}

_VERIFIED: Final = (
    "module_id",
    "timestamp",
    "tee",
    "pcrs",
    "user_data",
    "nonce",
    "public_key",
    "payload_sha256",
)

# Registers whose being zero says something: 0 to 2 that the enclave is debugged, 8 that its image is not signed.
_TELLING: Final = frozenset({"pcr0", "pcr1", "pcr2", "pcr8"})


class Form(StrEnum):
    """The form of the output; the names are those of the host's commands."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    PLAIN = "plain"


def record(report: Report) -> dict[str, Any]:
    """Return a report as JSON shows it.

    Args:
        report: What was found.
    """
    verified = _verified(report.attestation) if report.attestation is not None else dict.fromkeys(_VERIFIED)
    # What was verified is not repeated as a claim.
    claims = _claimed(report.claims) if report.attestation is None and report.claims is not None else None
    return {
        "verdict": str(report.verdict),
        "steps": [{"name": step.name, "ok": step.ok, "detail": step.detail} for step in report.steps],
        **verified,
        "claims": claims,
    }


def show(report: Report, form: Form, roots: Sequence[Root]) -> None:
    """Print a report on standard output.

    Args:
        report: What was found.
        form: The form of the output.
        roots: The roots that were trusted.
    """
    match form:
        case Form.JSON:
            print(json.dumps(record(report), ensure_ascii=False, indent=2))
        case Form.YAML:
            import yaml  # noqa: PLC0415 - only this form pays for it

            print(yaml.safe_dump(record(report), sort_keys=False, allow_unicode=True), end="")
        case Form.PLAIN:
            for line in _plain(record(report)):
                print("\t".join(_printable(cell) for cell in line))
        case Form.TABLE:
            for text in _table(report, record(report), _signed_under(report, roots)):
                print(_printable(text))


def _verified(attestation: Attestation) -> dict[str, Any]:
    return {
        "module_id": attestation.module_id,
        "timestamp": attestation.timestamp.isoformat(timespec="milliseconds"),
        "tee": str(attestation.tee),
        "pcrs": _pcrs(attestation.pcrs),
        "user_data": _hex(attestation.user_data),
        "nonce": _hex(attestation.nonce),
        "public_key": _hex(attestation.public_key),
        "payload_sha256": attestation.payload_sha256.hex(),
    }


def _claimed(claims: Claims) -> dict[str, Any]:
    return {
        "module_id": claims.module_id,
        "timestamp": _claimed_time(claims.timestamp_ms),
        "pcrs": _pcrs(claims.pcrs),
        "user_data": _hex(claims.user_data),
        "nonce": _hex(claims.nonce),
        "public_key": _hex(claims.public_key),
    }


def _claimed_time(milliseconds: int) -> str | None:
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")
    except OverflowError:
        # Past the year 9999: it is a number, but no time.
        return None


def _pcrs(pcrs: Mapping[int, bytes]) -> dict[str, str]:
    return {str(index): value.hex() for index, value in pcrs.items()}


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _printable(text: str) -> str:
    return text.translate(_ESCAPES)


def _facts(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from ((f"pcr{index}", pcr) for index, pcr in value.items())
        elif value is not None:
            yield name, str(value)


def _plain(shown: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield "verdict", shown["verdict"]
    for step in shown["steps"]:
        yield "step", step["name"], "ok" if step["ok"] else "failed", step["detail"]
    for name, value in _facts({name: shown[name] for name in _VERIFIED}):
        yield name, value
    for name, value in _facts(shown["claims"] or {}):
        yield "claim", name, value


def _signed_under(report: Report, roots: Sequence[Root]) -> Root | None:
    """Return the root under which the document is signed, or None if that was not found."""
    signed = any(step.name == "signature" and step.ok for step in report.steps)
    return pinned_root(report.claims, roots) if signed and report.claims is not None else None


def _table(report: Report, shown: Mapping[str, Any], root: Root | None) -> Iterator[str]:
    width = max(map(len, STEP_NAMES)) + 2
    for step in report.steps:
        yield f"{'ok' if step.ok else 'FAILED':<8}{step.name:<{width}}{step.detail}"
    for name in STEP_NAMES[len(report.steps) :]:
        yield f"{'-':<8}{name:<{width}}not checked"
    yield ""
    if report.verdict == OK:
        yield "Verdict: ok. What the document says:"
        yield from _lines({name: shown[name] for name in _VERIFIED})
    else:
        yield f"Verdict: {report.verdict}. The document is refused."
        if root is not None:
            yield f"Verified: it is genuine, signed under the {root.tee} root {root.sha256}."
            yield f"Failed: {report.steps[-1].name}: {report.steps[-1].detail}."
        if shown["claims"]:
            yield "What it claims, none of it verified:" if root is None else "What the genuine document says:"
            yield from _lines(shown["claims"])
    if root is not None and root.tee is Tee.SIM:
        yield "This enclave is a simulation: nothing is kept from whoever runs the machine."


def _lines(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line per fact; registers that are zero are spelt out where that says something, and else in one line."""
    zero = []
    for name, value in _facts(fields):
        if not name.startswith("pcr") or value.strip("0"):
            yield f"  {name + ':':<16}{value}"
        elif name in _TELLING:
            yield f"  {name + ':':<16}zero"
        else:
            zero.append(name)
    if zero:
        yield f"  {'zero:':<16}{', '.join(zero)}"
