"""The contract of capabilities: errors on the wire, and what a capability need not implement."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityType,
    ErrorCode,
    ErrorVisibility,
    Origin,
    RequestMetadata,
    TriggerRegistration,
    Visibility,
)

METADATA = RequestMetadata(workflow_id="cc" * 32, workflow_owner="aa" * 20)
REQUEST = CapabilityRequest(metadata=METADATA, capability_id="x@1.0.0", method="Do", payload=AnyMessage())
REGISTRATION = TriggerRegistration(trigger_id="t", metadata=METADATA, method="Tick", payload=AnyMessage())


class Bare(Capability):
    """A capability that implements nothing."""

    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo(id="x@1.0.0", type=CapabilityType.ACTION)


@pytest.mark.parametrize(
    ("error", "wire", "text"),
    [
        (CapabilityError("m"), "Public:System:Unknown:m", "[2]Unknown: m"),
        (
            CapabilityError("a:b: c", error_code=ErrorCode.InvalidArgument, origin=Origin.USER),
            "Public:User:InvalidArgument:a:b: c",
            "[3]InvalidArgument: a:b: c",
        ),
        (
            CapabilityError("", error_code=ErrorCode.LimitExceeded, visibility=ErrorVisibility.PRIVATE),
            "Private:System:LimitExceeded:",
            "[101]LimitExceeded: ",
        ),
    ],
)
def test_the_wire_form_has_four_parts(error: CapabilityError, wire: str, text: str) -> None:
    assert error.serialize() == wire
    assert str(error) == text


@settings(deadline=None)
@given(
    st.text(), st.sampled_from(list(ErrorCode)), st.sampled_from(list(Origin)), st.sampled_from(list(ErrorVisibility))
)
def test_an_error_comes_back_from_the_wire_the_same(
    message: str, code: ErrorCode, origin: Origin, visibility: ErrorVisibility
) -> None:
    sent = CapabilityError(message, error_code=code, origin=origin, visibility=visibility)
    back = CapabilityError.parse(sent.serialize())
    assert (back.message, back.error_code, back.origin, back.visibility) == (message, code, origin, visibility)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain text",
        "Public:User:LimitExceeded",
        "public:User:LimitExceeded:m",
        "Public:user:LimitExceeded:m",
        "Public:User:limitExceeded:m",
        "Public:User:101:m",
        "Secret:User:LimitExceeded:m",
        "a:b:c:d",
        " Public:User:LimitExceeded:m",
    ],
)
def test_any_other_text_is_a_private_error_of_unknown_code_with_all_of_it(text: str) -> None:
    error = CapabilityError.parse(text)
    assert (error.message, error.error_code) == (text, ErrorCode.Unknown)
    assert (error.origin, error.visibility) == (Origin.SYSTEM, ErrorVisibility.PRIVATE)


def test_codes_are_those_of_the_reference() -> None:
    assert [code.value for code in ErrorCode] == [*range(1, 17), 100, 101, 102]
    assert ErrorCode["Canceled"] == 1
    assert ErrorCode["Unauthenticated"] == 16
    assert [code.name for code in ErrorCode if code >= 100] == [
        "ConsensusFailed",
        "LimitExceeded",
        "InsufficientObservations",
    ]


def test_words_of_manifests_are_these() -> None:
    assert [one.value for one in CapabilityType] == ["trigger", "action", "consensus", "target", "combined"]
    assert [one.value for one in Visibility] == ["public", "internal"]


async def test_a_capability_that_does_not_implement_a_method_says_so() -> None:
    bare = Bare()
    with pytest.raises(CapabilityError, match="method Do not found") as caught:
        await bare.execute(REQUEST)
    assert caught.value.error_code is ErrorCode.Unimplemented
    with pytest.raises(CapabilityError, match="trigger Tick not found") as caught:
        await bare.register_trigger(REGISTRATION)
    assert (caught.value.error_code, caught.value.origin) == (ErrorCode.NotFound, Origin.USER)
    with pytest.raises(CapabilityError, match="trigger Tick not found"):
        await bare.unregister_trigger(REGISTRATION)


async def test_what_is_optional_does_nothing() -> None:
    bare = Bare()
    await bare.start()
    await bare.close()
    await bare.ack_event("t", "e", "Tick")
    assert await bare.next_event(REGISTRATION) is None


def test_records_do_not_change() -> None:
    with pytest.raises(AttributeError):
        REQUEST.method = "Other"  # type: ignore[misc] # the point
    with pytest.raises(AttributeError):
        Bare().info.id = "y@1.0.0"  # type: ignore[misc] # the point


def test_a_capability_must_say_what_it_is() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Capability()  # type: ignore[abstract] # the point
