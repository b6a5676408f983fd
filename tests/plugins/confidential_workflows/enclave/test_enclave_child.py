"""What an execution's calls go through: keys, opening, and that nothing that was opened leaves."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from innkeeper_confidential_workflows.enclave import child
from innkeeper_confidential_workflows.enclave.calls import ConfidentialCalls
from innkeeper_confidential_workflows.enclave.child import SealedHost
from innkeeper_confidential_workflows.enclave.names import unique_names
from innkeeper_confidential_workflows.enclave.relay import Released
from innkeeper_confidential_workflows.enclave.sealed import SealedAnswers, SealedCall, split_question
from innkeeper_confidential_workflows.protocol.bodies import SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.hashing import request_digest
from innkeeper_confidential_workflows.protocol.releases import (
    RefusedSecret,
    Release,
    ReleaseItem,
    SealedSecret,
    seal_info,
    sign_release,
)
from innkeeper_confidential_workflows.protocol.sealing import PUBLIC_KEY_BYTES, seal
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from innkeeper_wasm.driver import GuestLimits, RootCommand, Runtime
from innkeeper_wasm.driver import execution as driver_execution
from innkeeper_wasm.runtime.guest import Refused
from innkeeper_wasm.runtime.wire import Kind
from tests.plugins.confidential_workflows.enclave.enclave_world import OUT, OWNER, WORKFLOW, Guest, value_result

HOOK = "innkeeper_confidential_workflows.enclave.child:factory"
CANARY = "canary-7f3a"
NONCE = bytes(range(32))


class Vault:
    """Releases secrets, in one process with what opens them."""

    def __init__(self, **secrets: str) -> None:
        self.secrets = secrets
        self.key = Ed25519PrivateKey.generate()
        self.nonce = NONCE
        self.public_keys: list[bytes] = []

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def release(self, names: tuple[SecretName, ...], public_key: bytes) -> Released:
        self.public_keys.append(public_key)
        body = SecretsBody(
            workflow_id=WORKFLOW,
            owner=OWNER,
            execution_id="33" * 32,
            binary_sha256=bytes(32),
            request_sha256=bytes(32),
            config_hash=bytes(32),
            challenge_id=bytes(16),
            secrets=names,
        )
        items = [self._item(body, name, public_key) for name in names]
        data, signature = sign_release(
            Release(request_sha256=request_digest(body.encode()), items=tuple(items)), self.key
        )
        return Released(request=body.encode(), nonce=NONCE, release=data, signature=signature)

    def _item(self, body: SecretsBody, name: SecretName, public_key: bytes) -> ReleaseItem:
        if name.key not in self.secrets:
            return RefusedSecret(namespace=name.namespace, key=name.key, error="absent")
        sealed = seal(public_key, seal_info(body, name, 3, self.nonce), self.secrets[name.key].encode())
        return SealedSecret(namespace=name.namespace, key=name.key, version=3, sealed=sealed)


class Monitor:
    """The monitor's end, for a host that runs in this process."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.asked: list[tuple[int, bytes]] = []
        self.told: list[tuple[int, bytes]] = []
        self.change: Callable[[SealedCall], SealedCall] = lambda call: call
        self._released: dict[int, Released | None] = {}

    def ask(self, kind: int, payload: bytes) -> bytes:
        self.asked.append((kind, payload))
        if kind == Kind.GET_SECRETS:
            public_key, data = split_question(payload)
            request = sdk.GetSecretsRequest.FromString(data)
            names = unique_names(request.requests)
            self._released[request.callback_id] = self.vault.release(names, public_key) if names else None
            return b""
        if kind == Kind.AWAIT_SECRETS:
            ids = sdk.AwaitSecretsRequest.FromString(payload[8:]).ids
            calls = tuple(self.change(self._call(id_)) for id_ in ids)
            return SealedAnswers(vault_key=self.vault.public_key, calls=calls).encode()
        return b"answer"

    def tell(self, kind: int, payload: bytes) -> None:
        self.told.append((kind, payload))

    def _call(self, id_: int) -> SealedCall:
        found = self._released[id_]
        if found is None:
            return SealedCall(id=id_, request=b"", nonce=b"", release=b"", signature=b"")
        return SealedCall(
            id=id_, request=found.request, nonce=found.nonce, release=found.release, signature=found.signature
        )


def get(host: SealedHost, *names: str, call_id: int = 1) -> bytes:
    request = sdk.GetSecretsRequest(requests=[sdk.SecretRequest(id=name) for name in names], callback_id=call_id)
    return host.ask(Kind.GET_SECRETS, request.SerializeToString())


def wait(host: SealedHost, *ids: int, capacity: int = 1 << 20) -> sdk.AwaitSecretsResponse:
    request = sdk.AwaitSecretsRequest(ids=ids or (1,)).SerializeToString()
    return sdk.AwaitSecretsResponse.FromString(host.ask(Kind.AWAIT_SECRETS, struct.pack("<q", capacity) + request))


def test_secrets_come_in_the_guests_order_also_when_one_is_asked_for_twice() -> None:
    host = SealedHost(Monitor(Vault(a="1", b="2")))
    get(host, "b", "a", "b")
    responses = wait(host).responses[1].responses
    assert [(item.secret.id, item.secret.namespace, item.secret.owner, item.secret.value) for item in responses] == [
        ("b", "main", OWNER, "2"),
        ("a", "main", OWNER, "1"),
        ("b", "main", OWNER, "2"),
    ]


def test_each_item_has_its_own_error() -> None:
    host = SealedHost(Monitor(Vault(a="1")))
    get(host, "absent", "a", "")
    found = wait(host).responses[1].responses
    assert [item.WhichOneof("response") for item in found] == ["error", "secret", "error"]
    assert found[0].error.error == "absent"
    assert "1 to 64 bytes" in found[2].error.error


def test_a_request_that_names_nothing_is_answered_empty() -> None:
    host = SealedHost(Monitor(Vault()))
    get(host)
    assert list(wait(host).responses[1].responses) == []


def test_several_requests_are_awaited_at_once() -> None:
    host = SealedHost(Monitor(Vault(a="1", b="2")))
    get(host, "a", call_id=1)
    get(host, "b", call_id=-2)
    found = wait(host, -2, 1).responses
    assert {id_: item.responses[0].secret.value for id_, item in found.items()} == {1: "1", -2: "2"}


def test_one_execution_has_one_key_and_another_has_another() -> None:
    vault = Vault(a="1")
    first, second = SealedHost(Monitor(vault)), SealedHost(Monitor(vault))
    get(first, "a", call_id=1)
    get(first, "a", call_id=2)
    get(second, "a", call_id=1)
    assert vault.public_keys[0] == vault.public_keys[1] != vault.public_keys[2]
    assert all(len(key) == PUBLIC_KEY_BYTES for key in vault.public_keys)


@pytest.mark.parametrize("capacity", [-1, 0, 10])
def test_what_does_not_fit_the_guests_buffer_is_not_given_at_all(capacity: int) -> None:
    host = SealedHost(Monitor(Vault(a=CANARY)))
    get(host, "a")
    with pytest.raises(Refused, match="response buffer too small"):
        wait(host, capacity=capacity)


def test_a_response_as_large_as_the_buffer_fits() -> None:
    host = SealedHost(Monitor(Vault(a="1")))
    get(host, "a", call_id=1)
    size = len(wait(host, 1).SerializeToString())
    get(host, "a", call_id=1)
    assert wait(host, 1, capacity=size).responses[1].responses[0].secret.value == "1"
    get(host, "a", call_id=1)
    with pytest.raises(Refused, match="too small"):
        wait(host, 1, capacity=size - 1)


def _changed(**fields: Any) -> Callable[[SealedCall], SealedCall]:
    from attrs import evolve

    return lambda call: evolve(call, **{name: change(getattr(call, name)) for name, change in fields.items()})


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "change",
    [
        _changed(signature=_flip),
        _changed(signature=lambda _: b""),
        _changed(release=_flip),
        _changed(release=lambda _: b""),
        _changed(nonce=_flip),
        _changed(request=_flip),
    ],
    ids=["signature", "no signature", "release", "no release", "nonce", "request"],
)
def test_what_is_not_exactly_the_vaults_answer_is_refused_without_a_byte_of_it(change: Any) -> None:
    monitor = Monitor(Vault(a=CANARY))
    monitor.change = change
    host = SealedHost(monitor)
    get(host, "a")
    with pytest.raises(Refused, match="failed to get secrets for call 1: ") as caught:
        wait(host)
    assert CANARY.encode() not in caught.value.text


def test_a_secret_that_was_sealed_for_another_challenge_does_not_open() -> None:
    vault = Vault(a=CANARY)
    vault.nonce = bytes(32)
    host = SealedHost(Monitor(vault))
    get(host, "a")
    with pytest.raises(Refused, match="bad_signature"):
        wait(host)


def test_lines_and_metrics_go_on_without_their_content() -> None:
    monitor = Monitor(Vault())
    host = SealedHost(monitor)
    host.tell(Kind.LOG, struct.pack("<I", 1) + CANARY.encode())
    host.ask(Kind.EMIT_METRIC, CANARY.encode())
    assert monitor.told == [(Kind.LOG, struct.pack("<I", 1))]
    assert monitor.asked == [(Kind.EMIT_METRIC, b"")]


def test_other_calls_go_on_as_they_are() -> None:
    monitor = Monitor(Vault())
    host = SealedHost(monitor)
    assert host.ask(Kind.CALL_CAPABILITY, b"request") == b"answer"
    host.tell(Kind.OUTCOME, b"outcome")
    assert monitor.asked == [(Kind.CALL_CAPABILITY, b"request")]
    assert monitor.told == [(Kind.OUTCOME, b"outcome")]


def test_what_the_runtime_would_say_of_the_guest_goes_nowhere() -> None:
    monitor = Monitor(Vault())
    SealedHost(monitor).tell(Kind.NOTICE, b"user log line dropped: 1234567 bytes")
    assert monitor.told == []


def test_a_fault_while_secrets_are_opened_is_told_by_its_type_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError(CANARY)

    host = SealedHost(Monitor(Vault(a=CANARY)))
    get(host, "a")
    monkeypatch.setattr(child, "open_release", fail)
    with pytest.raises(child.SealedFaultError) as caught:
        wait(host)
    assert str(caught.value) == "ValueError"
    assert caught.value.__suppress_context__


class RelayOf:
    """A relay that leads to a vault in this process."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def secrets(self, names: tuple[SecretName, ...], public_key: bytes) -> Released:
        return self._vault.release(names, public_key)


async def test_no_byte_of_a_secret_leaves_the_process_of_its_execution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = bytearray()
    feed = driver_execution.FrameReader.feed

    def record(reader: Any, data: bytes) -> None:
        received.extend(data)
        feed(reader, data)

    monkeypatch.setattr(driver_execution.FrameReader, "feed", record)
    vault = Vault(k=CANARY)
    guest = Guest().secrets(("", "k")).call("switch_modes", 1, drop=False)
    guest.call("log", OUT, 200, drop=False).call("emit_metric", OUT, 200)
    binary = guest.answer(value_result("done")).binary()
    runtime = Runtime(tmp_path / "modules", root=RootCommand(host=HOOK))
    try:
        module = await runtime.compile(binary)
        for _ in range(2):
            calls = ConfidentialCalls(RelayOf(vault), asyncio.Semaphore(5), vault.public_key)  # type: ignore[arg-type] # the part that is used
            outcome = await runtime.execute(
                module,
                request=b"",
                callbacks=calls,
                don_seed=0,
                node_seed=0,
                deadline=asyncio.get_running_loop().time() + 30,
                limits=GuestLimits(metrics=True),
            )
            await calls.close()
            assert outcome.error is None
            assert (calls.dropped_logs, calls.dropped_metrics) == (1, 1)
        layers = runtime.stats().zygotes[0].layers
    finally:
        await runtime.close()
    assert "seccomp" in layers
    assert len(set(vault.public_keys)) == 2
    assert bytes([Kind.OUTCOME]) in received
    for form in (CANARY.encode(), CANARY.encode().hex().encode(), CANARY[:6].encode()):
        assert form not in received


async def test_the_guest_really_had_the_secret(tmp_path: Path) -> None:
    vault = Vault(k=CANARY)
    runtime = Runtime(tmp_path / "modules", root=RootCommand(host=HOOK))
    try:
        module = await runtime.compile(Guest().secrets(("", "k")).tell(100).binary())
        calls = ConfidentialCalls(RelayOf(vault), asyncio.Semaphore(5), vault.public_key)  # type: ignore[arg-type] # the part that is used
        await runtime.execute(
            module,
            request=b"",
            callbacks=calls,
            don_seed=0,
            node_seed=0,
            deadline=asyncio.get_running_loop().time() + 30,
        )
    finally:
        await runtime.close()
    assert calls.result is not None
    assert CANARY in calls.result.error
