"""The configuration that enclaves are started with."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from innkeeper_confidential_workflows.attestation import AttestationError
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import EnclaveConfig
from innkeeper_confidential_workflows.relay.configuration import VAULT, Configuration
from innkeeper_sdk.capability import CapabilityError, CapabilityRequest, ErrorCode
from tests.plugins.confidential_workflows.relay.relay_world import FakeRegistry, HostKey


def identity(message: Message) -> FakeRegistry:
    registry = FakeRegistry()

    async def answer(request: CapabilityRequest) -> Message:
        assert request.payload.Is(Empty.DESCRIPTOR)
        return message

    registry.add(VAULT, "Identity", answer)
    return registry


async def test_it_is_the_hosts_key_and_the_vaults() -> None:
    host_key, vault_key = HostKey(), HostKey().public_key
    configuration = Configuration(identity(messages.VaultIdentity(public_key=vault_key)), host_key)
    made = await configuration.make()
    assert made == EnclaveConfig(host_key=host_key.public_key, vault_key=vault_key)
    assert configuration.current == made


async def test_the_last_one_counts() -> None:
    registry = identity(messages.VaultIdentity(public_key=b"1" * 32))
    configuration = Configuration(registry, HostKey())
    first = await configuration.make()
    registry.answers.update(identity(messages.VaultIdentity(public_key=b"2" * 32)).answers)
    assert await configuration.make() == configuration.current != first


async def test_before_the_first_there_is_none() -> None:
    with pytest.raises(AttestationError, match="config_mismatch"):
        _ = Configuration(FakeRegistry(), HostKey()).current


async def test_a_vault_that_starts_later_is_waited_for() -> None:
    registry = identity(messages.VaultIdentity(public_key=b"1" * 32))
    registry.set_ready(VAULT, ready=False)
    making = asyncio.create_task(Configuration(registry, HostKey()).make())
    done, _ = await asyncio.wait({making}, timeout=0.02)
    assert not done
    registry.set_ready(VAULT)
    assert (await asyncio.wait_for(making, 5)).vault_key == b"1" * 32


async def test_a_vault_that_does_not_start_is_waited_for_no_longer() -> None:
    registry = FakeRegistry()
    registry.set_ready(VAULT, ready=False)
    with pytest.raises(CapabilityError, match="is not ready") as caught:
        await Configuration(registry, HostKey(), patience=0.02).make()
    assert caught.value.error_code is ErrorCode.Unavailable


async def test_without_a_vault_the_error_says_what_to_do() -> None:
    with pytest.raises(CapabilityError, match=r"grant vault@1\.0\.0 to confidential-workflows, in plugins\.yaml"):
        await Configuration(FakeRegistry(), HostKey()).make()


@pytest.mark.parametrize(
    "message",
    [Empty(), messages.VaultIdentity(), messages.VaultIdentity(public_key=b"1" * 31)],
    ids=["another message", "no key", "a short key"],
)
async def test_a_vault_that_does_not_say_who_it_is_is_refused(message: Message) -> None:
    configuration = Configuration(identity(message), HostKey())
    with pytest.raises(CapabilityError, match="malformed"):
        await configuration.make()
    with pytest.raises(AttestationError, match="config_mismatch"):
        _ = configuration.current
