"""The rules, for one node and for more."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_consensus.faults import RuleError
from innkeeper_consensus.rules import (
    RULES,
    Observations,
    common_prefix,
    common_suffix,
    frequency_list,
    identical,
    median,
)
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import AggregationType
from innkeeper_sdk.proto.values.v1.values_pb2 import BigInt, Decimal, List, Map, Value

SEVERAL = "not identical, multiple values with f+1 occurrences"
NOBODY = "no values met f+1 threshold for identical consensus"
TOO_FEW = "insufficient observations to reach consensus"
NO_KIND = "no single value type meets the minimum observation threshold"


def s(text: str) -> Value:
    return Value(string_value=text)


def i(number: int) -> Value:
    return Value(int64_value=number)


def f(number: float) -> Value:
    return Value(float64_value=number)


def dec(coefficient: int, exponent: int) -> Value:
    return Value(decimal_value=Decimal(coefficient=big(coefficient).bigint_value, exponent=exponent))


def big(number: int, *, padding: int = 0, sign: int | None = None) -> Value:
    magnitude = bytes(padding) + abs(number).to_bytes((abs(number).bit_length() + 7) // 8, "big")
    return Value(bigint_value=BigInt(abs_val=magnitude, sign=(number > 0) - (number < 0) if sign is None else sign))


def t(seconds: int, nanos: int = 0) -> Value:
    return Value(time_value=Timestamp(seconds=seconds, nanos=nanos))


def ls(*elements: Value) -> Value:
    return Value(list_value=List(fields=elements))


def mp(**fields: Value) -> Value:
    return Value(map_value=Map(fields=fields))


NOTHING = Value()


def refusal(rule: Callable[[Observations, int], Value], observations: Observations, faults: int) -> tuple[str, bool]:
    with pytest.raises(RuleError) as caught:
        rule(observations, faults)
    return caught.value.message, caught.value.disagreement


def test_every_aggregation_but_unspecified_has_a_rule() -> None:
    assert set(RULES) == set(AggregationType.values()) - {AggregationType.AGGREGATION_TYPE_UNSPECIFIED}


@pytest.mark.parametrize(
    ("observations", "faults", "outcome"),
    [
        ([s("a")], 0, s("a")),
        ([NOTHING], 0, NOTHING),
        ([ls()], 0, ls()),
        ([s("a"), s("b"), s("a")], 1, s("a")),
        ([mp(x=i(1), y=i(2)), mp(y=i(2), x=i(1)), NOTHING], 1, mp(x=i(1), y=i(2))),
        ([None, s("a"), None, s("a")], 1, s("a")),
        ([f(math.nan), f(math.nan)], 1, f(math.nan)),
    ],
)
def test_identical_gives_the_value_seen_often_enough(observations: Observations, faults: int, outcome: Value) -> None:
    expected = outcome.SerializeToString(deterministic=True)
    assert identical(observations, faults).SerializeToString(deterministic=True) == expected


@pytest.mark.parametrize(
    ("observations", "faults", "text", "disagreement"),
    [
        ([], 0, "input slice cannot be empty for identical aggregation", False),
        ([None], 0, NOBODY, True),
        ([None, None, s("a")], 1, NOBODY, True),
        ([s("a"), s("b"), s("c")], 1, NOBODY, True),
        ([i(1), f(1), Value(uint64_value=1)], 1, NOBODY, True),
        ([s("a"), s("b"), s("a"), s("b")], 1, SEVERAL, True),
        ([s("a"), s("b")], 0, SEVERAL, True),
        ([f(0.0), f(-0.0)], 0, SEVERAL, True),
    ],
)
def test_identical_refuses_what_is_not(observations: Observations, faults: int, text: str, disagreement: bool) -> None:
    assert refusal(identical, observations, faults) == (text, disagreement)


@pytest.mark.parametrize(
    ("observations", "faults", "outcome"),
    [
        ([i(5)], 0, i(5)),
        ([f(1.5)], 0, f(1.5)),
        ([t(7, 1)], 0, t(7, 1)),
        ([dec(150, -2)], 0, dec(150, -2)),
        # An even count: the lower of the two in the middle, never an average.
        ([i(4), i(1), i(3), i(2)], 1, i(2)),
        ([i(9), i(-9), i(0)], 1, i(0)),
        (
            [Value(uint64_value=2**63), Value(uint64_value=1), Value(uint64_value=2**64 - 1)],
            1,
            Value(uint64_value=2**63),
        ),
        ([f(2), f(math.inf), f(-math.inf)], 1, f(2)),
        ([f(math.nan), f(1), f(2)], 1, f(1)),
        ([f(1), f(2), f(math.nan)], 1, f(1)),
        ([dec(2, 0), dec(15, -1), dec(1, 1)], 1, dec(2, 0)),
        ([dec(-1, 2147483647), dec(1, -2147483648), dec(1, 2147483647)], 1, dec(1, -2147483648)),
        ([dec(0, 2147483647), dec(-1, 0), dec(1, 0)], 1, dec(0, 2147483647)),
        ([t(1, 5), t(1, 6), t(-1, 999_999_999)], 1, t(1, 5)),
        ([big(2**200), big(-(2**200)), big(3)], 1, big(3)),
        # The one kind with enough observations counts; what has no kind does not.
        ([i(1), i(2), f(9)], 1, i(1)),
        ([i(1), NOTHING, None, i(3)], 1, i(1)),
        ([s("x"), i(1), i(2)], 1, i(1)),
    ],
)
def test_median_gives_the_middle(observations: Observations, faults: int, outcome: Value) -> None:
    assert median(observations, faults) == outcome


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (big(5, padding=3), big(5)),
        (big(5, sign=77), big(5)),
        (big(-5, sign=-77), big(-5)),
        (big(5, sign=0), big(5)),
        (big(0, padding=2, sign=-1), big(0)),
        (dec(0, 3), dec(0, 3)),
    ],
)
def test_median_writes_big_integers_in_their_shortest_form_and_nothing_else(value: Value, written: Value) -> None:
    given_bytes = value.SerializeToString()
    assert median([value], 0) == written
    assert value.SerializeToString() == given_bytes


@pytest.mark.parametrize(
    ("observations", "faults", "text", "disagreement"),
    [
        ([], 0, "insufficient observations (0) to meet minimum (1)", False),
        ([i(1)], 1, "insufficient observations (1) to meet minimum (2)", False),
        ([NOTHING], 0, NO_KIND, True),
        ([None], 0, NO_KIND, True),
        ([i(1), f(1), s("1")], 1, NO_KIND, True),
        ([i(1), i(2), f(1), f(2)], 1, SEVERAL, True),
        ([s("a")], 0, "unsupported type for median aggregation: *pb.Value_StringValue", False),
        ([Value(bool_value=False)], 0, "unsupported type for median aggregation: *pb.Value_BoolValue", False),
        ([Value(bytes_value=b"")], 0, "unsupported type for median aggregation: *pb.Value_BytesValue", False),
        ([ls(i(1))], 0, "unsupported type for median aggregation: *pb.Value_ListValue", False),
        ([mp()], 0, "unsupported type for median aggregation: *pb.Value_MapValue", False),
    ],
)
def test_median_refuses_what_has_none(observations: Observations, faults: int, text: str, disagreement: bool) -> None:
    assert refusal(median, observations, faults) == (text, disagreement)


ABC, ABD, XBC = ls(s("a"), s("b"), s("c")), ls(s("a"), s("b"), s("d")), ls(s("x"), s("b"), s("c"))


@pytest.mark.parametrize(
    ("observations", "faults", "prefix", "suffix"),
    [
        ([ABC], 0, ABC, ABC),
        ([ls()], 0, ls(), ls()),
        ([ls(NOTHING, s("a"))], 0, ls(NOTHING, s("a")), ls(NOTHING, s("a"))),
        ([ABC, ABD, XBC], 1, ls(s("a"), s("b")), ls(s("b"), s("c"))),
        # Lists out of step count no more, although a later element of theirs would agree.
        ([ABC, ls(s("a"), s("x"), s("c")), ls(s("y"), s("z"), s("c"))], 1, ls(s("a")), ls(s("c"))),
        ([ABC, ls(s("a")), ls()], 1, ls(s("a")), ls()),
        ([ABC, ABC, s("no list"), None, NOTHING], 1, ABC, ABC),
        ([ls(s("a")), ls(s("b")), ls(s("c"))], 1, ls(), ls()),
    ],
)
def test_prefix_and_suffix_are_what_enough_lists_share(
    observations: Observations, faults: int, prefix: Value, suffix: Value
) -> None:
    assert common_prefix(observations, faults) == prefix
    assert common_suffix(observations, faults) == suffix


@pytest.mark.parametrize(
    ("observations", "faults", "text", "disagreement"),
    [
        ([], 0, TOO_FEW, False),
        ([s("a")], 0, TOO_FEW, False),
        ([None], 0, TOO_FEW, False),
        ([ABC, s("a"), NOTHING], 1, TOO_FEW, False),
        ([ls(s("a")), ls(s("a")), ls(s("b")), ls(s("b"))], 1, SEVERAL, True),
    ],
)
def test_prefix_and_suffix_refuse_what_has_none(
    observations: Observations, faults: int, text: str, disagreement: bool
) -> None:
    assert refusal(common_prefix, observations, faults) == (text, disagreement)
    assert refusal(common_suffix, observations, faults) == (
        f"failed to find common prefix of reversed lists: {text}",
        disagreement,
    )


@pytest.mark.parametrize(
    ("observations", "faults", "outcome"),
    [
        ([s("a")], 0, ls(mp(count=i(1), value=s("a")))),
        ([mp(x=ls())], 0, ls(mp(count=i(1), value=mp(x=ls())))),
        (
            [s("b"), s("c"), s("a"), s("c"), NOTHING, None],
            1,
            ls(mp(count=i(2), value=s("c")), mp(count=i(1), value=s("a")), mp(count=i(1), value=s("b"))),
        ),
    ],
)
def test_a_frequency_list_counts_most_frequent_first(observations: Observations, faults: int, outcome: Value) -> None:
    assert frequency_list(observations, faults) == outcome


@pytest.mark.parametrize(
    ("observations", "faults"), [([], 0), ([NOTHING], 0), ([None], 0), ([s("a"), NOTHING, None], 1)]
)
def test_a_frequency_list_needs_enough_values(observations: Observations, faults: int) -> None:
    assert refusal(frequency_list, observations, faults) == (TOO_FEW, False)


_LEAVES = st.one_of(
    st.builds(Value),
    st.text(max_size=3).map(s),
    st.integers(-3, 3).map(i),
    st.floats(width=16).map(f),
    st.integers(-(2**70), 2**70).map(big),
    st.builds(dec, st.integers(-99, 99), st.integers(-3, 3)),
    st.builds(t, st.integers(-5, 5), st.integers(0, 2)),
    st.binary(max_size=2).map(lambda raw: Value(bytes_value=raw)),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda elements: ls(*elements)),
        st.dictionaries(st.sampled_from("xyz"), inner, max_size=3).map(lambda fields: mp(**fields)),
    ),
    max_leaves=6,
)
_RULES = pytest.mark.parametrize("rule", list(RULES.values()), ids=lambda rule: rule.__name__)


def outcome_of(rule: Callable[[Observations, int], Value], observations: Observations, faults: int) -> bytes | str:
    try:
        return rule(observations, faults).SerializeToString(deterministic=True)
    except RuleError as error:
        return error.message


@_RULES
@given(st.lists(st.none() | _VALUES, max_size=7), st.integers(0, 2), st.randoms(use_true_random=False))
def test_the_outcome_does_not_depend_on_the_order_of_the_nodes_and_changes_none(
    rule: Callable[[Observations, int], Value],
    observations: list[Value | None],
    faults: int,
    random: Random,
) -> None:
    before = [value and value.SerializeToString(deterministic=True) for value in observations]
    outcome = outcome_of(rule, observations, faults)
    assert [value and value.SerializeToString(deterministic=True) for value in observations] == before
    random.shuffle(observations)
    assert outcome_of(rule, observations, faults) == outcome


@_RULES
@given(_VALUES, st.integers(0, 3))
def test_what_every_node_of_a_network_sees_is_what_one_node_sees(
    rule: Callable[[Observations, int], Value], value: Value, faults: int
) -> None:
    if rule is frequency_list:
        return  # its outcome has the number of nodes in it
    alone, together = outcome_of(rule, [value], 0), outcome_of(rule, [value] * (3 * faults + 1), faults)
    assert alone == together
