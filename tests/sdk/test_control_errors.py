"""Errors across the control socket."""

from __future__ import annotations

import re

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk import errors
from innkeeper_sdk.capability import CapabilityError, ErrorCode
from innkeeper_sdk.control_errors import (
    RemoteError,
    error_of_call,
    error_of_message,
    error_of_record,
    message_of_error,
    status_of_error,
)
from innkeeper_sdk.errors import (
    ExitCode,
    HostError,
    HostUnreachableError,
    InnkeeperError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from innkeeper_sdk.proto.innkeeper.control.v1.control_pb2 import Error

CLASSES = [
    cls for name in errors.__all__ if isinstance(cls := getattr(errors, name), type) and issubclass(cls, InnkeeperError)
]

# What protobuf takes as text: no surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_comes_back_in_its_class_with_its_fields(cls: type[InnkeeperError]) -> None:
    sent = cls("It broke", provider="p", path="f:1:2", expected="this", actual="that", hint="do so")
    got = error_of_message(Error.FromString(message_of_error(sent).SerializeToString()))
    assert type(got) is cls
    assert got.to_dict() == sent.to_dict()
    assert str(got) == str(sent)
    assert got.exit_code is sent.exit_code


def test_no_two_classes_share_a_code() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)


@given(message=TEXTS, hint=st.none() | TEXTS, path=st.none() | TEXTS)
def test_short_texts_cross_as_they_are(message: str, hint: str | None, path: str | None) -> None:
    got = error_of_message(message_of_error(NotFoundError(message, hint=hint, path=path)))
    assert (got.message, got.hint, got.path) == (message, hint, path)


@given(st.text(min_size=1, max_size=20), st.text(max_size=20), st.integers(1, 1000))
def test_however_long_the_texts_the_record_fits_metadata(message: str, other: str, times: int) -> None:
    message, other = message * 10 * times, other * times
    error = NotFoundError(message, provider=other, path=other, expected=other, actual=other, hint=other)
    assert len(message_of_error(error).SerializeToString()) <= 4096


def test_a_cut_text_ends_with_a_mark_and_at_a_character() -> None:
    cut = message_of_error(NotFoundError("é" * 5000)).message
    assert cut.endswith("é […]")
    assert len(cut.encode()) <= 2048


def test_file_names_that_are_no_text_are_escaped() -> None:
    assert message_of_error(NotFoundError("no such file", path="a\udcffb")).path == "a\\udcffb"


def test_an_error_with_a_sentence_of_its_own_keeps_it() -> None:
    got = error_of_message(message_of_error(CapabilityError("too big", error_code=ErrorCode.LimitExceeded)))
    assert isinstance(got, RemoteError)
    assert str(got) == "[101]LimitExceeded: too big"
    assert got.code == "capability"


@pytest.mark.parametrize(
    ("exit_code", "expected"), [(4, ExitCode.VERIFICATION), (77, ExitCode.PROBLEMS), (0, ExitCode.PROBLEMS)]
)
def test_an_unknown_code_keeps_its_code_and_exit_code(exit_code: int, expected: ExitCode) -> None:
    got = error_of_message(Error(code="of-the-future", message="m", exit_code=exit_code))
    assert isinstance(got, RemoteError)
    assert (got.code, got.exit_code) == ("of-the-future", expected)


class FailedCall(grpc.RpcError, grpc.Call):
    """A call as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode, details: str | None, metadata: list[tuple[str, bytes]]) -> None:
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> list[tuple[str, bytes]]:
        return self._metadata

    def initial_metadata(self) -> list[tuple[str, bytes]]:
        return []

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> None:
        pass

    def add_callback(self, callback: object) -> bool:
        return False


@pytest.mark.parametrize(
    ("code", "cls", "text"),
    [
        (grpc.StatusCode.UNAVAILABLE, HostUnreachableError, "the host does not answer: why"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, HostUnreachableError, "did not answer in time"),
        (grpc.StatusCode.CANCELLED, HostUnreachableError, "stopped before it answered"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LimitExceededError, "^/run/s: the host has too much to do: why"),
        (grpc.StatusCode.UNIMPLEMENTED, HostError, "of another version"),
        (grpc.StatusCode.INTERNAL, HostError, "the call failed: why .*INTERNAL"),
    ],
)
def test_a_status_without_a_record_says_what_to_do(code: grpc.StatusCode, cls: type[InnkeeperError], text: str) -> None:
    error = error_of_call(FailedCall(code, "why", [("other", b"x")]), socket="/run/s")
    assert type(error) is cls
    assert re.search(text, str(error))


def test_a_request_that_is_too_large_is_told_from_a_host_that_is_too_busy() -> None:
    details = "SERVER: Received message larger than max (9 vs. 4)"
    error = error_of_call(FailedCall(grpc.StatusCode.RESOURCE_EXHAUSTED, details, []), socket="/run/s")
    assert type(error) is LimitExceededError
    assert error.message == f"the request is larger than the host takes: {details}"


def test_what_an_asynchronous_client_is_raised_is_the_hosts_error_too() -> None:
    record = message_of_error(NotFoundError("no such thing")).SerializeToString()
    metadata = grpc.aio.Metadata(("other", "x"), ("innkeeper-error-bin", record))
    call = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), metadata, details="no")
    assert type(error_of_call(call, socket="/run/s")) is NotFoundError
    bare = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="why")
    assert "the host does not answer: why" in str(error_of_call(bare, socket="/run/s"))


def test_a_record_goes_before_the_status() -> None:
    record = message_of_error(NotFoundError("no such thing")).SerializeToString()
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, None, [("innkeeper-error-bin", record)])
    assert type(error_of_call(call, socket="/run/s")) is NotFoundError


def test_a_failure_that_is_no_call_is_an_unreachable_host() -> None:
    assert isinstance(error_of_call(grpc.RpcError("closed"), socket="/run/s"), HostUnreachableError)


def test_a_printed_record_is_the_error_again() -> None:
    sent = NotFoundError("no such thing", hint="look")
    got = error_of_record({**sent.to_dict(), "exit_code": int(sent.exit_code)})
    assert type(got) is NotFoundError
    assert got.to_dict() == sent.to_dict()


def test_statuses_tell_kinds_of_errors_apart() -> None:
    assert status_of_error(UsageError("x")) is grpc.StatusCode.INVALID_ARGUMENT
    assert status_of_error(NotFoundError("x")) is grpc.StatusCode.NOT_FOUND
    assert status_of_error(UnavailableError("x")) is grpc.StatusCode.UNAVAILABLE
    assert status_of_error(InnkeeperError("x")) is grpc.StatusCode.INTERNAL
