"""Attested requests: each rule refuses, the challenge is gone whatever happens, and what is left is believed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from innkeeper_confidential_workflows.attestation import AttestationError, Code
from innkeeper_confidential_workflows.nsm import NsmClient
from innkeeper_confidential_workflows.protocol import (
    Body,
    CapabilityBody,
    Challenge,
    Challenges,
    EnclaveConfig,
    FirstMeasurement,
    Purpose,
    ReferenceTrust,
    ResultBody,
    SecretsBody,
    Verified,
    public_key_of,
    user_data_of,
    verify_envelope,
)
from tests.plugins.confidential_workflows.protocol.protocol_world import (
    EXECUTION,
    WORKFLOW,
    World,
    capability_body,
    result_body,
    secrets_body,
    twin,
)


@define
class Verifier:
    """A relay or a vault."""

    world: World
    challenges: Challenges
    trust: Any

    def issue(self, execution_id: str = EXECUTION, purpose: Purpose = Purpose.SECRETS) -> Challenge:
        return self.challenges.issue(WORKFLOW, execution_id, purpose)

    def body(self, challenge: Challenge, make: Any = secrets_body, **changes: Any) -> Body:
        made: Body = make(challenge_id=challenge.id, **{"config_hash": self.world.config.hash, **changes})
        return made

    def verify(self, body: bytes, document: bytes, kind: type[Body] = SecretsBody, **changes: Any) -> Verified[Body]:
        fields: dict[str, Any] = {
            "challenges": self.challenges,
            "trust": self.trust,
            "config": self.world.config,
            "now": self.world.clock.now,
            "authorise": lambda _: None,
        }
        return verify_envelope(kind, body, document, **{**fields, **changes})

    def refused(self, body: bytes, document: bytes, kind: type[Body] = SecretsBody, **changes: Any) -> Code:
        with pytest.raises(AttestationError) as caught:
            self.verify(body, document, kind, **changes)
        return caught.value.code


@pytest.fixture
def verifier(world: World, tmp_path: Path) -> Verifier:
    challenges = Challenges(world.clock, monotonic=world.clock.monotonic)
    return Verifier(world, challenges, FirstMeasurement(tmp_path / "own" / "pin.json", logging.getLogger("t")))


def request(verifier: Verifier, enclave: NsmClient | None = None, **changes: Any) -> tuple[bytes, bytes, Challenge]:
    challenge = verifier.issue()
    body = verifier.body(challenge, **changes).encode()
    return body, verifier.world.document(body, challenge.nonce, enclave=enclave), challenge


@pytest.mark.parametrize(
    ("make", "purpose"),
    [(secrets_body, Purpose.SECRETS), (capability_body, Purpose.CAPABILITY), (result_body, Purpose.RESULT)],
)
def test_a_good_request_is_believed(verifier: Verifier, make: Any, purpose: Purpose) -> None:
    challenge = verifier.issue(purpose=purpose)
    body = verifier.body(challenge, make)
    data = body.encode()
    document = verifier.world.document(data, challenge.nonce, kind=type(body))
    verified = verifier.verify(data, document, type(body), workflow_id=WORKFLOW, execution_id=EXECUTION)
    assert verified.body == body
    assert verified.attestation.public_key == public_key_of(verifier.world.key)
    assert verified.attestation.nonce == challenge.nonce


def test_a_workflow_that_subscribes_is_attested_too(verifier: Verifier) -> None:
    challenge = verifier.issue("", Purpose.CAPABILITY)
    body = verifier.body(challenge, capability_body, execution_id="")
    data = body.encode()
    document = verifier.world.document(data, challenge.nonce, kind=CapabilityBody)
    assert verifier.verify(data, document, CapabilityBody, execution_id="").body == body


def test_the_same_request_is_not_believed_twice(verifier: Verifier) -> None:
    body, document, _ = request(verifier)
    verifier.verify(body, document)
    assert verifier.refused(body, document) is Code.REPLAYED


def test_the_twin_of_a_used_document_is_not_believed(verifier: Verifier) -> None:
    body, document, _ = request(verifier)
    verifier.verify(body, document)
    assert twin(document) != document
    assert verifier.refused(body, twin(document)) is Code.REPLAYED


def test_the_twin_of_a_new_document_is_the_same_document(verifier: Verifier) -> None:
    body, document, _ = request(verifier)
    assert verifier.verify(body, twin(document)).body == SecretsBody.decode(body)
    assert verifier.refused(body, document) is Code.REPLAYED


def test_after_a_restart_no_nonce_is_open_again(verifier: Verifier) -> None:
    used_body, used_document, _ = request(verifier)
    verifier.verify(used_body, used_document)
    body, document, _ = request(verifier)
    verifier.challenges = Challenges(verifier.world.clock, monotonic=verifier.world.clock.monotonic)
    assert verifier.refused(used_body, used_document) is Code.NONCE_MISMATCH
    assert verifier.refused(body, document) is Code.NONCE_MISMATCH


def test_another_nonce_than_the_challenges_is_refused(verifier: Verifier) -> None:
    challenge, other = verifier.issue(), verifier.issue()
    body = verifier.body(challenge).encode()
    for nonce in (other.nonce, challenge.nonce[:-1], None):
        assert verifier.refused(body, verifier.world.document(body, nonce)) in (Code.NONCE_MISMATCH, Code.REPLAYED)
        challenge = verifier.issue()
        body = verifier.body(challenge).encode()


def test_a_failed_request_has_used_its_challenge_up(verifier: Verifier) -> None:
    body, document, challenge = request(verifier)
    assert verifier.refused(body, b"no document") is Code.MALFORMED
    assert verifier.refused(body, document) is Code.REPLAYED
    assert challenge.id == SecretsBody.decode(body).challenge_id


def test_a_challenge_that_has_run_out_is_refused(verifier: Verifier) -> None:
    body, document, _ = request(verifier)
    verifier.world.clock.forward(60)
    assert verifier.refused(body, document) is Code.NONCE_MISMATCH


@pytest.mark.parametrize("change", [{"workflow_id": "a2" * 32}, {"execution_id": "e2" * 32}, {"execution_id": ""}])
def test_the_challenge_of_another_workflow_or_execution_is_refused(verifier: Verifier, change: dict[str, str]) -> None:
    body, document, _ = request(verifier, **change)
    assert verifier.refused(body, document) is Code.NONCE_MISMATCH


def test_a_challenge_for_another_purpose_is_refused(verifier: Verifier) -> None:
    for purpose, kind, make in (
        (Purpose.SECRETS, CapabilityBody, capability_body),
        (Purpose.CAPABILITY, SecretsBody, secrets_body),
        (Purpose.SECRETS, ResultBody, result_body),
    ):
        challenge = verifier.issue(purpose=purpose)
        body = verifier.body(challenge, make).encode()
        document = verifier.world.document(body, challenge.nonce, kind=kind)
        assert verifier.refused(body, document, kind) is Code.NONCE_MISMATCH


def test_a_document_for_one_method_does_not_serve_another(verifier: Verifier) -> None:
    challenge = verifier.issue()
    body = verifier.body(challenge).encode()
    document = verifier.world.document(body, challenge.nonce, kind=CapabilityBody)
    assert verifier.refused(body, document) is Code.USER_DATA_MISMATCH
    assert verifier.refused(body, document, CapabilityBody) is Code.MALFORMED


def test_a_body_that_the_document_does_not_bind_is_refused(verifier: Verifier) -> None:
    _, document, challenge = request(verifier)
    for change in ({"secrets": (("main", "OTHER"),)}, {"owner": "1f" * 20}, {"binary_sha256": b"\xb2" * 32}):
        body = verifier.body(challenge, **change).encode()
        code = verifier.refused(body, document)
        assert code is Code.USER_DATA_MISMATCH
        _, document, challenge = request(verifier)


def test_a_document_without_user_data_binds_nothing(verifier: Verifier) -> None:
    challenge = verifier.issue()
    body = verifier.body(challenge).encode()
    document = verifier.world.enclave().attest(nonce=challenge.nonce, public_key=public_key_of(verifier.world.key))
    assert verifier.refused(body, document) is Code.USER_DATA_MISMATCH


@pytest.mark.parametrize("public_key", [None, b"x" * 44, b"x"])
def test_secrets_need_a_key_to_seal_to(verifier: Verifier, public_key: bytes | None) -> None:
    challenge = verifier.issue()
    body = verifier.body(challenge).encode()
    document = verifier.world.enclave().attest(
        user_data=user_data_of(SecretsBody.METHOD, body), nonce=challenge.nonce, public_key=public_key
    )
    assert verifier.refused(body, document) is Code.MALFORMED


def test_another_configuration_is_refused_wherever_it_shows(verifier: Verifier) -> None:
    world = verifier.world
    other = evolve(world.config, vault_key=b"\x09" * 32)
    body, document, _ = request(verifier, config_hash=other.hash)
    assert verifier.refused(body, document) is Code.CONFIG_MISMATCH
    # It says the right one, and was started with another.
    body, document, _ = request(verifier, world.enclave(config=other))
    assert verifier.refused(body, document) is Code.CONFIG_MISMATCH
    body, document, _ = request(verifier)
    assert verifier.refused(body, document, config=other) is Code.CONFIG_MISMATCH
    hosts = EnclaveConfig(host_key=b"\x08" * 32, vault_key=world.config.vault_key)
    body, document, _ = request(verifier)
    assert verifier.refused(body, document, config=hosts) is Code.CONFIG_MISMATCH


def test_an_enclave_that_did_not_lock_its_configuration_is_refused(verifier: Verifier) -> None:
    body, document, _ = request(verifier, verifier.world.enclave(configured=False))
    assert verifier.refused(body, document) is Code.CONFIG_MISMATCH


def test_a_debug_enclave_is_refused(verifier: Verifier) -> None:
    zero = {index: bytes(48) for index in (0, 1, 2, 8)}
    body, document, _ = request(verifier, verifier.world.enclave(pcrs=zero))
    assert verifier.refused(body, document) is Code.DEBUG_ENCLAVE


def test_a_second_measurement_is_refused(verifier: Verifier) -> None:
    verifier.verify(*request(verifier)[:2])
    body, document, _ = request(verifier, verifier.world.enclave(pcrs=verifier.world.pcrs("two")))
    assert verifier.refused(body, document) is Code.MEASUREMENT_UNKNOWN


def test_a_request_that_fails_pins_no_measurement(verifier: Verifier) -> None:
    challenge = verifier.issue()
    body = verifier.body(challenge).encode()
    evil = verifier.world.enclave(pcrs=verifier.world.pcrs("evil"))
    assert verifier.refused(body, verifier.world.document(body, b"\x00" * 32, enclave=evil)) is Code.NONCE_MISMATCH
    assert not verifier.trust.path.exists()


def test_a_document_from_before_the_challenge_is_stale(verifier: Verifier) -> None:
    # An enclave whose clock stands: its document could have been made for any challenge.
    world = verifier.world
    enclave = world.enclave()
    challenge = verifier.issue()
    body = verifier.body(challenge).encode()
    now = world.clock.now
    world.clock.forward(-120)
    document = world.document(body, challenge.nonce, enclave=enclave)
    world.clock.now = now
    assert verifier.refused(body, document) is Code.STALE


def test_a_document_from_the_future_is_stale(verifier: Verifier) -> None:
    world = verifier.world
    challenge = verifier.issue()
    body = verifier.body(challenge).encode()
    # Its certificates are from now, so that only its own time is wrong.
    world.enclave().attest()
    now = world.clock.now
    world.clock.forward(301)
    document = world.document(body, challenge.nonce)
    world.clock.now = now
    assert verifier.refused(body, document) is Code.STALE


def test_a_simulated_enclave_is_refused_in_production(verifier: Verifier) -> None:
    body, document, _ = request(verifier)
    assert verifier.refused(body, document, trust=ReferenceTrust()) is Code.UNTRUSTED_CHAIN


@pytest.mark.parametrize("change", [{"workflow_id": "a2" * 32}, {"execution_id": "e2" * 32}, {"execution_id": ""}])
def test_a_message_that_says_another_execution_is_refused(verifier: Verifier, change: dict[str, str]) -> None:
    body, document, _ = request(verifier)
    assert verifier.refused(body, document, **change) is Code.NOT_AUTHORIZED
    assert verifier.refused(body, document) is Code.REPLAYED


@pytest.mark.parametrize("body", [b"", b"\xa0", b"\x00" * 100])
def test_a_body_that_is_none_is_malformed(verifier: Verifier, body: bytes) -> None:
    assert verifier.refused(body, b"") is Code.MALFORMED


def test_what_is_verified_shows_no_document(verifier: Verifier) -> None:
    body, document, challenge = request(verifier)
    assert challenge.nonce.hex() not in repr(verifier.verify(body, document))
