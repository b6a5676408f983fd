"""What ``Simple`` yields on one node, row by row, and how it fails."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from innkeeper_consensus.faults import ConsensusError, cut
from innkeeper_consensus.simple import OUTCOME_LIMIT, conclude, settle
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin, RequestMetadata
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    AggregationType,
    ConsensusDescriptor,
    FieldsMap,
    SimpleConsensusInputs,
)
from innkeeper_sdk.proto.values.v1.values_pb2 import BigInt, Decimal, List, Map, Value

METADATA = RequestMetadata(
    workflow_id="11" * 32,
    workflow_owner="22" * 20,
    workflow_execution_id="33" * 32,
    workflow_name="38383931353862366163",
    reference_id="7",
)
REQUEST = f"{'33' * 32}-7"
LIMIT = 100_000

RULES = ("IDENTICAL", "MEDIAN", "COMMON_PREFIX", "COMMON_SUFFIX", "FREQUENCY_LIST")
TOO_FEW = "insufficient observations to reach consensus"
REVERSED = f"failed to find common prefix of reversed lists: {TOO_FEW}"
NO_KIND = "no single value type meets the minimum observation threshold"


def s(text: str) -> Value:
    return Value(string_value=text)


def ls(*elements: Value) -> Value:
    return Value(list_value=List(fields=elements))


def mp(**fields: Value) -> Value:
    return Value(map_value=Map(fields=fields))


def rule(name: str) -> ConsensusDescriptor:
    return ConsensusDescriptor(aggregation=AggregationType.Value(f"AGGREGATION_TYPE_{name}"))


def by_field(**fields: ConsensusDescriptor) -> ConsensusDescriptor:
    return ConsensusDescriptor(fields_map=FieldsMap(fields=fields))


NUMBER = Value(float64_value=1.5)
KINDLESS = Value()
DEFAULT = s("default")
ORDERED = [
    NUMBER,
    Value(int64_value=-1),
    Value(uint64_value=1),
    Value(bigint_value=BigInt(abs_val=b"\x05", sign=1)),
    Value(decimal_value=Decimal(coefficient=BigInt(abs_val=b"\x05", sign=-1), exponent=-2)),
    Value(time_value=Timestamp(seconds=5)),
]
UNORDERED = [s("a"), Value(bool_value=True), Value(bytes_value=b"b"), ls(NUMBER), mp(x=NUMBER)]
NO_LISTS = [*ORDERED, s("a"), mp(x=NUMBER), KINDLESS]
MAP = by_field(x=rule("IDENTICAL"))


def inputs(
    observation: Value | str | None, descriptor: ConsensusDescriptor | None, default: Value | None = None
) -> SimpleConsensusInputs:
    asked = SimpleConsensusInputs(descriptors=descriptor, default=default)
    if isinstance(observation, str):
        asked.error = observation
    elif observation is not None:
        asked.value.CopyFrom(observation)
    return asked


def outcome(
    observation: Value | str | None, descriptor: ConsensusDescriptor | None, default: Value | None = None
) -> Value:
    return conclude(inputs(observation, descriptor, default), METADATA, size_limit=LIMIT)


def refusal(
    observation: Value | str | None,
    descriptor: ConsensusDescriptor | None,
    default: Value | None = None,
    *,
    limit: int = LIMIT,
) -> str:
    with pytest.raises(CapabilityError) as caught:
        conclude(inputs(observation, descriptor, default), METADATA, size_limit=limit)
    return caught.value.serialize()


@pytest.mark.parametrize(
    ("observation", "descriptor", "expected"),
    [
        *((value, rule("IDENTICAL"), value) for value in (*ORDERED, *UNORDERED, KINDLESS)),
        *((value, rule("MEDIAN"), value) for value in ORDERED),
        *((ls(NUMBER, s("a")), rule(name), ls(NUMBER, s("a"))) for name in ("COMMON_PREFIX", "COMMON_SUFFIX")),
        *(
            (value, rule("FREQUENCY_LIST"), ls(mp(value=value, count=Value(int64_value=1))))
            for value in (*ORDERED, *UNORDERED)
        ),
        (mp(x=NUMBER, y=s("extra")), MAP, mp(x=NUMBER)),
        (s("no map"), by_field(), mp()),
    ],
)
def test_a_value_by_a_rule_that_takes_it_is_the_outcome_whatever_the_default(
    observation: Value, descriptor: ConsensusDescriptor, expected: Value
) -> None:
    for default in (None, KINDLESS, DEFAULT):
        assert outcome(observation, descriptor, default) == expected


@pytest.mark.parametrize(
    ("observation", "descriptor", "origin", "reason"),
    [
        *(
            (value, rule("MEDIAN"), "System", f"unsupported type for median aggregation: *pb.Value_{name}Value")
            for value, name in zip(UNORDERED, ("String", "Bool", "Bytes", "List", "Map"), strict=True)
        ),
        (KINDLESS, rule("MEDIAN"), "User", NO_KIND),
        (KINDLESS, rule("FREQUENCY_LIST"), "System", TOO_FEW),
        *((value, rule("COMMON_PREFIX"), "System", TOO_FEW) for value in NO_LISTS),
        *((value, rule("COMMON_SUFFIX"), "System", REVERSED) for value in NO_LISTS),
        (
            mp(y=NUMBER),
            MAP,
            "User",
            "aggregation for field failed 'x': no values met f+1 threshold for identical consensus",
        ),
        (mp(), by_field(x=rule("COMMON_PREFIX")), "System", f"aggregation for field failed 'x': {TOO_FEW}"),
        (
            s("no map"),
            MAP,
            "System",
            "aggregation for field failed 'x': input slice cannot be empty for identical aggregation",
        ),
        (None, rule("IDENTICAL"), "System", "input slice cannot be empty for identical aggregation"),
        (None, rule("MEDIAN"), "System", "insufficient observations (0) to meet minimum (1)"),
        (None, rule("COMMON_PREFIX"), "System", TOO_FEW),
        (None, rule("COMMON_SUFFIX"), "System", REVERSED),
        (None, rule("FREQUENCY_LIST"), "System", TOO_FEW),
        (None, MAP, "System", TOO_FEW),
        (NUMBER, None, "System", "unknown consensus descriptor type: <nil>"),
        (NUMBER, rule("UNSPECIFIED"), "System", "unknown aggregation type: AGGREGATION_TYPE_UNSPECIFIED"),
    ],
)
def test_without_an_outcome_the_default_is_the_result_else_the_rules_error(
    observation: Value | None, descriptor: ConsensusDescriptor | None, origin: str, reason: str
) -> None:
    expected = f"Public:{origin}:ConsensusFailed:consensus calculation failed: {reason}"
    assert refusal(observation, descriptor) == expected
    assert refusal(observation, descriptor, KINDLESS) == expected
    assert outcome(observation, descriptor, DEFAULT) == DEFAULT


@pytest.mark.parametrize("descriptor", [*(rule(name) for name in RULES), MAP, None])
def test_an_error_observation_gives_the_default_else_itself(descriptor: ConsensusDescriptor | None) -> None:
    expected = (
        "Public:User:ConsensusFailed:consensus calculation failed: received 1 errors which is >= f+1 (1) for "
        f"requestID {REQUEST}; Errors received: [boom]"
    )
    assert refusal("boom", descriptor) == expected
    assert refusal("boom", descriptor, KINDLESS) == expected
    assert outcome("boom", descriptor, DEFAULT) == DEFAULT


def test_the_references_encodings_are_understood() -> None:
    worked = SimpleConsensusInputs.FromString(bytes.fromhex("0a0959000000000000f83f1a020801"))
    assert conclude(worked, METADATA, size_limit=LIMIT) == NUMBER
    from_go = SimpleConsensusInputs.FromString(bytes.fromhex("1204626f6f6d1a0208022200"))
    with pytest.raises(ConsensusError, match=r"Errors received: \[boom\]"):
        conclude(from_go, METADATA, size_limit=LIMIT)


def test_an_error_carries_its_request_in_fields_and_no_observed_value() -> None:
    with pytest.raises(ConsensusError) as caught:
        conclude(inputs(s("observed-value"), rule("MEDIAN")), METADATA, size_limit=LIMIT)
    fields = caught.value.to_dict()
    assert fields["descriptorType"] == "AGGREGATION_TYPE_MEDIAN"
    assert fields["requestId"] == REQUEST
    assert fields["workflowOwner"] == "22" * 20
    assert fields["code"] == "capability"
    assert "observed-value" not in repr((fields, str(caught.value)))


@pytest.mark.parametrize(
    "value",
    [
        Value(decimal_value=Decimal(exponent=1)),
        ls(mp(x=ls(Value(decimal_value=Decimal())))),
    ],
)
def test_a_value_that_does_not_decode_is_refused_whatever_the_default(value: Value) -> None:
    expected = "Public:System:InvalidArgument:failed to decode observation: a decimal has no coefficient"
    assert refusal(value, rule("IDENTICAL"), DEFAULT) == expected
    assert refusal(None, rule("IDENTICAL"), value) == expected
    assert outcome(NUMBER, rule("IDENTICAL"), value) == NUMBER  # a default that is not needed is not looked at


def request_size(observation: Value, descriptor: ConsensusDescriptor, default: Value | None = None) -> int:
    """Return the size by the error that a limit of nothing gives."""
    text = refusal(observation, descriptor, default, limit=0)
    return int(text.partition("request size ")[2].partition(" ")[0])


def test_the_size_limit_is_inclusive_and_counts_the_metadata() -> None:
    asked = inputs(s("x" * 500), rule("IDENTICAL"))
    size = request_size(s("x" * 500), rule("IDENTICAL"))
    # Owner, workflow id, execution id, name and reference, each with tag and length, and two small numbers.
    assert size - asked.ByteSize() == (40 + 2) + (64 + 2) + (64 + 2) + (20 + 2) + (1 + 2) + 2 + 2
    assert conclude(asked, METADATA, size_limit=size) == s("x" * 500)
    assert refusal(s("x" * 500), rule("IDENTICAL"), limit=size - 1) == (
        "Public:User:ConsensusFailed:consensus calculation failed: received 1 errors which is >= f+1 (1) for requestID "
        f"{REQUEST}; Errors received: [[101]LimitExceeded: request size {size} bytes exceeds maximum allowed size: "
        f"PerWorkflow.Consensus.ObservationSizeLimit limited for workflow[{'11' * 32}]: cannot use {size}b, "
        f"limit is {size - 1}b]"
    )


def test_an_observation_above_the_limit_is_an_error_so_that_a_default_still_applies() -> None:
    too_big = s("x" * (LIMIT + 1))
    assert outcome(too_big, rule("IDENTICAL"), DEFAULT) == DEFAULT
    assert "cannot use 100.2" in refusal(too_big, rule("IDENTICAL"))
    assert "limit is 100kb" in refusal(too_big, rule("IDENTICAL"))


def test_an_outcome_above_a_million_bytes_is_refused() -> None:
    fits, too_large = s("x" * (OUTCOME_LIMIT - 4)), s("x" * (OUTCOME_LIMIT - 3))
    assert fits.ByteSize() == OUTCOME_LIMIT
    assert conclude(inputs(fits, rule("IDENTICAL")), METADATA, size_limit=10**7) == fits
    assert refusal(too_large, rule("IDENTICAL"), limit=10**7) == (
        "Public:System:ConsensusFailed:outcome too large: the outcome for this request is 1000001 bytes which exceeds "
        "the maximum allowed size of 1000000 bytes"
    )


@pytest.mark.parametrize(
    ("values", "errors", "f", "origin", "text"),
    [
        ([NUMBER, NUMBER], ["a", "b"], 1, Origin.USER, "received 2 errors which is >= f+1 (2)"),
        ([NUMBER, NUMBER, NUMBER], ["a"], 2, None, ""),
        ([NUMBER, s("x"), s("y")], ["a"], 1, Origin.USER, "no values met f+1 threshold for identical consensus"),
    ],
)
def test_with_more_nodes_errors_count_against_f(
    values: list[Value], errors: list[str], f: int, origin: Origin | None, text: str
) -> None:
    if origin is None:
        assert settle(rule("IDENTICAL"), values, errors, None, f=f, metadata=METADATA) == NUMBER
        return
    with pytest.raises(ConsensusError) as caught:
        settle(rule("IDENTICAL"), values, errors, None, f=f, metadata=METADATA)
    assert (caught.value.origin, caught.value.error_code) == (origin, ErrorCode.ConsensusFailed)
    assert text in caught.value.message
    assert caught.value.message.endswith(f"; Errors received: [{','.join(errors)}]")


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600"])
def test_a_text_above_ten_thousand_bytes_is_cut(character: str) -> None:
    short, text = "x" * 9_999, character * 10_001
    assert cut(short) == short
    kept = cut("x" + text).removesuffix(":TRUNCATED")
    assert cut("x" + text) != kept
    assert 10_000 - 4 < len(kept.encode()) <= 10_000
    assert ("x" + text).startswith(kept)
    assert refusal(text, rule("IDENTICAL")).endswith(":TRUNCATED")
