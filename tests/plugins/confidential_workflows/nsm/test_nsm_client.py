"""The enclave's side: what it asks, and that it believes no answer that is none."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from innkeeper_confidential_workflows.nsm import ErrorCode, NsmClient, NsmError
from innkeeper_confidential_workflows.nsm.messages import Request, encode_request, read_request


class Answers:
    """A transport that gives one answer, and keeps the question."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer if isinstance(answer, bytes) else cbor2.dumps(answer)
        self.asked: list[bytes] = []

    def exchange(self, request: bytes) -> bytes:
        self.asked.append(request)
        return self.answer


def test_requests_are_those_of_the_device() -> None:
    transport = Answers({"Attestation": {"document": b"d"}})

    assert NsmClient(transport).attest(b"u", b"n", b"k") == b"d"

    asked = cbor2.loads(transport.asked[0])
    assert asked == {"Attestation": {"user_data": b"u", "nonce": b"n", "public_key": b"k"}}


@pytest.mark.parametrize(
    "request_record",
    [
        Request("DescribeNSM", {}),
        Request("GetRandom", {}),
        Request("DescribePCR", {"index": 1}),
        Request("ExtendPCR", {"index": 16, "data": b"x"}),
        Request("LockPCR", {"index": 16}),
        Request("LockPCRs", {"range": 16}),
        Request("Attestation", {"user_data": None, "nonce": b"n", "public_key": None}),
    ],
    ids=lambda request: request.name,
)
def test_a_request_is_read_as_it_was_written(request_record: Request) -> None:
    assert read_request(encode_request(request_record)) == request_record


def test_a_lock_is_answered_by_its_name_alone() -> None:
    transport = Answers("LockPCR")

    NsmClient(transport).lock(16)

    assert cbor2.loads(transport.asked[0]) == {"LockPCR": {"index": 16}}


@pytest.mark.parametrize("code", [code for code in ErrorCode], ids=str)
def test_a_refusal_has_the_devices_code(code: ErrorCode) -> None:
    with pytest.raises(NsmError) as refused:
        NsmClient(Answers({"Error": str(code)})).extend(16, b"x")

    assert refused.value.code is code


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff",
        None,
        {},
        "Attestation",
        "GetRandom",
        {"Error": "Unheard"},
        {"Error": 1},
        {"Error": {}},
        {"GetRandom": {"random": b"x"}},
        {"Attestation": b"d"},
        {"Attestation": {}},
        {"Attestation": {"document": None}},
        {"Attestation": {"document": b""}},
        {"Attestation": {"document": "d"}},
        {"Attestation": {"document": [1]}},
        {"Attestation": {"document": b"d" * 13_000}},
    ],
    ids=lambda answer: str(answer)[:40],
)
def test_what_is_no_answer_is_not_believed(answer: Any) -> None:
    with pytest.raises(NsmError) as refused:
        NsmClient(Answers(answer)).attest()

    assert refused.value.code is ErrorCode.INVALID_RESPONSE


@pytest.mark.parametrize("data", [b"", b"\x01" * 47, b"\x01" * 49, None], ids=str)
def test_a_pcr_has_48_bytes(data: bytes | None) -> None:
    for ask in (
        lambda: NsmClient(Answers({"ExtendPCR": {"data": data}})).extend(16, b"x"),
        lambda: NsmClient(Answers({"DescribePCR": {"lock": True, "data": data}})).describe(16),
    ):
        with pytest.raises(NsmError) as refused:
            ask()
        assert refused.value.code is ErrorCode.INVALID_RESPONSE


@pytest.mark.parametrize("lock", [None, 1, 0, "true"], ids=str)
def test_a_pcr_is_locked_or_not(lock: Any) -> None:
    with pytest.raises(NsmError, match="whether"):
        NsmClient(Answers({"DescribePCR": {"lock": lock, "data": b"\x01" * 48}})).describe(16)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000])
def test_as_many_random_bytes_come_as_were_asked_for(bench: Any, count: int) -> None:
    assert len(bench.client.random(count)) == count


@pytest.mark.parametrize("data", [b"", b"x" * 257], ids=len)
def test_random_bytes_come_in_the_devices_portions(data: bytes) -> None:
    with pytest.raises(NsmError) as refused:
        NsmClient(Answers({"GetRandom": {"random": data}})).random(300)

    assert refused.value.code is ErrorCode.INVALID_RESPONSE


def test_a_request_that_the_device_would_not_take_is_not_sent() -> None:
    transport = Answers("LockPCR")

    with pytest.raises(NsmError) as refused:
        NsmClient(transport).extend(16, b"x" * 4096)

    assert refused.value.code is ErrorCode.INPUT_TOO_LARGE
    assert transport.asked == []
