"""Executions in a real enclave: launcher, monitor and guests, answered by the real verifier."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowResponse,
)
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1.protocol_pb2 import (
    ClockRequest,
    ReleaseReply,
    SignedReply,
)
from innkeeper_confidential_workflows.protocol.bodies import MAX_SECRETS, CapabilityBody, SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.releases import Release, sign_release
from innkeeper_confidential_workflows.protocol.replies import Reply
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from innkeeper_sdk.values import unwrap
from tests.plugins.confidential_workflows.enclave.enclave_world import (
    OWNER,
    WORKFLOW,
    Guest,
    World,
    descendants,
    ends,
    hello,
    value_result,
    work,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

_executions = itertools.count(1)


@pytest.fixture(autouse=True)
def as_it_was(shared: World) -> Iterator[None]:
    """Have every test find the host as the first one did."""
    yield
    host = shared.host
    host.on_capability = host.change_release = host.change_reply = None
    host.secrets.clear()
    host.artifacts.clear()


def new() -> int:
    return next(_executions)


def secret_responses(*secrets: tuple[str, str]) -> sdk.AwaitSecretsResponse:
    """Return what a guest is told of these keys and values, asked for as call 1."""
    response = sdk.AwaitSecretsResponse()
    for key, value in secrets:
        secret = sdk.Secret(id=key, namespace="main", owner=OWNER, value=value)
        response.responses[1].responses.append(sdk.SecretResponse(secret=secret))
    return response


def echo(guest: Guest, told: int) -> bytes:
    return guest.tell(told).binary()


def told(result: sdk.ExecutionResult) -> bytes:
    return result.error.encode()


# Running


@pytest.mark.parametrize("kind", ["trigger", "pre_hook", "subscribe"])
async def test_a_guest_runs_and_its_result_comes_in_both_forms(shared: World, kind: str) -> None:
    binary = shared.host.add(hello())
    assert await shared.run(work(binary, new(), kind=kind)) == value_result("hello")


@pytest.mark.parametrize("form", ["execute_request", "sdk_execute_request"])
async def test_either_form_of_the_request_runs(shared: World, form: str) -> None:
    binary = shared.host.add(hello())
    assert await shared.run(work(binary, new(), **{form: None})) == value_result("hello")


async def test_two_forms_that_differ_run_nothing(shared: World) -> None:
    binary = shared.host.add(hello("differ"))
    request = work(binary, new(), execute_request=work(binary, kind="pre_hook").execution.execute_request)
    error = await shared.failure(request)
    assert "execute_request and sdk_execute_request differ" in error.message
    assert not shared.host.requests or shared.host.requests[-1].method != "Read"


async def test_a_binary_is_fetched_once_in_parts_and_kept(shared: World) -> None:
    binary = shared.host.add(hello("x") + _custom_section(2_500_000))
    before = shared.host.reads
    for _ in range(2):
        await shared.run(work(binary, new()))
    assert shared.host.reads - before == 3


def _custom_section(length: int) -> bytes:
    """Return a section of a binary that is not compiled, to make it longer."""
    content = b"\x01x" + bytes(length)
    size, encoded = len(content), b""
    while size >= 128:
        encoded, size = encoded + bytes([size & 0x7F | 0x80]), size >> 7
    return b"\0" + encoded + bytes([size]) + content


async def test_many_that_want_one_binary_fetch_it_once(shared: World) -> None:
    binary = shared.host.add(hello("many"))
    before = shared.host.reads
    results = await asyncio.gather(*(shared.run(work(binary, new())) for _ in range(8)))
    assert results == [value_result("many")] * 8
    assert shared.host.reads - before == 1


# The binary


async def test_another_binary_than_the_request_names_is_refused_before_it_is_compiled(shared: World) -> None:
    wanted, other = hello("wanted"), b"\0asm no compiler takes this"
    locator = f"artifact:sha256/{hashlib.sha256(wanted).hexdigest()}"
    shared.host.artifacts[locator] = other
    error = await shared.failure(work(wanted, number := new()))
    assert "binary hash mismatch" in error.message
    assert error.error_code is ErrorCode.FailedPrecondition
    assert error.origin is Origin.SYSTEM
    # Nothing of it was kept: the right binary runs, under the same id too.
    shared.host.artifacts[locator] = wanted
    assert await shared.run(work(wanted, number)) == value_result("wanted")


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b""], ids=["cut", "longer", "empty"]
)
async def test_a_binary_that_differs_by_a_byte_is_refused(shared: World, change: Any) -> None:
    wanted = hello(f"byte {change(b'ab')!r}")
    shared.host.artifacts[f"artifact:sha256/{hashlib.sha256(wanted).hexdigest()}"] = change(wanted)
    assert "binary hash mismatch" in (await shared.failure(work(wanted, new()))).message


async def test_a_locator_of_another_digest_is_refused_without_a_read(shared: World) -> None:
    binary = shared.host.add(hello())
    before = shared.host.reads
    error = await shared.failure(work(binary, new(), binary_hash=bytes(32)))
    assert "binary hash mismatch" in error.message
    assert shared.host.reads == before


async def test_a_binary_that_is_not_there_is_told_as_the_host_tells_it(shared: World) -> None:
    error = await shared.failure(work(hello("absent"), new()))
    assert error.error_code is ErrorCode.NotFound
    assert error.message == "no such artifact"


async def test_what_is_no_guest_is_refused_with_its_reason(shared: World) -> None:
    binary = shared.host.add(b"\0asm\1\0\0\0")
    error = await shared.failure(work(binary, new()))
    assert "memory" in error.message
    assert error.origin is Origin.USER


# Once


async def test_an_execution_that_is_over_answers_the_same_and_is_attested_anew(shared: World) -> None:
    calls: list[str] = []

    async def answer(request: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        calls.append(request.method)
        return sdk.CapabilityResponse(error=f"answer {len(calls)}")

    shared.host.on_capability = answer
    request = sdk.CapabilityRequest(id="a@1.0.0", method="m", callback_id=1)
    binary = shared.host.add(echo(Guest().capability(request), 15))
    again = work(binary, new())
    first = await shared.run(again)
    submitted = len(shared.host.results)
    assert await shared.run(again) == first
    assert calls == ["m"]
    assert len(shared.host.results) == submitted + 1
    assert shared.host.results[-1].result_sha256 == shared.host.results[-2].result_sha256


async def test_an_execution_that_is_over_refuses_another_request(shared: World) -> None:
    binary = shared.host.add(hello())
    number = new()
    await shared.run(work(binary, number))
    error = await shared.failure(work(binary, number, config=b"other"))
    assert error.message.startswith("replayed: ")
    assert error.error_code is ErrorCode.AlreadyExists


async def test_an_execution_that_runs_refuses_a_second_one(shared: World) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def answer(_: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        asked.set()
        await release.wait()
        return sdk.CapabilityResponse(error="x")

    shared.host.on_capability = answer
    guest = Guest().capability(sdk.CapabilityRequest(id="a@1.0.0", method="m", callback_id=1))
    request = work(shared.host.add(guest.answer(value_result("late")).binary()), new())
    running = asyncio.create_task(shared.run(request))
    async with asyncio.timeout(30):
        await asked.wait()
        assert "is running" in (await shared.failure(request)).message
        release.set()
        assert await running == value_result("late")


async def test_an_execution_that_failed_may_be_tried_again(shared: World) -> None:
    trapping = shared.host.add(Guest().call("switch_modes", 1, drop=False).trap().binary())
    request = work(trapping, new())
    for _ in range(2):
        error = await shared.failure(request)
        assert "unreachable" in error.message
        assert error.origin is Origin.USER


async def test_subscribing_is_not_recorded(shared: World) -> None:
    binary = shared.host.add(hello())
    for config in (b"1", b"2", b"1"):
        await shared.run(work(binary, kind="subscribe", config=config))


# The result


async def test_the_result_is_attested_and_bound_to_request_and_binary(shared: World) -> None:
    binary = shared.host.add(hello("bound"))
    request = work(binary, number := new()).SerializeToString(deterministic=True)
    response = ConfidentialWorkflowResponse.FromString(await shared.enclave.execute(request, 60))
    body = shared.host.results[-1]
    assert body.request_sha256 == hashlib.sha256(request).digest()
    assert body.result_sha256 == hashlib.sha256(response.execution_result).digest()
    assert body.binary_sha256 == hashlib.sha256(binary).digest()
    assert body.config_hash == shared.host.config.hash
    assert (body.workflow_id, body.owner, body.execution_id) == (WORKFLOW, OWNER, f"{number:064x}")


async def test_without_its_attestation_taken_there_is_no_result(shared: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> Any:
        raise CapabilityError("not this one", error_code=ErrorCode.PermissionDenied)

    binary = shared.host.add(hello("refused"))
    with monkeypatch.context() as patch:
        patch.setattr(type(shared.host), "_ResultSubmit", refuse)
        error = await shared.failure(work(binary, number := new()))
    assert error.error_code is ErrorCode.PermissionDenied
    assert await shared.run(work(binary, number)) == value_result("refused")


async def test_no_challenge_is_used_twice(shared: World) -> None:
    binary = shared.host.add(Guest().secrets(("", "k")).answer(value_result("x")).binary())
    await shared.run(work(binary, new()))
    ids = [body.challenge_id for body in shared.host.bodies]
    assert len(set(ids)) == len(ids)


# Limits


async def test_a_deadline_ends_a_guest_that_computes_for_ever(shared: World) -> None:
    binary = shared.host.add(Guest().call("switch_modes", 1, drop=False).call("now", 0x8000).loop().binary())
    error = await shared.failure(work(binary, new()), seconds=2)
    assert error.error_code is ErrorCode.DeadlineExceeded


async def test_a_deadline_ends_a_guest_that_waits_for_the_host(shared: World) -> None:
    async def never(_: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        return await asyncio.get_running_loop().create_future()

    shared.host.on_capability = never
    guest = Guest().capability(sdk.CapabilityRequest(id="a@1.0.0", method="m", callback_id=1))
    error = await shared.failure(work(shared.host.add(guest.binary()), new()), seconds=2)
    assert error.error_code is ErrorCode.DeadlineExceeded


async def test_a_deadline_that_is_over_runs_nothing(shared: World) -> None:
    error = await shared.failure(work(shared.host.add(hello()), new()), seconds=0)
    assert error.error_code is ErrorCode.DeadlineExceeded


async def test_an_execution_that_nobody_waits_for_ends_with_its_process(shared: World) -> None:
    asked = asyncio.Event()

    async def never(_: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        asked.set()
        return await asyncio.get_running_loop().create_future()

    shared.host.on_capability = never
    guest = Guest().capability(sdk.CapabilityRequest(id="a@1.0.0", method="m", callback_id=1))
    running = asyncio.create_task(shared.run(work(shared.host.add(guest.binary()), new())))
    async with asyncio.timeout(30):
        await asked.wait()
        execution = descendants(shared.monitor)[-1]
        async with ends(execution):
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


# Capabilities and time


async def test_a_capability_is_called_with_the_guests_payload_and_the_executions_identity(shared: World) -> None:
    payload = AnyMessage()
    payload.Pack(StringValue(value="in"))
    request = sdk.CapabilityRequest(id="some:label@1.0.0", method="Do", payload=payload, callback_id=-7)
    answer = AnyMessage()
    answer.Pack(StringValue(value="Do"))
    response = sdk.AwaitCapabilitiesResponse()
    response.responses[-7].payload.CopyFrom(answer)
    expected = response.SerializeToString(deterministic=True)
    # A negative id is ten bytes with the high bit set: no text. It is found behind them.
    guest = Guest().capability(request).answer(value_result("called"))
    binary = shared.host.add(guest.binary())
    assert await shared.run(work(binary, number := new())) == value_result("called")
    assert expected
    (body,) = [found for found in shared.host.bodies[-2:] if isinstance(found, CapabilityBody)]
    assert body.reference_id == "-7"
    assert (body.capability_id, body.method_name) == ("some:label@1.0.0", "Do")
    assert sdk.CapabilityRequest.FromString(body.payload) == request
    assert (body.workflow_id, body.owner, body.execution_id) == (WORKFLOW, OWNER, f"{number:064x}")
    assert body.binary_sha256 == hashlib.sha256(binary).digest()


@pytest.mark.parametrize(
    "error",
    [
        CapabilityError("no: way", error_code=ErrorCode.LimitExceeded, origin=Origin.USER),
        CapabilityError("not there", error_code=ErrorCode.Unavailable),
    ],
)
async def test_a_failed_call_is_told_to_the_guest_in_four_parts(shared: World, error: CapabilityError) -> None:
    async def fail(_: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        raise error

    shared.host.on_capability = fail
    response = sdk.AwaitCapabilitiesResponse()
    response.responses[1].error = error.serialize()
    expected = response.SerializeToString(deterministic=True)
    guest = Guest().capability(sdk.CapabilityRequest(id="a@1.0.0", method="m", callback_id=1))
    result = await shared.run(work(shared.host.add(echo(guest, len(expected))), new()))
    assert told(result) == expected


async def test_a_capability_id_that_is_too_long_is_refused_in_the_enclave(shared: World) -> None:
    request = sdk.CapabilityRequest(id="x" * 5000, method="m", callback_id=1)
    before = len(shared.host.bodies)
    result = await shared.run(work(shared.host.add(echo(Guest().capability(request), 60)), new()))
    assert "Public:System:InvalidArgument:too_large: " in result.error
    assert len(shared.host.bodies) == before + 1  # The result alone.


async def test_a_call_that_the_relay_does_not_answer_ends_the_execution(shared: World) -> None:
    async def fail(_: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        raise RuntimeError("secret")

    shared.host.on_capability = fail
    error = await shared.failure(work(shared.host.add(calling()), new()))
    assert error.serialize() == "Public:System:Internal:internal: the host could not answer"


def calling() -> bytes:
    """Return a guest that calls a capability and answers, whatever it was told."""
    request = sdk.CapabilityRequest(id="a@1.0.0", method="m", callback_id=1)
    return Guest().capability(request).answer(value_result("believed")).binary()


def reading() -> bytes:
    """Return a guest that reads the time and answers."""
    return Guest().call("now", 0x8000).answer(value_result("believed")).binary()


def _unsigned(reply: SignedReply) -> SignedReply:
    return SignedReply(body=reply.body)


def _altered(reply: SignedReply) -> SignedReply:
    # The answer alone: it is still to this request.
    return SignedReply(body=evolve(Reply.decode(reply.body), answer=b"").encode(), signature=reply.signature)


@pytest.mark.parametrize("change", [_unsigned, _altered])
@pytest.mark.parametrize("guest", [calling, reading])
async def test_a_reply_that_is_not_the_hosts_ends_the_execution_and_nothing_is_attested(
    shared: World, guest: Callable[[], bytes], change: Callable[[SignedReply], SignedReply]
) -> None:
    shared.host.change_reply = lambda _, reply: change(reply)
    attested = len(shared.host.results)
    request = work(shared.host.add(guest()), new())
    error = await shared.failure(request)
    assert error.serialize() == "Public:System:Internal:bad_signature: reply: the reply is not signed by the host"
    assert len(shared.host.results) == attested
    shared.host.change_reply = None
    assert await shared.run(request) == value_result("believed")


@pytest.mark.parametrize("guest", [calling, reading])
async def test_a_reply_to_another_executions_request_ends_the_execution(
    shared: World, guest: Callable[[], bytes]
) -> None:
    replies: list[SignedReply] = []

    def replay(_: str, reply: SignedReply) -> SignedReply:
        replies.append(reply)
        return replies[0]

    shared.host.change_reply = replay
    binary = shared.host.add(guest())
    assert await shared.run(work(binary, new())) == value_result("believed")
    error = await shared.failure(work(binary, new()))
    assert error.serialize() == "Public:System:Internal:bad_signature: reply: the reply answers another request"


async def test_a_forged_reply_ends_also_a_guest_that_does_not_wait_for_it(shared: World) -> None:
    forged = asyncio.Event()

    async def answer(request: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        if request.method == "second":
            await forged.wait()
        return sdk.CapabilityResponse(error="x")

    def forge(_: str, reply: SignedReply) -> SignedReply:
        if forged.is_set():
            return reply
        forged.set()
        return _unsigned(reply)

    shared.host.on_capability, shared.host.change_reply = answer, forge
    guest = Guest()
    guest.call("call_capability", *guest.say(sdk.CapabilityRequest(id="a@1.0.0", method="first", callback_id=1)))
    guest.capability(sdk.CapabilityRequest(id="a@1.0.0", method="second", callback_id=2))
    error = await shared.failure(work(shared.host.add(guest.answer(value_result("believed")).binary()), new()))
    assert error.message.startswith("bad_signature: ")


async def test_time_is_the_hosts_of_either_mode(shared: World) -> None:
    guest = Guest().call("now", 0x8000).call("switch_modes", 1, drop=False).call("now", 0x8008)
    await shared.run(work(shared.host.add(guest.answer(value_result("time")).binary()), new()))
    clocks = [request for request in shared.host.requests if request.method == "Clock"]
    asked = [ClockRequest.FromString(request.payload.value) for request in clocks[-2:]]
    assert [one.don for one in asked] == [False, True]


# Secrets


async def test_secrets_are_opened_for_the_guest_alone(shared: World) -> None:
    shared.host.secrets |= {("main", "A"): "first", ("main", "B"): "second"}
    expected = secret_responses(("B", "second"), ("A", "first")).SerializeToString(deterministic=True)
    guest = Guest().secrets(("", "B"), ("main", "A"))
    # Lengths above 127 are no text by themselves: here each message's is below, but for the outer ones.
    result = await shared.run(work(shared.host.add(_tail(guest, expected, 60)), new()))
    assert told(result) == expected[-60:]


def _tail(guest: Guest, expected: bytes, length: int) -> bytes:
    """Return a guest that answers with the last bytes of what it was told."""
    start = 0x8000 + len(expected) - length
    head = b"\x12" + bytes([length])
    for offset, byte in enumerate(head):
        guest.store(start - len(head) + offset, byte)
    return guest.call("send_response", start - len(head), len(head) + length).binary()


async def test_what_is_asked_for_is_normalised_and_asked_once(shared: World) -> None:
    shared.host.secrets |= {("main", "A"): "1", ("other", "A"): "2"}
    guest = Guest().secrets(("", "A"), ("other", "A"), ("main", "A")).answer(value_result("x"))
    await shared.run(work(shared.host.add(guest.binary()), new()))
    (body,) = [found for found in shared.host.bodies[-2:] if isinstance(found, SecretsBody)]
    assert body.secrets == (SecretName("main", "A"), SecretName("other", "A"))


async def test_two_executions_of_one_zygote_have_different_keys(shared: World) -> None:
    binary = shared.host.add(Guest().secrets(("", "k")).answer(value_result("x")).binary())
    before = len(shared.host.public_keys)
    for _ in range(3):
        await shared.run(work(binary, new()))
    keys = shared.host.public_keys[before:]
    assert len(set(keys)) == len(keys) == 3


async def test_one_execution_asks_twice_with_one_key_and_two_challenges(shared: World) -> None:
    shared.host.secrets[("main", "k")] = "v"
    guest = Guest().secrets(("", "k"), call_id=1).secrets(("", "k"), call_id=2).answer(value_result("x"))
    await shared.run(work(shared.host.add(guest.binary()), new()))
    assert len(set(shared.host.public_keys[-2:])) == 1
    bodies = [body for body in shared.host.bodies if isinstance(body, SecretsBody)]
    assert bodies[-1].challenge_id != bodies[-2].challenge_id


async def test_an_absent_secret_is_an_error_of_its_own(shared: World) -> None:
    response = sdk.AwaitSecretsResponse()
    error = sdk.SecretError(id="absent", namespace="main", owner=OWNER, error="no such secret")
    response.responses[1].responses.append(sdk.SecretResponse(error=error))
    expected = response.SerializeToString(deterministic=True)
    result = await shared.run(work(shared.host.add(echo(Guest().secrets(("", "absent")), len(expected))), new()))
    assert told(result) == expected


async def test_names_that_can_be_none_are_answered_without_asking_anybody(shared: World) -> None:
    before = len(shared.host.bodies)
    result = await shared.run(work(shared.host.add(echo(Guest().secrets(("", "")), 90)), new()))
    assert "a secret's name and its namespace are 1 to 64 bytes" in result.error
    assert len(shared.host.bodies) == before + 1


async def test_too_many_secrets_at_once_are_refused(shared: World) -> None:
    names = [("", f"k{number}") for number in range(MAX_SECRETS + 1)]
    result = await shared.run(work(shared.host.add(echo(Guest().secrets(*names), 80)), new()))
    assert "failed to get secrets for call 1: too many secrets in one request" in result.error


async def test_a_buffer_that_is_too_small_gets_nothing_of_a_secret(shared: World) -> None:
    shared.host.secrets[("main", "k")] = "canary"
    result = await shared.run(work(shared.host.add(echo(Guest().secrets(("", "k"), capacity=25), 40)), new()))
    assert "response buffer too small" in result.error
    assert "canary" not in result.error


def _other_signer(reply: ReleaseReply) -> ReleaseReply:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    body, signature = sign_release(Release.decode(reply.body), Ed25519PrivateKey.generate())
    return ReleaseReply(body=body, signature=signature)


def _flipped(reply: ReleaseReply) -> ReleaseReply:
    return ReleaseReply(body=reply.body[:-1] + bytes([reply.body[-1] ^ 1]), signature=reply.signature)


@pytest.mark.parametrize("change", [_other_signer, _flipped, lambda _: ReleaseReply()], ids=["signer", "byte", "empty"])
async def test_a_release_that_the_vault_has_not_signed_is_not_opened(shared: World, change: Any) -> None:
    shared.host.secrets[("main", "k")] = "canary"
    shared.host.change_release = change
    result = await shared.run(work(shared.host.add(echo(Guest().secrets(("", "k")), 60)), new()))
    assert "failed to get secrets for call 1: bad_signature" in result.error
    assert "canary" not in result.error


async def test_the_answer_to_another_request_is_not_opened(shared: World) -> None:
    shared.host.secrets[("main", "k")] = "canary"
    kept: list[ReleaseReply] = []

    def swap(reply: ReleaseReply) -> ReleaseReply:
        kept.append(reply)
        return kept[0]

    shared.host.change_release = swap
    binary = shared.host.add(echo(Guest().secrets(("", "k")), 60))
    assert "canary" not in told(await shared.run(work(binary, new()))).decode()[:40]
    assert "bad_signature" in (await shared.run(work(binary, new()))).error


async def test_secrets_while_subscribing_are_refused_by_the_host(shared: World) -> None:
    binary = shared.host.add(echo(Guest().secrets(("", "k")), 40))
    result = await shared.run(work(binary, kind="subscribe"))
    assert result.WhichOneof("result") == "error"


# What a guest says


async def test_lines_and_metrics_stay_inside_and_are_counted(shared: World, caplog: pytest.LogCaptureFixture) -> None:
    guest = Guest().call("switch_modes", 1, drop=False)
    line = guest.say(b"canary in a line")
    for _ in range(3):
        guest.call("log", *line, drop=False)
    guest.call("emit_metric", *line).call("emit_metric", *line)
    with caplog.at_level("INFO"):
        await shared.run(work(shared.host.add(guest.answer(value_result("x")).binary()), new()))
    assert "3 lines and 2 metrics of a confidential guest were dropped" in caplog.text
    assert "canary" not in caplog.text


async def test_a_result_of_another_type_is_told_as_the_guest_gave_it(shared: World) -> None:
    result = await shared.run(work(shared.host.add(hello("typed")), new()))
    assert unwrap(result.value) == "typed"
