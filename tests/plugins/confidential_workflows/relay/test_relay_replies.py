"""What the relay signs: the answers to calls and readings of the time, each for the request whose bytes came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from google.protobuf.wrappers_pb2 import BytesValue

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import CapabilityBody, Reply, check_reply
from innkeeper_confidential_workflows.protocol import replies as protocol_replies
from innkeeper_confidential_workflows.relay import capability as relay_capability
from innkeeper_sdk.capability import CapabilityError, ErrorCode
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from tests.plugins.confidential_workflows.relay.relay_world import (
    OTHER,
    RESULT,
    FakeHelper,
    HostKey,
    RelayWorld,
    clock_request,
    packed,
)

Sent = messages.AttestedRequest | messages.ClockRequest


def check(world: RelayWorld, method: str, sent: Sent, reply: messages.SignedReply, **changes: Any) -> bytes:
    """Check a reply as the enclave does."""
    content: dict[str, Any] = {"host_key": world.host_key.public_key, "method": method, "request": packed(sent).value}
    return check_reply(reply.body, reply.signature, **{**content, **changes})


async def replied(world: RelayWorld, method: str, **changes: Any) -> tuple[Sent, messages.SignedReply]:
    """Return a request of a method and its reply."""
    sent: Sent = clock_request(**changes) if method == "Clock" else await world.request(CapabilityBody)
    return sent, await world.ask(method, sent, messages.SignedReply)


BOTH = pytest.mark.parametrize("method", ["CapabilityExecute", "Clock"])


@BOTH
async def test_an_answer_is_signed_by_the_host_for_the_request_that_came(running: RelayWorld, method: str) -> None:
    sent, reply = await replied(running, method)
    assert check(running, method, sent, reply)


@BOTH
async def test_another_hosts_key_has_not_signed_it(running: RelayWorld, method: str) -> None:
    sent, reply = await replied(running, method)
    with pytest.raises(AttestationError, match="bad_signature"):
        check(running, method, sent, reply, host_key=HostKey().public_key)


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        lambda reply: messages.SignedReply(
            body=evolve(Reply.decode(reply.body), answer=b"").encode(), signature=reply.signature
        ),
        lambda reply: messages.SignedReply(body=reply.body),
    ],
    ids=["altered", "unsigned"],
)
async def test_an_answer_that_was_altered_on_its_way_is_not_the_hosts(
    running: RelayWorld, method: str, change: Callable[[messages.SignedReply], messages.SignedReply]
) -> None:
    sent, reply = await replied(running, method)
    with pytest.raises(AttestationError, match="bad_signature"):
        check(running, method, sent, change(reply))


async def test_the_answers_of_two_equal_calls_are_not_each_others(running: RelayWorld) -> None:
    one, first = await replied(running, "CapabilityExecute")
    two, second = await replied(running, "CapabilityExecute")
    for sent, reply in ((one, second), (two, first)):
        with pytest.raises(AttestationError, match="another request") as caught:
            check(running, "CapabilityExecute", sent, reply)
        assert caught.value.code is Code.BAD_SIGNATURE


async def test_an_older_time_is_not_the_answer_to_a_later_reading(running: RelayWorld) -> None:
    _, older = await replied(running, "Clock")
    later, _ = await replied(running, "Clock", nonce=bytes(16))
    with pytest.raises(AttestationError, match="another request"):
        check(running, "Clock", later, older)


async def test_an_answer_is_of_one_method(running: RelayWorld) -> None:
    sent, reply = await replied(running, "Clock")
    with pytest.raises(AttestationError, match="another method"):
        check(running, "CapabilityExecute", sent, reply)


@pytest.mark.parametrize("size", [0, 15, 17, 4096])
async def test_a_reading_without_a_whole_nonce_is_refused(running: RelayWorld, size: int) -> None:
    with pytest.raises(CapabilityError, match="malformed: the nonce") as caught:
        await replied(running, "Clock", nonce=bytes(size))
    assert caught.value.error_code is ErrorCode.InvalidArgument


@pytest.mark.parametrize("digest", [b"", RESULT])
async def test_a_reading_for_another_request_than_the_live_one_is_refused(running: RelayWorld, digest: bytes) -> None:
    with pytest.raises(CapabilityError, match=r"not_authorized: .* another request"):
        await replied(running, "Clock", request_sha256=digest)


async def test_nothing_is_signed_that_is_refused(running: RelayWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[str] = []

    def sign(prefix: str, _: bytes) -> bytes:
        signed.append(prefix)
        return bytes(64)

    monkeypatch.setattr(running.host_key, "sign", sign)
    call = await running.request(CapabilityBody)
    call.attestation = call.attestation[:-1] + bytes([call.attestation[-1] ^ 1])
    for method, sent in (("CapabilityExecute", call), ("Clock", clock_request(workflow_id=OTHER))):
        with pytest.raises(CapabilityError):
            await running.ask(method, sent, messages.SignedReply)
    assert not signed
    await replied(running, "Clock")
    assert signed == ["cw-reply/1"]


async def test_an_answer_that_no_frame_holds_is_the_error_of_its_call(
    running: RelayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = sdk.CapabilityResponse(payload=packed(BytesValue(value=bytes(2000))))

    async def large(_: FakeHelper, __: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        return answer

    monkeypatch.setattr(FakeHelper, "call_capability", large)
    monkeypatch.setattr(relay_capability, "MAX_ANSWER_BYTES", answer.ByteSize())
    assert await running.call() == answer
    monkeypatch.setattr(relay_capability, "MAX_ANSWER_BYTES", answer.ByteSize() - 1)
    told = await running.call()
    assert told.error.startswith("Public:System:ResourceExhausted:the answer has ")
    assert relay_capability.MAX_ANSWER_BYTES < protocol_replies.MAX_ANSWER_BYTES
