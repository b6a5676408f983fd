"""Releases: what an attested and granted execution gets, and every rule that refuses."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cbor2
import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from innkeeper_confidential_workflows.nsm import Authority
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import OpenedSecret, RefusedSecret, SecretName
from innkeeper_confidential_workflows.protocol.measurements import PIN_NAME
from innkeeper_confidential_workflows.protocol.signatures import sign
from innkeeper_sdk.capability import CapabilityError, CapabilityRequest, CapabilityType, ErrorCode
from innkeeper_vault.capability import VAULT_ID
from innkeeper_vault.records import StoredSecret
from innkeeper_vault.store import FILE_NAME, STORE_NAME
from tests.plugins.confidential_workflows.protocol.protocol_world import (
    EXECUTION,
    OWNER,
    WORKFLOW,
    new_world,
    twin,
)
from tests.plugins.vault.vault_world import METADATA, Asked, VaultWorld, call

CANARY = "canary-5f1e0c-✓"
KEY = SecretName("main", "KEY")


async def refused(vault: VaultWorld, asked: Asked) -> str:
    """Return the code of a refusal, and see that nothing was released."""
    with pytest.raises(CapabilityError) as caught:
        await vault.release(asked)
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.serialize()}"
    return caught.value.message.partition(":")[0]


@pytest.fixture(autouse=True)
def _secret(vault: VaultWorld) -> None:
    vault.store.set(OWNER, KEY, CANARY)


async def test_an_attested_execution_that_was_granted_gets_its_secrets_in_order(vault: VaultWorld) -> None:
    vault.store.set(OWNER, SecretName("other", "KEY"), "second")
    asked = vault.asked(await vault.challenge(), secrets=(("other", "KEY"), ("main", "NONE"), ("main", "KEY")))
    assert vault.opened(asked, await vault.release(asked)) == (
        OpenedSecret(namespace="other", key="KEY", value="second"),
        RefusedSecret(namespace="main", key="NONE", error="secret NONE in namespace main not found"),
        OpenedSecret(namespace="main", key="KEY", value=CANARY),
    )


async def test_the_reply_holds_no_plaintext(vault: VaultWorld) -> None:
    reply = await vault.release(vault.asked(await vault.challenge()))
    assert CANARY.encode() not in reply.SerializeToString()


async def test_only_the_owners_secrets_are_looked_at(vault: VaultWorld) -> None:
    other = "1f" * 20
    vault.store.set(other, SecretName("main", "THEIRS"), "theirs")
    asked = vault.asked(await vault.challenge(), secrets=(("main", "THEIRS"),))
    (item,) = vault.opened(asked, await vault.release(asked))
    assert item == RefusedSecret(namespace="main", key="THEIRS", error="secret THEIRS in namespace main not found")


async def test_what_the_host_refuses_is_answered_in_its_place_with_its_text_and_never_looked_up(
    vault: VaultWorld, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    looked: list[SecretName] = []
    get = vault.store.get

    def watched(owner: str, names: Sequence[SecretName]) -> list[StoredSecret | None]:
        looked.extend(names)
        return get(owner, names)

    monkeypatch.setattr(vault.store, "get", watched)
    names = (KEY, SecretName("main", "NONE"), SecretName("other", "KEY"), SecretName("main", "GONE"))
    vault.store.set(OWNER, names[2], "second")
    grant = {"refused": [(0, "denied by A"), (3, "denied by B")]}
    asked = vault.asked(await vault.challenge(), secrets=names, grant=grant)
    reply = await vault.release(asked)
    assert vault.opened(asked, reply) == (
        RefusedSecret(namespace="main", key="KEY", error="denied by A"),
        RefusedSecret(namespace="main", key="NONE", error="secret NONE in namespace main not found"),
        OpenedSecret(namespace="other", key="KEY", value="second"),
        RefusedSecret(namespace="main", key="GONE", error="denied by B"),
    )
    assert looked == [names[1], names[2]]
    written = json.loads(caplog.records[-1].getMessage().removeprefix("release "))
    assert (written["code"], written["missing"], written["refused"]) == ("ok", [1], [0, 3])


async def test_a_grant_that_refuses_everything_is_answered_by_errors_in_order(vault: VaultWorld) -> None:
    names = (SecretName("main", "NONE"), KEY)
    asked = vault.asked(await vault.challenge(), secrets=names, grant={"refused": [(0, "no"), (1, "never")]})
    assert vault.opened(asked, await vault.release(asked)) == (
        RefusedSecret(namespace="main", key="NONE", error="no"),
        RefusedSecret(namespace="main", key="KEY", error="never"),
    )


async def test_refusals_cannot_be_taken_out_of_a_grant_nor_used_with_another_request(vault: VaultWorld) -> None:
    refusing = {"refused": [(0, "denied")]}
    asked = vault.asked(await vault.challenge(), grant=refusing)
    granted = cbor2.loads(asked.request.grant.body)
    asked.request.grant.body = cbor2.dumps({**granted, "refused": []}, canonical=True)
    assert await refused(vault, asked) == "not_authorized"

    # The same two secrets the other way round: what is refused would be another one.
    other = SecretName("main", "B")
    first = vault.asked(await vault.challenge(), secrets=(KEY, other), grant=refusing)
    second = vault.asked(await vault.challenge(), secrets=(other, KEY))
    second.request.grant.CopyFrom(first.request.grant)
    assert await refused(vault, second) == "not_authorized"


async def test_a_secret_that_was_just_set_by_another_process_is_released(vault: VaultWorld) -> None:
    from innkeeper_vault.store import SecretStore

    with SecretStore(vault.folder) as store:
        store.set(OWNER, KEY, "newer")
    asked = vault.asked(await vault.challenge(), secrets=(KEY,))
    assert vault.opened(asked, await vault.release(asked)) == (
        OpenedSecret(namespace="main", key="KEY", value="newer"),
    )


async def test_a_request_is_good_once(vault: VaultWorld) -> None:
    asked = vault.asked(await vault.challenge())
    await vault.release(asked)
    assert await refused(vault, asked) == "replayed"


async def test_the_twin_of_a_used_document_is_refused(vault: VaultWorld) -> None:
    asked = vault.asked(await vault.challenge())
    await vault.release(asked)
    asked.request.attestation = twin(asked.request.attestation)
    assert await refused(vault, asked) == "replayed"


async def test_of_two_that_race_with_one_request_one_gets_it(vault: VaultWorld) -> None:
    asked = vault.asked(await vault.challenge())
    results = await asyncio.gather(*(vault.release(asked) for _ in range(4)), return_exceptions=True)
    errors = [str(result) for result in results if isinstance(result, CapabilityError)]
    assert len(errors) == 3
    assert all("replayed" in error for error in errors)


async def test_a_restart_does_not_open_a_nonce_again(vault: VaultWorld) -> None:
    used, unused = vault.asked(await vault.challenge()), vault.asked(await vault.challenge())
    await vault.release(used)
    await vault.vault.close()
    restarted = VaultWorld(vault.world, vault.folder)
    await restarted.vault.start()
    assert await refused(restarted, used) == "nonce_mismatch"
    assert await refused(restarted, unused) == "nonce_mismatch"
    await restarted.vault.close()


async def test_another_nonce_is_refused_and_uses_the_challenge_up(vault: VaultWorld) -> None:
    challenge = await vault.challenge()
    assert await refused(vault, vault.asked(challenge, nonce=b"\x00" * 32)) == "nonce_mismatch"
    assert await refused(vault, vault.asked(challenge)) == "replayed"


async def test_the_challenge_of_another_workflow_or_execution_is_refused(vault: VaultWorld) -> None:
    for workflow, execution in (("a2" * 32, EXECUTION), (WORKFLOW, "e2" * 32)):
        assert await refused(vault, vault.asked(await vault.challenge(workflow, execution))) == "nonce_mismatch"


async def test_a_challenge_that_has_run_out_is_refused(vault: VaultWorld) -> None:
    asked = vault.asked(await vault.challenge(), grant={"expires_ms": 2**50})
    vault.world.clock.forward(60)
    assert await refused(vault, asked) == "nonce_mismatch"


@pytest.mark.parametrize(
    "change", [{"challenge_id": b"\x00" * 16}, {"workflow_id": "a2" * 32}, {"execution_id": "e2" * 32}]
)
async def test_a_body_with_another_challenge_is_refused(vault: VaultWorld, change: dict[str, Any]) -> None:
    assert await refused(vault, vault.asked(await vault.challenge(), **change)) == "nonce_mismatch"


async def test_a_body_that_the_document_does_not_bind_is_refused(vault: VaultWorld) -> None:
    asked = vault.asked(await vault.challenge())
    asked.request.body = evolve(asked.body, secrets=(KEY,)).encode()
    assert await refused(vault, asked) == "user_data_mismatch"


async def test_an_enclave_with_another_configuration_is_refused(vault: VaultWorld) -> None:
    # The vault that the world signs with is not this vault.
    foreign = vault.world.config
    assert foreign != vault.config
    assert await refused(vault, vault.asked(await vault.challenge(), config_hash=foreign.hash)) == "config_mismatch"
    enclave = vault.world.enclave(config=foreign)
    assert await refused(vault, vault.asked(await vault.challenge(), enclave=enclave)) == "config_mismatch"


async def test_a_grant_that_another_signed_is_refused(vault: VaultWorld) -> None:
    stranger = Ed25519PrivateKey.generate()

    def forge(prefix: str, message: bytes) -> bytes:
        return sign(stranger, prefix, message)

    assert await refused(vault, vault.asked(await vault.challenge(), sign=forge)) == "not_authorized"

    def misuse(_: str, message: bytes) -> bytes:
        return vault.world.host_sign("cw-release/1", message)

    assert await refused(vault, vault.asked(await vault.challenge(), sign=misuse)) == "not_authorized"


@pytest.mark.parametrize(
    "grant",
    [
        {"owner": "1f" * 20},
        {"workflow_id": "a2" * 32},
        {"execution_id": "e2" * 32},
        {"binary_sha256": b"\xb2" * 32},
        {"request_sha256": b"\xb3" * 32},
        {"refused": [(2, "no")]},
        {"expires_ms": 1},
    ],
    ids=lambda grant: next(iter(grant)),
)
async def test_a_grant_of_another_execution_is_refused(vault: VaultWorld, grant: dict[str, Any]) -> None:
    assert await refused(vault, vault.asked(await vault.challenge(), grant=grant)) == "not_authorized"


async def test_no_enclave_is_pinned_that_comes_without_a_grant(vault: VaultWorld) -> None:
    stranger = evolve(vault.world, authority=Authority.create(clock=vault.world.clock)).enclave(config=vault.config)
    asked = vault.asked(await vault.challenge(), enclave=stranger, grant={"owner": "1f" * 20})
    assert await refused(vault, asked) == "not_authorized"
    asked = vault.asked(await vault.challenge(), enclave=stranger)
    asked.request.ClearField("grant")
    assert await refused(vault, asked) == "not_authorized"
    assert not (vault.folder / PIN_NAME).exists()
    # The one that the host grants something is the first that is trusted.
    await vault.release(vault.asked(await vault.challenge()))


async def test_a_request_without_a_grant_is_refused(vault: VaultWorld) -> None:
    asked = vault.asked(await vault.challenge())
    asked.request.ClearField("grant")
    assert await refused(vault, asked) == "not_authorized"


async def test_an_enclave_that_asks_for_another_owner_is_refused(vault: VaultWorld) -> None:
    vault.store.set("1f" * 20, KEY, CANARY)
    assert await refused(vault, vault.asked(await vault.challenge(), owner="1f" * 20)) == "not_authorized"


async def test_a_stale_document_is_refused(vault: VaultWorld) -> None:
    clock = vault.world.clock
    enclave = vault.enclave()
    enclave.attest()
    challenge = await vault.challenge()
    clock.forward(-301)
    asked = vault.asked(challenge, enclave=enclave)
    clock.forward(301)
    assert await refused(vault, asked) == "stale"


async def test_a_debug_enclave_is_refused(vault: VaultWorld) -> None:
    debug = vault.enclave(pcrs={index: bytes(48) for index in (0, 1, 2, 8)})
    assert await refused(vault, vault.asked(await vault.challenge(), enclave=debug)) == "debug_enclave"


async def test_a_second_measurement_is_refused(vault: VaultWorld) -> None:
    await vault.release(vault.asked(await vault.challenge()))
    other = vault.enclave(pcrs=vault.world.pcrs("two"))
    assert await refused(vault, vault.asked(await vault.challenge(), enclave=other)) == "measurement_unknown"


async def test_another_root_is_refused(vault: VaultWorld) -> None:
    await vault.release(vault.asked(await vault.challenge()))
    other = vault.enclave(authority=Authority.create(clock=vault.world.clock))
    assert await refused(vault, vault.asked(await vault.challenge(), enclave=other)) == "untrusted_chain"


async def test_a_document_without_a_key_is_refused(vault: VaultWorld) -> None:
    assert await refused(vault, vault.asked(await vault.challenge(), public_key=False)) == "malformed"


@pytest.mark.parametrize("field", ["body", "attestation"])
@pytest.mark.parametrize("value", [b"", b"\x00", b"\xff" * 100, b"\x00" * 600_000], ids=["none", "0", "ff", "much"])
async def test_any_bytes_are_a_typed_refusal(vault: VaultWorld, field: str, value: bytes) -> None:
    asked = vault.asked(await vault.challenge())
    setattr(asked.request, field, value)
    assert await refused(vault, asked) in ("malformed", "too_large")


async def test_in_production_a_simulated_enclave_is_refused(tmp_path: Path) -> None:
    world = VaultWorld(new_world(), tmp_path / "production", environment="production")
    await world.vault.start()
    world.store.set(OWNER, KEY, CANARY)
    assert await refused(world, world.asked(await world.challenge())) == "untrusted_chain"
    assert not (world.folder / PIN_NAME).exists()
    await world.vault.close()


async def test_a_host_without_a_key_grants_nothing(vault: VaultWorld) -> None:
    from innkeeper_vault.capability import VaultCapability
    from tests.plugins.vault.vault_world import LOGGER

    async def none() -> None:
        return None

    asked = vault.asked(await vault.challenge())
    vault.vault = VaultCapability(vault.store, vault.trust, host_key=none, logger=LOGGER, clock=vault.world.clock)
    assert await refused(vault, asked) == "not_authorized"


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": messages.PURPOSE_CAPABILITY},
        {"purpose": messages.PURPOSE_RESULT},
        {"execution_id": ""},
    ],
)
async def test_a_challenge_is_for_secrets_of_an_execution(vault: VaultWorld, change: dict[str, Any]) -> None:
    request = messages.ChallengeRequest(
        **{"workflow_id": WORKFLOW, "execution_id": EXECUTION, "purpose": messages.PURPOSE_SECRETS, **change}
    )
    with pytest.raises(CapabilityError, match="not_authorized"):
        await call(vault.vault, "Challenge", request, messages.Challenge)


@pytest.mark.parametrize("change", [{"purpose": 0}, {"purpose": 9}, {"workflow_id": "x"}, {"execution_id": "E1" * 32}])
async def test_a_challenge_that_is_malformed_is_refused(vault: VaultWorld, change: dict[str, Any]) -> None:
    request = messages.ChallengeRequest(
        **{"workflow_id": WORKFLOW, "execution_id": EXECUTION, "purpose": messages.PURPOSE_SECRETS, **change}
    )
    with pytest.raises(CapabilityError, match="malformed") as caught:
        await call(vault.vault, "Challenge", request, messages.Challenge)
    assert caught.value.error_code is ErrorCode.InvalidArgument


async def test_a_workflow_that_subscribes_gets_nothing_even_with_a_challenge(vault: VaultWorld) -> None:
    from innkeeper_confidential_workflows.protocol import Challenges, Purpose
    from innkeeper_vault.release import Releases

    challenges = Challenges(vault.world.clock)
    issued = challenges.issue(WORKFLOW, "", Purpose.SECRETS)
    asked = vault.asked(messages.Challenge(id=issued.id, nonce=issued.nonce), execution_id="")
    with pytest.raises(Exception, match=r"not_authorized.*subscribes"):
        Releases(vault.store, challenges, vault.trust).release(
            asked.request, host_key=vault.config.host_key, now=vault.world.clock.now
        )


async def test_its_identity_is_the_key_that_signs_and_stays(vault: VaultWorld) -> None:
    assert await vault.identity() == vault.config.vault_key
    await vault.vault.close()
    await vault.vault.start()
    assert await vault.identity() == vault.config.vault_key


async def test_an_unknown_method_and_a_wrong_message_are_refused(vault: VaultWorld) -> None:
    payload = AnyMessage()
    payload.Pack(Empty())
    for method, code in (
        ("List", ErrorCode.Unimplemented),
        ("identity", ErrorCode.Unimplemented),
        ("Release", ErrorCode.InvalidArgument),
        ("Challenge", ErrorCode.InvalidArgument),
    ):
        with pytest.raises(CapabilityError) as caught:
            await vault.vault.execute(CapabilityRequest(METADATA, VAULT_ID, method, payload))
        assert caught.value.error_code is code
    bad = AnyMessage(type_url="type.googleapis.com/innkeeper.confidential.v1.ReleaseRequest", value=b"\xff\xff")
    with pytest.raises(CapabilityError, match="malformed"):
        await vault.vault.execute(CapabilityRequest(METADATA, VAULT_ID, "Release", bad))


async def test_a_vault_that_is_damaged_while_it_runs_says_internal_and_logs_why(
    vault: VaultWorld, caplog: pytest.LogCaptureFixture
) -> None:
    asked = vault.asked(await vault.challenge())
    path = vault.folder / STORE_NAME / FILE_NAME
    other = path.with_name("other")
    other.write_bytes(b"damaged")
    other.chmod(0o600)
    other.replace(path)
    with pytest.raises(CapabilityError) as caught:
        await vault.release(asked)
    assert caught.value.error_code is ErrorCode.Internal
    assert str(path) not in str(caught.value)
    assert "file is damaged" in caplog.text


async def test_an_unforeseen_error_shows_nothing_of_its_text(
    vault: VaultWorld, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(CANARY)

    asked = vault.asked(await vault.challenge())
    monkeypatch.setattr(vault.store, "get", fail)
    with pytest.raises(CapabilityError, match="internal") as caught:
        await vault.release(asked)
    assert caught.value.__cause__ is None
    assert CANARY not in f"{caught.value!r} {caplog.text}"
    assert "RuntimeError" in caplog.text


async def test_each_decision_is_one_record_without_a_value(vault: VaultWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asked = vault.asked(await vault.challenge(), secrets=(KEY, ("main", "NONE")))
    await vault.release(asked)
    await refused(vault, asked)
    broken = vault.asked(await vault.challenge())
    broken.request.body, broken.request.attestation = b"", b""
    await refused(vault, broken)
    texts = [record.getMessage() for record in caplog.records if record.getMessage().startswith("release ")]
    good, again, none = (json.loads(text.removeprefix("release ")) for text in texts)
    assert good == {
        "code": "ok",
        "step": "",
        "workflow": WORKFLOW,
        "execution": EXECUTION,
        "owner": OWNER,
        "document": good["document"],
        "secrets": ["main/KEY", "main/NONE"],
        "missing": [1],
        "refused": [],
    }
    assert len(good["document"]) == 64
    assert again == {**good, "code": "replayed", "step": "challenge", "missing": []}
    assert (none["code"], none["workflow"], none["document"], none["secrets"]) == ("malformed", None, None, None)
    assert CANARY not in caplog.text


async def test_the_record_of_a_twin_names_the_same_statement(
    vault: VaultWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asked = vault.asked(await vault.challenge())
    await vault.release(asked)
    asked.request.attestation = twin(asked.request.attestation)
    await refused(vault, asked)
    digests = {
        json.loads(record.getMessage().removeprefix("release "))["document"]
        for record in caplog.records
        if record.getMessage().startswith("release ")
    }
    assert len(digests) == 1


async def test_what_the_capability_says_of_itself_is_what_the_manifest_declares(vault: VaultWorld) -> None:
    import innkeeper_vault
    from innkeeper_sdk.manifest import read_manifest

    manifest = read_manifest(Path(innkeeper_vault.__file__).with_name("innkeeper-provider.yaml"))
    (declared,) = manifest.capabilities
    info = vault.vault.info
    assert (info.id, info.type, info.description) == (declared.id, CapabilityType.ACTION, declared.description)
    assert {name: (m.input, m.output, m.idempotent) for name, m in info.methods.items()} == {
        name: (m.input, m.output, m.idempotent) for name, m in declared.methods.items()
    }
    assert [name for name, method in info.methods.items() if method.idempotent] == ["Identity"]


def test_every_error_is_explained() -> None:
    import innkeeper_vault
    from innkeeper_sdk.errors import InnkeeperError
    from innkeeper_sdk.manifest import read_manifest
    from innkeeper_vault import errors

    manifest = read_manifest(Path(innkeeper_vault.__file__).with_name("innkeeper-provider.yaml"))
    raised = {
        getattr(errors, name).code for name in errors.__all__ if issubclass(getattr(errors, name), InnkeeperError)
    }
    assert len(raised) == len(errors.__all__)
    assert raised == set(manifest.errors)
