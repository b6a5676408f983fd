"""The monitor's side of a confidential guest's calls, and the requests that come of them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from innkeeper_confidential_workflows.enclave.calls import ConfidentialCalls
from innkeeper_confidential_workflows.enclave.executions import (
    EnclaveParts,
    Executions,
    Tally,
    default_slots,
)
from innkeeper_confidential_workflows.enclave.relay import Identity, Relay, Released
from innkeeper_confidential_workflows.enclave.reservations import Reservations
from innkeeper_confidential_workflows.enclave.sealed import SealedAnswers
from innkeeper_confidential_workflows.nsm.messages import ErrorCode as NsmCode
from innkeeper_confidential_workflows.nsm.messages import NsmError
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as pb
from innkeeper_confidential_workflows.protocol.bodies import CapabilityBody, ResultBody, SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig
from innkeeper_confidential_workflows.protocol.hashing import user_data_of
from innkeeper_sdk.capability import CapabilityError, ErrorCode, ErrorVisibility, Origin
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from innkeeper_wasm.driver import CallRefused
from tests.plugins.confidential_workflows.enclave.enclave_world import OWNER, WORKFLOW, work

EXECUTION = "33" * 32
BINARY = bytes([7]) * 32
REQUEST = bytes([8]) * 32
CONFIG = EnclaveConfig(host_key=bytes(32), vault_key=bytes([1]) * 32)
KEY = bytes(44)
CHALLENGE = pb.Challenge(id=bytes(16), nonce=bytes([9]) * 32)


class Link:
    """Answers with what a test says, and remembers what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"Challenge": CHALLENGE, "Clock": pb.ClockReply(time_ns=5), **answers}
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []

    async def ask(self, method: str, payload: bytes, **who: str) -> bytes:
        self.asked.append((method, payload, who))
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, bytes) else bytes(answer.SerializeToString())


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
        return b"document"


def relay(link: Link, attester: Attester | None = None, execution_id: str = EXECUTION) -> Relay:
    identity = Identity(
        workflow_id=WORKFLOW,
        owner=OWNER,
        execution_id=execution_id,
        binary_sha256=BINARY,
        request_sha256=REQUEST,
    )
    return Relay(link, attester or Attester(), identity, CONFIG.hash)  # type: ignore[arg-type] # the part that is used


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
    assert request.attestation == b"document"
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
        {"SecretsGet": b"\xff"},
        {"Clock": b"\xff"},
    ],
    ids=["challenge id", "challenge", "release", "clock"],
)
async def test_what_the_host_answers_badly_is_a_typed_error(answers: dict[str, Any]) -> None:
    asked = relay(Link(**{"SecretsGet": pb.ReleaseReply(), **answers}))
    question = asked.time(don=True) if "Clock" in answers else asked.secrets((SecretName("main", "k"),), KEY)
    with pytest.raises(CapabilityError):
        await question


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
    await made.call_capability(sdk.CapabilityRequest(id="a@1.0.0", method="m", callback_id=1).SerializeToString())
    answered = await made.await_capabilities(sdk.AwaitCapabilitiesRequest(ids=[1]).SerializeToString())
    told = sdk.AwaitCapabilitiesResponse.FromString(answered).responses[1].error
    assert told == f"Public:System:{error.error_code.name}:internal: the host could not answer"
    with pytest.raises(CapabilityError) as late:
        await made.now(1)
    assert "vault" not in late.value.message
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
