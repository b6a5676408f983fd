"""A drill for the verifier: attested requests that must be taken, and such that must not, against what runs for real.

Rules of this module:

1. ``python -I -m innkeeper_confidential_workflows.drill`` prints one JSON object, ``{"verdicts": [{"case", "expected",
   "verdict"}]}``, and exits with 0 if each verdict is the expected one, else with 1.
2. The documents are genuine: a simulated NSM signs them, and the verifier is the one that the vault and the relay use.
   Every case but the first differs from it in one thing.
3. It touches nothing of a host: what it pins goes with its temporary directory.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen

from innkeeper_confidential_workflows.attestation import AttestationError
from innkeeper_confidential_workflows.nsm import MODULE_PREFIX, Authority, NsmClient, SimulatedNsm, simulated_pcr
from innkeeper_confidential_workflows.protocol import (
    CONFIG_PCR,
    CapabilityBody,
    Challenge,
    Challenges,
    EnclaveConfig,
    FirstMeasurement,
    Purpose,
    user_data_of,
    verify_envelope,
)

__all__ = ["Verdict", "main", "verdicts"]

_OK: Final = "ok"
_WORKFLOW: Final = "ab" * 32
_EXECUTION: Final = "cd" * 32
_OTHER_EXECUTION: Final = "ef" * 32
_LOGGER: Final = logging.getLogger(__name__)


@frozen
class Verdict:
    """What the verifier made of a case: ``ok``, or the code of its refusal."""

    case: str
    expected: str
    verdict: str


@frozen
class _Direct:
    """The way to an NSM in the same process."""

    nsm: SimulatedNsm

    def exchange(self, request: bytes) -> bytes:
        return self.nsm.handle(request)


class _Enclave:
    """A simulated enclave, as far as it attests requests."""

    def __init__(self, config: EnclaveConfig) -> None:
        pcrs = {index: simulated_pcr(index, b"drill") for index in (0, 1, 2)}
        nsm = SimulatedNsm(Authority.create(), module_id=f"{MODULE_PREFIX}drill", pcrs=pcrs)
        self._nsm = NsmClient(_Direct(nsm))
        self._nsm.extend(CONFIG_PCR, config.extension)
        self._nsm.lock(CONFIG_PCR)
        self._config = config

    def request(self, challenge: Challenge) -> tuple[bytes, bytes]:
        """Return a body that answers a challenge, and its document."""
        body = CapabilityBody(
            workflow_id=_WORKFLOW,
            owner="00" * 20,
            execution_id=_EXECUTION,
            binary_sha256=bytes(32),
            request_sha256=bytes(32),
            config_hash=self._config.hash,
            challenge_id=challenge.id,
            reference_id="0",
            capability_id="drill@1.0.0",
            method_name="Drill",
            payload=b"",
        ).encode()
        return body, self._nsm.attest(user_data_of(CapabilityBody.METHOD, body), challenge.nonce)


def verdicts(directory: Path) -> Iterator[Verdict]:
    """Yield what the verifier makes of each case.

    Args:
        directory: Where the first measurement is pinned; private.
    """
    config = EnclaveConfig(host_key=b"\1" * 32, vault_key=b"\2" * 32)
    enclave = _Enclave(config)
    challenges = Challenges(_now)
    trust = FirstMeasurement(directory / "pin.json", _LOGGER)

    def issue(execution_id: str = _EXECUTION) -> Challenge:
        return challenges.issue(_WORKFLOW, execution_id, Purpose.CAPABILITY)

    def judge(case: str, expected: str, request: tuple[bytes, bytes]) -> Verdict:
        body, document = request
        try:
            verify_envelope(
                CapabilityBody,
                body,
                document,
                challenges=challenges,
                trust=trust,
                config=config,
                now=_now(),
                authorise=lambda _: None,  # A drill has no execution to compare it with.
            )
        except AttestationError as error:
            return Verdict(case, expected, str(error.code))
        return Verdict(case, expected, _OK)

    genuine = enclave.request(issue())
    yield judge("a document for its challenge", _OK, genuine)
    yield judge("the same document once more", "replayed", genuine)
    foreign = issue()
    yield judge(
        "a document with the nonce of another challenge",
        "nonce_mismatch",
        enclave.request(evolve(issue(), nonce=foreign.nonce)),
    )
    yield judge(
        "a document for a challenge that nobody issued",
        "nonce_mismatch",
        enclave.request(evolve(issue(), id=bytes(len(foreign.id)))),
    )
    yield judge(
        "a document for another execution's challenge", "nonce_mismatch", enclave.request(issue(_OTHER_EXECUTION))
    )


def main() -> int:
    """Run the drill, print what came of it, and return the exit code."""
    # The warning that a simulated enclave is trusted is for those who run one.
    _LOGGER.setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="innkeeper-drill-") as directory:
        found = list(verdicts(Path(directory)))
    shown: dict[str, Any] = {
        "verdicts": [{"case": v.case, "expected": v.expected, "verdict": v.verdict} for v in found]
    }
    print(json.dumps(shown, indent=2))
    return 0 if all(verdict.verdict == verdict.expected for verdict in found) else 1


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
