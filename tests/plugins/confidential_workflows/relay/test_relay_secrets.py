"""Secrets: admitted by the execution's helper, granted by the host, passed on unopened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from google.protobuf.empty_pb2 import Empty

from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import Purpose, SecretName, SecretsBody, check_grant, request_digest
from innkeeper_confidential_workflows.relay.configuration import VAULT
from innkeeper_sdk.capability import CapabilityError, CapabilityRequest, ErrorCode, Origin
from innkeeper_sdk.errors import LimitExceededError
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import SecretError
from tests.plugins.confidential_workflows.relay.relay_world import (
    BINARY,
    CANARY,
    EXECUTION,
    OWNER,
    WORKFLOW,
    RelayWorld,
)

NAMES = (SecretName("main", "KEY"), SecretName("other", "KEY"))


async def test_the_vault_is_asked_what_the_enclave_has_attested_and_its_answer_is_passed_on(
    running: RelayWorld,
) -> None:
    request = await running.request(SecretsBody)
    reply = await running.ask("SecretsGet", request, messages.ReleaseReply)
    assert reply == messages.ReleaseReply(body=f"sealed {CANARY}".encode(), signature=b"s" * 64)
    (release,) = running.vault.releases
    assert (release.body, release.attestation) == (request.body, request.attestation)
    call = running.registry.calls[-1]
    assert (call.capability_id, call.method) == (VAULT, "Release")
    assert (call.metadata.workflow_id, call.metadata.workflow_owner) == (WORKFLOW, OWNER)


async def test_the_grant_says_what_is_registered(running: RelayWorld) -> None:
    await running.secrets()
    (grant,) = running.vault.grants
    assert (grant.owner, grant.workflow_id, grant.execution_id, grant.attempt, grant.binary_sha256) == (
        OWNER,
        WORKFLOW,
        EXECUTION,
        1,
        BINARY,
    )
    assert grant.expires_ms == pytest.approx(running.clock().timestamp() * 1000 + 60_000, abs=1000)


async def test_the_grant_names_the_attempt_and_does_not_outlive_it(world: RelayWorld) -> None:
    async with world.live.registered(world.execution(attempt=3, deadline=time.monotonic() + 5)):
        await world.secrets()
    (grant,) = world.vault.grants
    assert grant.attempt == 3
    assert grant.expires_ms <= world.clock().timestamp() * 1000 + 5_000


async def test_a_request_is_reserved_and_holds_its_place_while_the_vault_answers(running: RelayWorld) -> None:
    held: list[int] = []

    async def release(request: CapabilityRequest) -> Empty | messages.ReleaseReply:
        held.append(running.helper.places)
        return messages.ReleaseReply()

    running.registry.add(VAULT, "Release", release)
    await running.secrets(secrets=NAMES)
    assert held == [1]
    assert running.helper.places == 0
    (asked,) = running.helper.reserved
    assert [(item.namespace, item.id) for item in asked.requests] == list(NAMES)


async def test_a_request_has_a_number_of_its_own_that_another_attempt_has_too(world: RelayWorld) -> None:
    async def numbers(*requests: tuple[SecretName, ...]) -> list[int]:
        world.helper.reserved.clear()
        async with world.live.registered(world.execution()):
            for names in requests:
                await world.secrets(secrets=names)
        return [asked.callback_id for asked in world.helper.reserved]

    first = await numbers(NAMES, NAMES[:1], NAMES)
    assert len(set(first)) == 3
    assert sorted(await numbers(NAMES[:1], NAMES, NAMES)) == sorted(first), "whichever comes first"


async def test_a_limit_refuses_the_request_and_the_vault_is_not_asked(running: RelayWorld) -> None:
    running.helper.fault = LimitExceededError("limited: cannot use 6, limit is 5")
    with pytest.raises(CapabilityError, match="cannot use 6, limit is 5") as caught:
        await running.secrets()
    assert (caught.value.error_code, caught.value.origin) == (ErrorCode.LimitExceeded, Origin.USER)
    assert not running.vault.releases


def denied(key: str) -> str:
    """Return what the host's restrictions say of a secret."""
    return f'secret "{key}" in namespace "main" denied by user pre-hook restrictions'


async def test_a_forbidden_secret_is_refused_in_the_grant_with_its_text_and_the_vault_is_asked_for_the_rest(
    running: RelayWorld,
) -> None:
    running.helper.refusals |= {"KEY": denied("KEY"), "LAST": denied("LAST")}
    names = tuple(SecretName("main", key) for key in ("KEY", "FREE", "ALSO", "LAST"))
    request = await running.request(SecretsBody, secrets=names)
    reply = await running.ask("SecretsGet", request, messages.ReleaseReply)
    assert reply.signature
    (release,), (grant,) = running.vault.releases, running.vault.grants
    assert release.body == request.body, "what the enclave has attested is not cut"
    assert grant.refused == ((0, denied("KEY")), (3, denied("LAST")))
    check_grant(grant, SecretsBody.decode(request.body))
    assert running.helper.places == 0


async def test_where_nothing_is_forbidden_the_grant_refuses_nothing_and_is_for_that_request(
    running: RelayWorld,
) -> None:
    request = await running.request(SecretsBody, secrets=NAMES)
    await running.ask("SecretsGet", request, messages.ReleaseReply)
    (grant,) = running.vault.grants
    assert (grant.refused, grant.request_sha256) == ((), request_digest(request.body))


async def test_where_all_is_forbidden_the_vault_says_so_too(running: RelayWorld) -> None:
    running.helper.refusals["KEY"] = denied("KEY")
    await running.secrets(secrets=NAMES)
    (grant,) = running.vault.grants
    assert [place for place, _ in grant.refused] == [0, 1]


@pytest.mark.parametrize(("text", "granted"), [("", "the secret is refused"), ("x" * 600, "x" * 512)])
async def test_a_text_that_is_none_or_too_long_still_refuses(running: RelayWorld, text: str, granted: str) -> None:
    running.helper.refusals["KEY"] = text
    await running.secrets()
    (grant,) = running.vault.grants
    assert grant.refused == ((0, granted),)


@pytest.mark.parametrize("answers", [[], [None], [None, None, None]], ids=len)
async def test_a_helper_that_does_not_answer_for_each_secret_lets_nothing_through(
    running: RelayWorld, monkeypatch: pytest.MonkeyPatch, answers: list[None]
) -> None:
    @asynccontextmanager
    async def reserve(_: object, __: object) -> AsyncIterator[Sequence[SecretError | None]]:
        yield answers

    monkeypatch.setattr(type(running.helper), "reserve_secrets", reserve)
    with pytest.raises(CapabilityError, match="not every secret was answered"):
        await running.secrets(secrets=NAMES)
    assert not running.vault.releases


async def test_the_vaults_refusal_is_passed_on(running: RelayWorld) -> None:
    running.vault.fault = CapabilityError("nonce_mismatch: no", error_code=ErrorCode.PermissionDenied)
    with pytest.raises(CapabilityError) as caught:
        await running.secrets()
    assert caught.value is running.vault.fault


async def test_a_vault_that_is_gone_is_not_taken_for_a_refusal(running: RelayWorld) -> None:
    request = await running.request(SecretsBody)
    running.registry._ready.pop(VAULT)
    with pytest.raises(CapabilityError, match=f"there is no {VAULT}") as caught:
        await running.ask("SecretsGet", request, messages.ReleaseReply)
    assert caught.value.error_code is ErrorCode.FailedPrecondition
    with pytest.raises(CapabilityError, match=f"there is no {VAULT}"):
        await running.challenge(Purpose.SECRETS)


async def test_a_request_under_way_ends_with_its_execution(world: RelayWorld) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def release(request: CapabilityRequest) -> Empty:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Empty()

    world.registry.add(VAULT, "Release", release)
    async with world.live.registered(world.execution()):
        late = asyncio.create_task(world.secrets())
        await asyncio.wait_for(asked.wait(), 10)
    assert cancelled.is_set()
    with pytest.raises(CapabilityError, match="is over"):
        await late
    assert world.helper.places == 0


async def test_while_subscribing_there_are_no_grants(world: RelayWorld) -> None:
    async with world.live.registered(world.execution(execution_id="")):
        challenge = await world.challenge(Purpose.SECRETS, execution_id="")
        body = world.body(SecretsBody, challenge, execution_id="")
        with pytest.raises(CapabilityError, match=r"malformed: .*execution_id"):
            await world.ask("SecretsGet", world.envelope(body, challenge.nonce), messages.ReleaseReply)
    assert not world.vault.releases
