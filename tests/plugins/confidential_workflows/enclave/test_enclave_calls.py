"""The monitor's side of a confidential guest's calls, and the requests that come of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import Message

from innkeeper_confidential_workflows.enclave.calls import ConfidentialCalls
from innkeeper_confidential_workflows.enclave.executions import (
    EnclaveParts,
    Executions,
    Tally,
    default_slots,
)
from innkeeper_confidential_workflows.enclave.relay import HostFailedError, Identity, Relay, Released
from innkeeper_confidential_workflows.enclave.reservations import Reservations
from innkeeper_confidential_workflows.enclave.sealed import SealedAnswers
from innkeeper_confidential_workflows.nsm.messages import ErrorCode as NsmCode
from innkeeper_confidential_workflows.nsm.messages import NsmError
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as pb
from innkeeper_confidential_workflows.protocol.bodies import CapabilityBody, ResultBody, SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig
from innkeeper_confidential_workflows.protocol.hashing import request_digest, user_data_of
from innkeeper_confidential_workflows.protocol.replies import Reply, sign_reply
from innkeeper_confidential_workflows.protocol.signatures import sign
from innkeeper_sdk.capability import CapabilityError, ErrorCode, ErrorVisibility, Origin
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from innkeeper_wasm.driver import CallRefused
from tests.plugins.confidential_workflows.enclave.enclave_world import OWNER, WORKFLOW, work

EXECUTION = "33" * 32
BINARY = bytes([7]) * 32
REQUEST = bytes([8]) * 32
HOST = Ed25519PrivateKey.generate()
CONFIG = EnclaveConfig(host_key=HOST.public_key().public_bytes_raw(), vault_key=bytes([1]) * 32)
KEY = bytes(44)
CHALLENGE = pb.Challenge(id=bytes(16), nonce=bytes([9]) * 32)


def signed(method: str, request: bytes, answer: Message | bytes, key: Ed25519PrivateKey = HOST) -> pb.SignedReply:
    """Return an answer as the relay gives it."""
    data = answer if isinstance(answer, bytes) else answer.SerializeToString()
    reply = Reply(method=method, request_sha256=request_digest(request), answer=data)
    body, signature = sign_reply(reply, lambda prefix, message: sign(key, prefix, message))
    return pb.SignedReply(body=body, signature=signature)


class Link:
    """Answers with what a test says, and remembers what it was asked.

    What the relay would sign is signed, but for bytes, which go as they are.
    """

    change: Callable[[str, bytes, pb.SignedReply], pb.SignedReply] | None = None

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"Challenge": CHALLENGE, "Clock": pb.ClockReply(time_ns=5), **answers}
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []

    async def ask(self, method: str, payload: bytes, **who: str) -> bytes:
        self.asked.append((method, payload, who))
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, bytes):
            return answer
        if method in ("CapabilityExecute", "Clock"):
            reply = signed(method, payload, answer)
            answer = reply if self.change is None else self.change(method, payload, reply)
        return bytes(answer.SerializeToString())


class Attester:
    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem
        self.asked: list[tuple[bytes | None, bytes | None, bytes | None]] = []

    def attest(
        self, *, user_data: bytes | None = None, nonce: bytes | None = None, public_key: bytes | None = None
    ) -> bytes:
        if self.problem is not None:
            raise self.problem
        self.asked.append((user_data, nonce, public_key))
        return b"document %d" % len(self.asked)


def relay(link: Link, attester: Attester | None = None, execution_id: str = EXECUTION) -> Relay:
    identity = Identity(
        workflow_id=WORKFLOW,
        owner=OWNER,
        execution_id=execution_id,
        binary_sha256=BINARY,
        request_sha256=REQUEST,
    )
    return Relay(link, attester or Attester(), identity, CONFIG)  # type: ignore[arg-type] # the part that is used


async def test_secrets_are_asked_for_by_a_challenge_a_body_and_a_document() -> None:
    link = Link(SecretsGet=pb.ReleaseReply(body=b"release", signature=b"signature"))
    attester = Attester()
    released = await relay(link, attester).secrets((SecretName("main", "k"),), KEY)
    (method, data, who), (second, sent, _) = link.asked
    assert (method, second) == ("Challenge", "SecretsGet")
    assert pb.ChallengeRequest.FromString(data) == pb.ChallengeRequest(
        workflow_id=WORKFLOW, execution_id=EXECUTION, purpose=pb.PURPOSE_SECRETS
    )
    assert who == {"workflow_id": WORKFLOW, "owner": OWNER, "execution_id": EXECUTION}
    request = pb.AttestedRequest.FromString(sent)
    body = SecretsBody.decode(request.body)
    assert body.secrets == (SecretName("main", "k"),)
    assert (body.owner, body.binary_sha256, body.config_hash) == (OWNER, BINARY, CONFIG.hash)
    assert body.request_sha256 == REQUEST
    assert attester.asked == [(user_data_of(SecretsBody.METHOD, request.body), CHALLENGE.nonce, KEY)]
    assert request.attestation == b"document 1"
    assert released == Released(request=request.body, nonce=CHALLENGE.nonce, release=b"release", signature=b"signature")


async def test_only_a_request_for_secrets_shows_a_key() -> None:
    attester = Attester()
    link = Link(ResultSubmit=b"", CapabilityExecute=sdk.CapabilityResponse(error="x"))
    await relay(link, attester).result(bytes(32))
    await relay(link, attester).capability(sdk.CapabilityRequest(id="a@1.0.0", method="m", callback_id=1))
    assert [key for _, _, key in attester.asked] == [None, None]
    purposes = [pb.ChallengeRequest.FromString(data).purpose for method, data, _ in link.asked if method == "Challenge"]
    assert purposes == [pb.PURPOSE_RESULT, pb.PURPOSE_CAPABILITY]
    bodies = [pb.AttestedRequest.FromString(data).body for method, data, _ in link.asked if method != "Challenge"]
    assert isinstance(ResultBody.decode(bodies[0]), ResultBody)
    assert CapabilityBody.decode(bodies[1]).reference_id == "1"


@pytest.mark.parametrize(
    "answers",
    [
        {"Challenge": pb.Challenge(id=b"short", nonce=bytes(32))},
        {"Challenge": b"\xff"},
        {"Challenge": pb.Challenge(id=bytes(16), nonce=bytes(33))},
        {"SecretsGet": b"\xff"},
    ],
    ids=["challenge id", "challenge", "nonce", "release"],
)
async def test_what_the_host_answers_badly_is_a_typed_error(answers: dict[str, Any]) -> None:
    asked = relay(Link(**{"SecretsGet": pb.ReleaseReply(), **answers}))
    with pytest.raises(CapabilityError):
        await asked.secrets((SecretName("main", "k"),), KEY)
    assert asked.fault is None


async def test_an_nsm_that_is_lost_is_a_typed_error() -> None:
    attester = Attester(NsmError(NsmCode.INTERNAL_ERROR, "the NSM was lost"))
    with pytest.raises(CapabilityError) as caught:
        await relay(Link(), attester).result(bytes(32))
    assert caught.value.error_code is ErrorCode.Internal


# Calls


def calls(link: Link, pool: int = 5) -> ConfidentialCalls:
    return ConfidentialCalls(relay(link), asyncio.Semaphore(pool), CONFIG.vault_key)


def question(*names: str, call_id: int = 1) -> bytes:
    requests = [sdk.SecretRequest(id=name) for name in names]
    return KEY + sdk.GetSecretsRequest(requests=requests, callback_id=call_id).SerializeToString()


def awaited(*ids: int) -> bytes:
    return sdk.AwaitSecretsRequest(ids=ids).SerializeToString()


async def test_answers_are_handed_over_unopened_with_what_opens_them() -> None:
    made = calls(Link(SecretsGet=pb.ReleaseReply(body=b"release", signature=b"signature")))
    await made.get_secrets(question("k"))
    answers = SealedAnswers.decode(await made.await_secrets(awaited(1)))
    assert answers.vault_key == CONFIG.vault_key
    (call,) = answers.calls
    assert (call.id, call.nonce, call.release, call.signature) == (1, CHALLENGE.nonce, b"release", b"signature")
    assert SecretsBody.decode(call.request).secrets == (SecretName("main", "k"),)
    await made.close()


async def test_ids_are_burned_as_in_the_open() -> None:
    made = calls(Link(SecretsGet=pb.ReleaseReply()))
    await made.get_secrets(question("k"))
    with pytest.raises(CallRefused, match="error calling getSecretsAsync: duplicate callback id not allowed"):
        await made.get_secrets(question("k"))
    await made.await_secrets(awaited(1))
    with pytest.raises(CallRefused, match="failed to get call from store : 1"):
        await made.await_secrets(awaited(1))
    with pytest.raises(CallRefused, match="failed to get call from store : 7"):
        await made.await_secrets(awaited(7))
    await made.close()


async def test_a_refused_request_fails_the_await_with_the_texts_of_the_open() -> None:
    made = calls(Link(SecretsGet=CapabilityError("too many", error_code=ErrorCode.LimitExceeded, origin=Origin.USER)))
    await made.get_secrets(question("k"))
    with pytest.raises(CallRefused, match=r"failed to get secrets for call 1: \[101\]LimitExceeded: too many"):
        await made.await_secrets(awaited(1))
    await made.close()


@pytest.mark.parametrize(
    "error",
    [
        CapabilityError("capability vault@1.0.0 is not available", error_code=ErrorCode.Unavailable),
        CapabilityError("there is no vault@1.0.0 for confidential-workflows", error_code=ErrorCode.FailedPrecondition),
        CapabilityError("not_authorized: vault@1.0.0 says", visibility=ErrorVisibility.PRIVATE),
        CapabilityError("vault@1.0.0 at unix:/run/x.sock", origin=Origin.USER, visibility=ErrorVisibility.PRIVATE),
    ],
)
async def test_a_guest_is_told_nothing_of_the_parts_of_its_host(
    error: CapabilityError, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link(SecretsGet=error, CapabilityExecute=error, Clock=error)
    made = calls(link)
    await made.get_secrets(question("k"))
    with pytest.raises(CallRefused, match="internal: the host could not answer") as refused:
        await made.await_secrets(awaited(1))
    assert "vault" not in refused.value.text
    for waiting in (called(made), made.now(1)):
        with pytest.raises(HostFailedError) as late:
            await waiting
        assert "vault" not in str(late.value)
    fault = made._relay.fault
    assert fault is not None
    assert fault.serialize() == f"Public:System:{error.error_code.name}:internal: the host could not answer"
    assert "vault" not in caplog.text
    await made.close()


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, KEY + b"\xff"])
async def test_what_an_execution_that_broke_out_asks_is_refused(data: bytes) -> None:
    link = Link(SecretsGet=CapabilityError("no key", error_code=ErrorCode.PermissionDenied))
    made = calls(link)
    try:
        await made.get_secrets(data)
        # Nothing is named, so nobody is asked.
        assert SealedAnswers.decode(await made.await_secrets(awaited(0))).calls[0].request == b""
    except CallRefused:
        assert link.asked == []
    await made.close()


async def test_lines_and_metrics_are_counted_and_metrics_not_taken() -> None:
    made = calls(Link())
    made.log(1, b"")
    made.log(2, b"")
    assert await made.emit_metric(b"") == -1
    assert (made.dropped_logs, made.dropped_metrics) == (2, 1)


async def test_each_mode_has_its_time() -> None:
    link = Link()
    made = calls(link)
    assert [await made.now(1), await made.now(2), await made.node_time()] == [5, 5, 5]
    assert [pb.ClockRequest.FromString(data).don for _, data, _ in link.asked] == [True, False, False]


async def test_what_is_not_awaited_is_cancelled_with_the_execution() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    class Slow(Link):
        async def ask(self, method: str, payload: bytes, **who: str) -> bytes:
            started.set()
            try:
                return await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.set()
                raise

    made = calls(Slow())
    await made.get_secrets(question("k"))
    await started.wait()
    await made.close()
    assert cancelled.is_set()


# Replies


def capability(call_id: int = 1, method: str = "m") -> sdk.CapabilityRequest:
    return sdk.CapabilityRequest(id="a@1.0.0", method=method, callback_id=call_id)


async def called(made: ConfidentialCalls, call_id: int = 1) -> sdk.CapabilityResponse:
    """Call a capability as a guest does, and return what it is told."""
    await made.call_capability(capability(call_id).SerializeToString())
    answers = await made.await_capabilities(sdk.AwaitCapabilitiesRequest(ids=[call_id]).SerializeToString())
    return sdk.AwaitCapabilitiesResponse.FromString(answers).responses[call_id]


def altered(_: str, __: bytes, reply: pb.SignedReply) -> pb.SignedReply:
    # The answer alone: it is still to this request.
    changed = evolve(Reply.decode(reply.body), answer=b"")
    return pb.SignedReply(body=changed.encode(), signature=reply.signature)


def unsigned(_: str, __: bytes, reply: pb.SignedReply) -> pb.SignedReply:
    return pb.SignedReply(body=reply.body)


def of_another_key(method: str, request: bytes, _: pb.SignedReply) -> pb.SignedReply:
    answer = pb.ClockReply(time_ns=6) if method == "Clock" else sdk.CapabilityResponse(error="invented")
    return signed(method, request, answer, Ed25519PrivateKey.generate())


def of_another_method(_: str, request: bytes, __: pb.SignedReply) -> pb.SignedReply:
    return signed("Other", request, b"")


def of_another_request(method: str, request: bytes, _: pb.SignedReply) -> pb.SignedReply:
    return signed(method, request + b"x", b"")


class Replaying:
    """Gives every question the reply to the first one."""

    def __init__(self) -> None:
        self.first: dict[str, pb.SignedReply] = {}

    def __call__(self, method: str, _: bytes, reply: pb.SignedReply) -> pb.SignedReply:
        return self.first.setdefault(method, reply)


FORGED = pytest.mark.parametrize("change", [altered, unsigned, of_another_key, of_another_method, of_another_request])


def ended(asked: Relay, code: str = "bad_signature") -> None:
    """Check that an execution has to end, and why."""
    assert asked.fault is not None
    assert asked.fault.message.startswith(f"{code}: ")
    assert asked.fault.error_code is ErrorCode.Internal
    assert (asked.fault.origin, asked.fault.visibility) == (Origin.SYSTEM, ErrorVisibility.PUBLIC)


@FORGED
async def test_a_guest_is_not_told_the_answer_to_a_call_that_the_host_has_not_signed(
    change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link(CapabilityExecute=sdk.CapabilityResponse(error="canary"))
    link.change = change
    made = calls(link)
    with pytest.raises(HostFailedError) as caught:
        await called(made)
    ended(made._relay)
    assert "bad_signature" in caplog.text
    for hidden in ("canary", "invented"):
        assert hidden not in f"{caught.value!r} {made._relay.fault} {caplog.text}"
    await made.close()


@FORGED
@pytest.mark.parametrize("don", [True, False])
async def test_a_guest_is_not_told_a_time_that_the_host_has_not_signed(change: Any, don: bool) -> None:
    link = Link()
    link.change = change
    asked = relay(link)
    with pytest.raises(HostFailedError):
        await asked.time(don=don)
    ended(asked)


@pytest.mark.parametrize("junk", [b"\xff", b"", pb.ClockReply(time_ns=6).SerializeToString()])
async def test_what_is_no_reply_ends_the_execution(junk: bytes) -> None:
    asked = relay(Link(Clock=junk, CapabilityExecute=junk))
    for question in (asked.time(don=True), asked.capability(capability())):
        with pytest.raises(HostFailedError):
            await question
    assert asked.fault is not None


async def test_what_the_host_has_signed_and_is_no_answer_ends_the_execution() -> None:
    link = Link()
    link.change = lambda method, request, _: signed(method, request, b"\xff")
    asked = relay(link)
    with pytest.raises(HostFailedError):
        await asked.time(don=True)
    assert asked.fault is not None
    assert asked.fault.message == "the relay has answered with what is no ClockReply"


async def test_an_older_time_is_not_taken_again() -> None:
    link = Link()
    link.change = Replaying()
    asked = relay(link)
    assert await asked.time(don=True) == 5
    with pytest.raises(HostFailedError):
        await asked.time(don=True)
    ended(asked)
    first, second = (pb.ClockRequest.FromString(data) for _, data, _ in link.asked)
    assert first.nonce != second.nonce
    assert {len(first.nonce), len(second.nonce)} == {16}
    assert first.request_sha256 == second.request_sha256 == REQUEST


async def test_an_older_answer_is_not_taken_again_though_call_and_challenge_are_the_same() -> None:
    link = Link(CapabilityExecute=sdk.CapabilityResponse(error="first"))
    link.change = Replaying()
    attester = Attester()
    # Another attempt of the same execution, whose parent hands out the challenge of the first one.
    first, second = relay(link, attester), relay(link, attester)
    assert (await first.capability(capability())).error == "first"
    with pytest.raises(HostFailedError):
        await second.capability(capability())
    ended(second)
    bodies = [pb.AttestedRequest.FromString(data).body for method, data, _ in link.asked if method != "Challenge"]
    assert bodies[0] == bodies[1]


async def test_answers_of_two_calls_that_were_swapped_are_not_taken() -> None:
    waiting: dict[int, asyncio.Future[bytes]] = {}
    both = asyncio.Event()

    class Swapping(Link):
        async def ask(self, method: str, payload: bytes, **who: str) -> bytes:
            reply = await super().ask(method, payload, **who)
            if method == "CapabilityExecute":
                mine = len(waiting)
                waiting[mine] = asyncio.get_running_loop().create_future()
                waiting[mine].set_result(reply)
                if len(waiting) == 2:
                    both.set()
                await both.wait()
                return await waiting[1 - mine]
            return reply

    link = Swapping(CapabilityExecute=sdk.CapabilityResponse(error="one"))
    made = calls(link)
    for call_id in (1, 2):
        await made.call_capability(capability(call_id).SerializeToString())
    for call_id in (1, 2):
        with pytest.raises(HostFailedError):
            await made.await_capabilities(sdk.AwaitCapabilitiesRequest(ids=[call_id]).SerializeToString())
    ended(made._relay)
    await made.close()


@pytest.mark.parametrize("method", ["Challenge", "CapabilityExecute"])
async def test_a_refusal_that_nobody_signs_is_not_told_as_the_answer_to_a_call(method: str) -> None:
    refusal = CapabilityError("invented", error_code=ErrorCode.NotFound, origin=Origin.USER)
    made = calls(Link(**{method: refusal}))
    with pytest.raises(HostFailedError):
        await called(made)
    assert made._relay.fault is refusal
    await made.close()


async def test_a_challenge_that_is_made_up_is_not_told_as_the_failure_of_a_call() -> None:
    made = calls(Link(Challenge=pb.Challenge(id=b"short", nonce=bytes(32))))
    with pytest.raises(HostFailedError):
        await called(made)
    ended(made._relay, "malformed")
    await made.close()


async def test_a_call_that_cannot_be_sent_is_the_guests_own_failure() -> None:
    link = Link(CapabilityExecute=sdk.CapabilityResponse(error="one"))
    made = calls(link)
    await made.call_capability(capability(method="m" * 5000).SerializeToString())
    answers = await made.await_capabilities(sdk.AwaitCapabilitiesRequest(ids=[1]).SerializeToString())
    assert "too_large: " in sdk.AwaitCapabilitiesResponse.FromString(answers).responses[1].error
    assert made._relay.fault is None
    await made.close()


# Slots


class Never:
    """A link whose answers never come."""

    async def read(self, locator: str, offset: int) -> Any:
        return await asyncio.get_running_loop().create_future()


def executions(slots: int) -> Executions:
    parts = EnclaveParts(link=Never(), attester=Attester(), config=CONFIG, runtime=None)  # type: ignore[arg-type] # not reached
    import logging
    import time

    return Executions(parts, reservations=Reservations(time.monotonic), slots=slots, logger=logging.getLogger("tests"))


async def test_more_executions_than_there_are_slots_fail_at_once() -> None:
    enclave = executions(2)
    running = [asyncio.create_task(enclave.execute(data, 30, Tally())) for data in _requests(2)]
    await asyncio.sleep(0)
    (third,) = _requests(1, first=10)
    with pytest.raises(CapabilityError, match="rate_limited: ") as caught:
        await enclave.execute(third, 30, Tally())
    assert caught.value.error_code is ErrorCode.ResourceExhausted
    running[0].cancel()
    await asyncio.gather(running[0], return_exceptions=True)
    again = asyncio.create_task(enclave.execute(third, 30, Tally()))
    await asyncio.sleep(0)
    assert not again.done()
    for task in (running[1], again):
        task.cancel()
    await asyncio.gather(running[1], again, return_exceptions=True)


async def test_a_fault_that_no_rule_foresees_says_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def read(self, locator: str, offset: int) -> Any:
            raise RuntimeError("canary")

    enclave = executions(1)
    enclave._binaries._link = Broken()  # type: ignore[assignment] # the part that is used
    (data,) = _requests(1)
    with pytest.raises(CapabilityError) as caught:
        await enclave.execute(data, 30, Tally())
    assert caught.value.message == "internal: the enclave failed"
    assert "RuntimeError at test_enclave_calls.py" in caplog.text
    assert "canary" not in caplog.text


def _requests(count: int, first: int = 1) -> list[bytes]:
    return [work(b"binary", first + number).SerializeToString() for number in range(count)]


def test_the_number_of_slots_is_that_of_this_machine() -> None:
    assert 1 <= default_slots() <= 64


def test_a_digest_is_of_the_bytes_as_they_came() -> None:
    from innkeeper_confidential_workflows.enclave.requests import read_request

    data = work(b"binary").SerializeToString()
    assert read_request(data).identity.request_sha256 == hashlib.sha256(data).digest()
