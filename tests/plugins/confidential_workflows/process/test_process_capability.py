"""The capability of the LOOP process, and what it makes of its enclave's questions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from innkeeper_confidential_workflows.enclave.frames import MAX_CHUNK_BYTES, Answer, Ask, Chunk, Read, Refusal
from innkeeper_confidential_workflows.process.answers import answer_ask, answer_read
from innkeeper_confidential_workflows.process.capability import CAPABILITY_ID, ConfidentialWorkflows
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowRequest,
    ConfidentialWorkflowResponse,
    ProvidedTeesResponse,
)
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1.protocol_pb2 import (
    Challenge,
    ChallengeRequest,
    EnclaveConfiguration,
)
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    RequestMetadata,
)
from innkeeper_sdk.errors import NotFoundError, UnavailableError
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import TEE_TYPE_AWS_NITRO
from innkeeper_sdk.proto.values.v1.values_pb2 import Map
from innkeeper_sdk.values import unwrap, wrap


def packed(message: Message) -> AnyMessage:
    payload = AnyMessage()
    payload.Pack(message)
    return payload


def request(method: str, message: Message, deadline: float | None = None) -> CapabilityRequest:
    return CapabilityRequest(RequestMetadata("11" * 32, "22" * 20), CAPABILITY_ID, method, packed(message), deadline)


class Registry:
    """Answers every call with one message, or fails it."""

    def __init__(self, answer: Message | AnyMessage | Exception) -> None:
        self.answer = answer
        self.asked: list[CapabilityRequest] = []

    async def execute(self, asked: CapabilityRequest) -> CapabilityResponse:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return CapabilityResponse(self.answer if isinstance(self.answer, AnyMessage) else packed(self.answer))

    async def list(self) -> list[CapabilityInfo]:
        return []


class Enclave:
    """An enclave that answers with a response, or fails."""

    def __init__(self) -> None:
        self.registry: Any = None
        self.configs: list[bytes] = []
        self.asked: list[tuple[bytes, float]] = []
        self.problem: Exception | None = None

    async def boot(self, config: bytes) -> None:
        if self.problem is not None:
            raise self.problem
        self.configs.append(config)

    async def execute(self, data: bytes, seconds: float) -> bytes:
        self.asked.append((data, seconds))
        return b"response"


@pytest.fixture
def enclave() -> Enclave:
    return Enclave()


def capability(enclave: Any, registry: Any = None, region: str = "eu-1") -> ConfidentialWorkflows:
    return ConfidentialWorkflows(enclave, registry or Registry(EnclaveConfiguration(body=b"config")), region)


def test_it_is_the_combined_capability_of_the_manifest(enclave: Enclave) -> None:
    info = capability(enclave).info
    assert info.id == "confidential-workflows@1.0.0-alpha"
    assert info.type is CapabilityType.COMBINED


async def test_it_boots_the_enclave_with_what_the_relay_gives(enclave: Enclave) -> None:
    registry = Registry(EnclaveConfiguration(body=b"config"))
    started = capability(enclave, registry)
    await started.start()
    assert enclave.configs == [b"config"]
    assert enclave.registry is registry
    (asked,) = registry.asked
    assert (asked.capability_id, asked.method) == ("confidential-relay@1.0.0", "Configuration")
    assert asked.payload.Is(Empty.DESCRIPTOR)
    await started.close()
    assert enclave.registry is None


async def test_closing_leaves_the_registry_of_a_later_initialise(enclave: Enclave) -> None:
    first, second = capability(enclave), capability(enclave)
    await first.start()
    await second.start()
    await first.close()
    assert enclave.registry is not None


async def test_an_enclave_that_does_not_boot_is_no_capability(enclave: Enclave) -> None:
    enclave.problem = UnavailableError("it does not boot")
    with pytest.raises(UnavailableError):
        await capability(enclave).start()
    assert enclave.registry is None


async def test_a_relay_that_gives_something_else_is_an_error(enclave: Enclave) -> None:
    with pytest.raises(CapabilityError, match="no configuration"):
        await capability(enclave, Registry(Empty())).start()
    assert enclave.configs == []


async def test_it_hands_the_request_on_byte_for_byte(enclave: Enclave) -> None:
    message = ConfidentialWorkflowRequest(binary_url="x")
    asked = request("Execute", message)
    # What this program does not know must arrive too: its digest is attested.
    asked.payload.value += b"\xf8\x3f\x01"
    response = await capability(enclave).execute(asked)
    assert enclave.asked == [(asked.payload.value, 300.0)]
    assert response.payload.type_url == f"type.googleapis.com/{ConfidentialWorkflowResponse.DESCRIPTOR.full_name}"
    assert response.payload.value == b"response"


async def test_the_callers_deadline_is_the_enclaves(enclave: Enclave) -> None:
    await capability(enclave).execute(request("Execute", ConfidentialWorkflowRequest(), time.monotonic() + 7))
    assert 6 < enclave.asked[0][1] <= 7


async def test_another_message_is_refused(enclave: Enclave) -> None:
    with pytest.raises(CapabilityError) as caught:
        await capability(enclave).execute(request("Execute", Empty()))
    assert caught.value.error_code is ErrorCode.InvalidArgument
    assert enclave.asked == []


async def test_it_offers_its_region(enclave: Enclave) -> None:
    response = await capability(enclave).execute(request("ProvidedTees", Empty()))
    message = ProvidedTeesResponse()
    assert response.payload.Unpack(message)
    assert [(tee.type, list(tee.regions)) for tee in message.tee] == [(TEE_TYPE_AWS_NITRO, ["eu-1"])]


@pytest.mark.parametrize("method", ["execute", "Boot", ""])
async def test_no_other_method_is_found(enclave: Enclave, method: str) -> None:
    with pytest.raises(CapabilityError, match=f"method {method} not found"):
        await capability(enclave).execute(request(method, Empty()))


# Questions of the enclave


def ask(method: str = "Challenge", payload: bytes = b"\x0a\x01x") -> Ask:
    return Ask(id=5, method=method, payload=payload, workflow_id="11" * 32, owner="22" * 20, execution_id="33" * 32)


async def test_a_question_goes_to_the_relay_as_it_is() -> None:
    registry = Registry(Challenge(id=b"id"))
    answer = await answer_ask(ask(), registry)
    assert answer == Answer(id=5, payload=Challenge(id=b"id").SerializeToString())
    (asked,) = registry.asked
    assert asked.capability_id == "confidential-relay@1.0.0"
    assert asked.payload.type_url == f"type.googleapis.com/{ChallengeRequest.DESCRIPTOR.full_name}"
    assert asked.payload.value == b"\x0a\x01x"
    assert asked.metadata == RequestMetadata("11" * 32, "22" * 20, "33" * 32)
    assert asked.deadline is not None


@pytest.mark.parametrize("method", ["Configuration", "Execute", "Read", "", "challenge"])
async def test_no_method_but_those_of_an_enclave_reaches_the_relay(method: str) -> None:
    registry = Registry(Empty())
    answer = await answer_ask(ask(method), registry)
    assert isinstance(answer, Refusal)
    assert CapabilityError.parse(answer.error).error_code is ErrorCode.Unimplemented
    assert registry.asked == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CapabilityError("a: b", error_code=ErrorCode.LimitExceeded), "Public:System:LimitExceeded:a: b"),
        (NotFoundError("capability x not found"), "Private:System:NotFound:capability x not found"),
        (UnavailableError("not yet"), "Private:System:Unavailable:not yet"),
        (RuntimeError("canary"), "Public:System:Internal:internal: the host could not answer"),
    ],
)
async def test_a_failure_is_told_in_four_parts(error: Exception, told: str, caplog: pytest.LogCaptureFixture) -> None:
    assert await answer_ask(ask(), Registry(error)) == Refusal(id=5, error=told)
    assert await answer_read(Read(id=5, locator="l", offset=0), Registry(error)) == Refusal(id=5, error=told)
    assert "canary" not in caplog.text


async def test_an_answer_that_no_frame_holds_is_refused() -> None:
    answer = await answer_ask(ask(), Registry(AnyMessage(value=bytes(40 << 20))))
    assert isinstance(answer, Refusal)
    assert "a frame of" in answer.error


async def test_a_binary_is_read_in_parts() -> None:
    registry = Registry(Map(fields={"data": wrap(b"abc"), "size": wrap(10)}))
    answer = await answer_read(Read(id=5, locator="artifact:sha256/00", offset=7), registry)
    assert answer == Chunk(id=5, data=b"abc", size=10)
    (asked,) = registry.asked
    assert (asked.capability_id, asked.method) == ("artifacts@1.0.0", "Read")
    message = Map()
    assert asked.payload.Unpack(message)
    assert {name: unwrap(value) for name, value in message.fields.items()} == {
        "locator": "artifact:sha256/00",
        "offset": 7,
    }


@pytest.mark.parametrize(
    "answer",
    [
        Map(),
        Map(fields={"data": wrap("text"), "size": wrap(1)}),
        Map(fields={"data": wrap(b"x"), "size": wrap(-1)}),
        Map(fields={"data": wrap(b"x"), "size": wrap("1")}),
        Map(fields={"data": wrap(b"x"), "size": wrap(True)}),
        Map(fields={"data": wrap(b"x")}),
        Map(fields={"data": wrap(bytes(MAX_CHUNK_BYTES + 1)), "size": wrap(1)}),
        AnyMessage(value=b"\xff"),
    ],
)
async def test_what_is_no_part_of_a_binary_is_refused(answer: Any) -> None:
    refusal = await answer_read(Read(id=5, locator="l", offset=0), Registry(answer))
    assert isinstance(refusal, Refusal)
    assert CapabilityError.parse(refusal.error).error_code is ErrorCode.Internal


def test_the_process_imports_no_engine_and_no_host() -> None:
    import subprocess
    import sys

    package = "innkeeper_confidential_workflows.process"
    code = (
        f"import sys, {package}.main, {package}.capability\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert not set(done.stdout.split()) & {"wasmtime", "brotli", "innkeeper", "innkeeper_wasm"}
