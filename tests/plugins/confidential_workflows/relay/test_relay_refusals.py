"""Every rule by which an attested request is refused, each against a request that is good but for one thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from innkeeper_confidential_workflows.nsm import Authority
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import (
    Body,
    CapabilityBody,
    EnclaveConfig,
    Purpose,
    ResultBody,
    SecretName,
    SecretsBody,
)
from innkeeper_sdk.capability import CapabilityError, ErrorCode
from tests.plugins.confidential_workflows.relay.relay_world import (
    EXECUTION,
    OTHER,
    PURPOSES,
    WORKFLOW,
    Enclave,
    RelayWorld,
    capability_request,
    challenge_request,
    clock_request,
    relay_world,
)

METHODS: dict[type[Body], str] = {
    CapabilityBody: "CapabilityExecute",
    ResultBody: "ResultSubmit",
    SecretsBody: "SecretsGet",
}
ALL = pytest.mark.parametrize("kind", METHODS, ids=lambda kind: METHODS[kind])
# Those whose document is verified by the relay; that of the third is the vault's to verify.
VERIFIED = pytest.mark.parametrize("kind", [CapabilityBody, ResultBody], ids=lambda kind: METHODS[kind])


async def refused(world: RelayWorld, kind: type[Body], request: messages.AttestedRequest, text: str) -> CapabilityError:
    """Check that a request is refused, and has had no effect."""
    with pytest.raises(CapabilityError, match=text) as caught:
        await world.ask(METHODS[kind], request, Empty)
    assert not world.helper.calls
    assert not world.helper.reserved
    assert not world.vault.releases
    return caught.value


@ALL
async def test_an_execution_that_is_not_live_is_refused(world: RelayWorld, kind: type[Body]) -> None:
    async with world.live.registered(world.execution()):
        request = await world.request(kind)
    error = await refused(world, kind, request, "not_authorized: no such execution is live")
    assert error.error_code is ErrorCode.PermissionDenied


async def test_no_challenge_and_no_time_without_a_live_execution(world: RelayWorld) -> None:
    for method, message in (
        (
            "Challenge",
            challenge_request("PURPOSE_RESULT"),
        ),
        (
            "Challenge",
            challenge_request("PURPOSE_SECRETS"),
        ),
        ("Clock", clock_request()),
    ):
        with pytest.raises(CapabilityError, match="not_authorized: no such execution is live"):
            await world.ask(method, message, Empty)


@ALL
async def test_a_body_of_a_foreign_execution_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    async with running.live.registered(running.execution(execution_id=OTHER)):
        challenge = await running.challenge(PURPOSES[kind], execution_id=OTHER)
        request = running.envelope(running.body(kind, challenge, execution_id=OTHER), challenge.nonce)
        request.execution_id = EXECUTION
        await refused(running, kind, request, "not_authorized|nonce_mismatch")


@ALL
async def test_a_body_of_a_foreign_workflow_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    async with running.live.registered(running.execution(workflow_id=OTHER)):
        challenge = await running.challenge(PURPOSES[kind], workflow_id=OTHER)
        request = running.envelope(running.body(kind, challenge, workflow_id=OTHER), challenge.nonce)
        request.workflow_id = WORKFLOW
        await refused(running, kind, request, "not_authorized|nonce_mismatch")


@ALL
async def test_a_body_of_another_owner_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    await refused(running, kind, await running.request(kind, owner="99" * 20), "not_authorized: .* another owner")


@ALL
async def test_a_body_of_another_binary_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    request = await running.request(kind, binary_sha256=bytes(32))
    await refused(running, kind, request, "not_authorized: .* another binary_sha256")


@ALL
async def test_a_body_for_another_request_than_the_modules_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    request = await running.request(kind, request_sha256=bytes(32))
    await refused(running, kind, request, "not_authorized: .* another request_sha256")
    assert not running.helper.calls
    assert not running.helper.reserved
    assert not running.vault.releases


@VERIFIED
async def test_no_enclave_is_pinned_for_a_body_that_is_not_the_live_executions(
    running: RelayWorld, kind: type[Body]
) -> None:
    first = Enclave(Authority.create(clock=running.clock), running.clock, running.enclave.config)
    await refused(running, kind, await running.request(kind, enclave=first, owner="99" * 20), "not_authorized")
    # The one that comes next, with another root, is the first that is trusted.
    await running.call()


@ALL
async def test_a_body_with_another_configuration_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    error = await refused(running, kind, await running.request(kind, config_hash=bytes(32)), "config_mismatch")
    assert error.error_code is ErrorCode.FailedPrecondition


@VERIFIED
async def test_an_enclave_that_was_started_otherwise_and_lies_about_it_is_refused(
    running: RelayWorld, kind: type[Body]
) -> None:
    other = EnclaveConfig(host_key=bytes(32), vault_key=bytes(32))
    liar = Enclave(running.authority, running.clock, other)
    await refused(running, kind, await running.request(kind, enclave=liar), "config_mismatch")


async def test_without_a_configuration_handed_out_nothing_is_taken(tmp_path: Path, running: RelayWorld) -> None:
    fresh = await relay_world(tmp_path / "fresh")
    fresh.relay._configuration._current = None
    async with fresh.live.registered(fresh.execution()):
        for kind in METHODS:
            await refused(fresh, kind, await fresh.request(kind), "config_mismatch: no enclave was given")


@VERIFIED
async def test_the_same_request_twice_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    challenge = await running.challenge(PURPOSES[kind])
    changes = {"request_sha256": bytes(32)} if kind is ResultBody else {}
    request = running.envelope(running.body(kind, challenge, **changes), challenge.nonce)
    if kind is CapabilityBody:
        await running.ask(METHODS[kind], request, messages.SignedReply)
        assert len(running.helper.calls) == 1
        running.helper.calls.clear()
    else:
        await refused(running, kind, request, "another request_sha256")
    await refused(running, kind, request, "replayed")


@VERIFIED
async def test_a_challenge_is_gone_after_a_try_that_was_refused(running: RelayWorld, kind: type[Body]) -> None:
    challenge = await running.challenge(PURPOSES[kind])
    bad = running.envelope(running.body(kind, challenge, owner="99" * 20), challenge.nonce)
    await refused(running, kind, bad, "not_authorized")
    await refused(running, kind, running.envelope(running.body(kind, challenge), challenge.nonce), "replayed")


@VERIFIED
async def test_another_executions_challenge_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    async with running.live.registered(running.execution(execution_id=OTHER)):
        challenge = await running.challenge(PURPOSES[kind], execution_id=OTHER)
        request = running.envelope(running.body(kind, challenge), challenge.nonce)
        await refused(running, kind, request, "nonce_mismatch")


@VERIFIED
async def test_a_challenge_for_another_purpose_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    purpose = Purpose.RESULT if kind is CapabilityBody else Purpose.CAPABILITY
    challenge = await running.challenge(purpose)
    await refused(running, kind, running.envelope(running.body(kind, challenge), challenge.nonce), "nonce_mismatch")


@VERIFIED
async def test_a_challenge_of_the_vault_is_none_of_the_relay(running: RelayWorld, kind: type[Body]) -> None:
    challenge = await running.challenge(Purpose.SECRETS)
    await refused(running, kind, running.envelope(running.body(kind, challenge), challenge.nonce), "nonce_mismatch")


@VERIFIED
async def test_another_nonce_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    challenge = await running.challenge(PURPOSES[kind])
    await refused(running, kind, running.envelope(running.body(kind, challenge), bytes(32)), "nonce_mismatch")


@VERIFIED
async def test_a_challenge_that_ran_out_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    challenge = await running.challenge(PURPOSES[kind])
    running.clock.pass_(61)
    await refused(running, kind, running.envelope(running.body(kind, challenge), challenge.nonce), "nonce_mismatch")


@VERIFIED
async def test_a_document_over_another_body_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    challenge = await running.challenge(PURPOSES[kind])
    request = running.envelope(running.body(kind, challenge), challenge.nonce)
    request.attestation = running.enclave.document(running.body(kind, challenge, owner="99" * 20), challenge.nonce)
    await refused(running, kind, request, "user_data_mismatch")


async def test_a_document_for_another_method_is_refused(running: RelayWorld) -> None:
    challenge = await running.challenge(Purpose.RESULT)
    request = running.envelope(running.body(ResultBody, challenge), challenge.nonce)
    await refused(running, CapabilityBody, request, "malformed")


@VERIFIED
@pytest.mark.parametrize(
    "broken",
    [
        lambda request: request.ClearField("attestation"),
        lambda request: setattr(request, "attestation", b"\x00" * 100),
        lambda request: setattr(request, "attestation", request.attestation[:-1]),
        lambda request: setattr(request, "attestation", request.attestation + b"\x00"),
        lambda request: setattr(request, "attestation", bytes(64 * 1024)),
    ],
    ids=["missing", "zeros", "cut", "longer", "too large"],
)
async def test_what_is_no_document_is_refused(
    running: RelayWorld, kind: type[Body], broken: Callable[[messages.AttestedRequest], None]
) -> None:
    request = await running.request(kind)
    broken(request)
    await refused(running, kind, request, "malformed|too_large")


@VERIFIED
async def test_a_flipped_bit_of_the_signature_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    request = await running.request(kind)
    request.attestation = request.attestation[:-1] + bytes([request.attestation[-1] ^ 1])
    await refused(running, kind, request, "bad_signature")


@ALL
@pytest.mark.parametrize("body", [b"", b"\xa0", b"\xff", bytes(11 * 1024 * 1024)], ids=["empty", "{}", "junk", "large"])
async def test_what_is_no_body_is_refused(running: RelayWorld, kind: type[Body], body: bytes) -> None:
    request = await running.request(kind)
    request.body = body
    await refused(running, kind, request, "malformed|too_large")


@VERIFIED
async def test_after_the_first_measurement_other_code_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    await running.call()
    running.helper.calls.clear()
    changed = Enclave(running.authority, running.clock, running.enclave.config, code=b"changed")
    await refused(running, kind, await running.request(kind, enclave=changed), "measurement_unknown")


@VERIFIED
async def test_after_the_first_measurement_another_root_is_refused(running: RelayWorld, kind: type[Body]) -> None:
    await running.call()
    running.helper.calls.clear()
    forged = Enclave(Authority.create(clock=running.clock), running.clock, running.enclave.config)
    await refused(running, kind, await running.request(kind, enclave=forged), "untrusted_chain")


async def test_a_pin_that_others_may_write_is_the_hosts_trouble_and_trusts_nobody(
    running: RelayWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await running.call()
    running.helper.calls.clear()
    (tmp_path / "trust" / "first.json").chmod(0o666)
    error = await refused(running, CapabilityBody, await running.request(CapabilityBody), "internal: ")
    assert error.error_code is ErrorCode.Internal
    assert str(tmp_path) not in str(error), "where this host keeps what is none of the enclave's business"
    assert "first.json" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"capability_id": "other@1.0.0"},
        {"method_name": "Other"},
        {"reference_id": "8"},
        {"payload": capability_request(id="vault@1.0.0").SerializeToString()},
        {"payload": capability_request(method="Other").SerializeToString()},
        {"payload": capability_request(callback_id=-7).SerializeToString()},
    ],
    ids=["id", "method", "reference", "payload's id", "payload's method", "payload's callback id"],
)
async def test_a_body_that_names_another_call_than_its_payload_is_refused(
    running: RelayWorld, changes: dict[str, Any]
) -> None:
    request = await running.request(CapabilityBody, **changes)
    await refused(running, CapabilityBody, request, "not_authorized: the body names another capability")


@pytest.mark.parametrize(
    "payload",
    [b"\xff", capability_request().SerializeToString() + b"\xfa\x3e\x01x"],
    ids=["broken", "unknown field"],
)
async def test_a_carried_request_is_read_strictly(running: RelayWorld, payload: bytes) -> None:
    request = await running.request(CapabilityBody, payload=payload)
    await refused(
        running, CapabilityBody, request, "malformed: what the body carries is no sdk.v1alpha.CapabilityRequest"
    )


async def test_a_second_result_is_refused(running: RelayWorld) -> None:
    second = await running.request(ResultBody, result_sha256=bytes(32))
    await running.submit()
    await refused(running, ResultBody, second, "not_authorized")


async def test_more_challenges_than_may_be_live_are_refused(running: RelayWorld) -> None:
    for _ in range(10_000):
        running.relay._challenges.issue(WORKFLOW, EXECUTION, Purpose.RESULT)
    with pytest.raises(CapabilityError, match="rate_limited") as caught:
        await running.challenge(Purpose.RESULT)
    assert caught.value.error_code is ErrorCode.ResourceExhausted


async def test_a_name_that_is_none_is_refused(running: RelayWorld) -> None:
    challenge = await running.challenge(Purpose.SECRETS)
    body = running.body(SecretsBody, challenge, secrets=(SecretName("main", "KEY"),)).encode()
    request = messages.AttestedRequest(
        workflow_id=WORKFLOW, execution_id=EXECUTION, body=body.replace(b"KEY", b"\x00EY"), attestation=b"x"
    )
    await refused(running, SecretsBody, request, "malformed")
