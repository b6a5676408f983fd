"""Descriptors: maps of rules, defaults by field, and unknown ones."""

from __future__ import annotations

import pytest

from innkeeper_consensus.aggregate import aggregate, describe, usable
from innkeeper_consensus.faults import RuleError
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import AggregationType, ConsensusDescriptor, FieldsMap
from innkeeper_sdk.proto.values.v1.values_pb2 import List, Map, Value

TOO_FEW = "insufficient observations to reach consensus"
NOBODY = "no values met f+1 threshold for identical consensus"
EMPTY = "input slice cannot be empty for identical aggregation"


def s(text: str) -> Value:
    return Value(string_value=text)


def i(number: int) -> Value:
    return Value(int64_value=number)


def ls(*elements: Value) -> Value:
    return Value(list_value=List(fields=elements))


def mp(**fields: Value) -> Value:
    return Value(map_value=Map(fields=fields))


def rule(name: str) -> ConsensusDescriptor:
    return ConsensusDescriptor(aggregation=AggregationType.Value(f"AGGREGATION_TYPE_{name}"))


def by_field(**fields: ConsensusDescriptor) -> ConsensusDescriptor:
    return ConsensusDescriptor(fields_map=FieldsMap(fields=fields))


SAME, MIDDLE, PREFIX, FREQUENCY = rule("IDENTICAL"), rule("MEDIAN"), rule("COMMON_PREFIX"), rule("FREQUENCY_LIST")
SUFFIX = rule("COMMON_SUFFIX")
PRICE = by_field(price=MIDDLE, symbol=SAME)


@pytest.mark.parametrize(
    ("descriptor", "observations", "default", "f", "outcome"),
    [
        (SAME, [s("a")], None, 0, s("a")),
        (PRICE, [mp(price=i(1), symbol=s("A"), extra=i(9))], None, 0, mp(price=i(1), symbol=s("A"))),
        (
            PRICE,
            [mp(price=i(price), symbol=s(symbol)) for price, symbol in ((3, "A"), (1, "A"), (2, "B"))],
            None,
            1,
            mp(price=i(2), symbol=s("A")),
        ),
        # A field without an outcome takes the default's field.
        (PRICE, [mp(price=s("no number"), symbol=s("A"))], mp(price=i(7)), 0, mp(price=i(7), symbol=s("A"))),
        (PRICE, [mp(symbol=s("A"))], mp(price=i(7), symbol=s("B")), 0, mp(price=i(7), symbol=s("A"))),
        (PRICE, [s("no map")], mp(price=i(7), symbol=s("B"), extra=i(1)), 0, mp(price=i(7), symbol=s("B"))),
        (
            PRICE,
            [mp(price=i(1), symbol=s("A")), s("no map"), i(3)],
            mp(price=i(7), symbol=s("B")),
            1,
            mp(price=i(7), symbol=s("B")),
        ),
        (by_field(), [s("no map")], None, 0, mp()),
        (by_field(), [mp(x=i(1))], None, 0, mp()),
        (by_field(x=SAME), [mp(x=Value())], None, 0, mp(x=Value())),
        # To any depth, with the default going along.
        (
            by_field(a=by_field(b=MIDDLE, c=SAME)),
            [mp(a=mp(b=i(1)))],
            mp(a=mp(c=s("d"), b=i(2))),
            0,
            mp(a=mp(b=i(1), c=s("d"))),
        ),
        (by_field(a=by_field(b=MIDDLE)), [mp(x=i(1))], mp(a=mp(b=i(2))), 0, mp(a=mp(b=i(2)))),
        # A nested map without an outcome takes the whole nested default.
        (by_field(a=by_field(b=SAME)), [mp(a=mp())], mp(a=s("whole")), 0, mp(a=s("whole"))),
        (
            by_field(f=FREQUENCY, p=PREFIX, q=SUFFIX),
            [mp(f=i(1), p=ls(i(1)), q=ls(i(2)))],
            None,
            0,
            mp(f=ls(mp(count=i(1), value=i(1))), p=ls(i(1)), q=ls(i(2))),
        ),
    ],
)
def test_a_descriptor_gives_exactly_what_it_describes(
    descriptor: ConsensusDescriptor, observations: list[Value], default: Value | None, f: int, outcome: Value
) -> None:
    before = [value.SerializeToString(deterministic=True) for value in observations]
    assert aggregate(descriptor, observations, default, f) == outcome
    assert [value.SerializeToString(deterministic=True) for value in observations] == before


@pytest.mark.parametrize(
    ("descriptor", "observations", "default", "f", "text", "disagreement"),
    [
        (ConsensusDescriptor(), [i(1)], None, 0, "unknown consensus descriptor type: <nil>", False),
        (rule("UNSPECIFIED"), [i(1)], None, 0, "unknown aggregation type: AGGREGATION_TYPE_UNSPECIFIED", False),
        (ConsensusDescriptor(aggregation=99), [i(1)], None, 0, "unknown aggregation type: 99", False),  # type: ignore[arg-type]  # a number that only a newer SDK has
        (PRICE, [], None, 0, TOO_FEW, False),
        (PRICE, [mp()], None, 1, TOO_FEW, False),
        (by_field(x=SAME), [mp()], None, 0, f"aggregation for field failed 'x': {NOBODY}", True),
        (by_field(x=SAME), [s("")], None, 0, f"aggregation for field failed 'x': {EMPTY}", False),
        (by_field(x=SAME), [mp()], mp(x=Value()), 0, f"aggregation for field failed 'x': {NOBODY}", True),
        (by_field(x=SAME), [mp()], s("no map"), 0, f"aggregation for field failed 'x': {NOBODY}", True),
        (by_field(x=PREFIX), [mp()], None, 0, f"aggregation for field failed 'x': {TOO_FEW}", False),
        (by_field(x=FREQUENCY), [mp()], None, 0, f"aggregation for field failed 'x': {TOO_FEW}", False),
        (
            by_field(x=SUFFIX),
            [mp()],
            None,
            0,
            f"aggregation for field failed 'x': failed to find common prefix of reversed lists: {TOO_FEW}",
            False,
        ),
        (
            by_field(x=MIDDLE),
            [mp()],
            None,
            0,
            "aggregation for field failed 'x': no single value type meets the minimum observation threshold",
            True,
        ),
        (
            by_field(x=MIDDLE),
            [i(1)],
            None,
            0,
            "aggregation for field failed 'x': insufficient observations (0) to meet minimum (1)",
            False,
        ),
        # In key order, and chained to any depth.
        (by_field(b=SAME, a=PREFIX), [mp()], None, 0, f"aggregation for field failed 'a': {TOO_FEW}", False),
        (
            by_field(a=by_field(b=SAME)),
            [mp(a=mp())],
            mp(a=Value()),
            0,
            f"aggregation for field failed 'a': aggregation for field failed 'b': {NOBODY}",
            True,
        ),
        (
            by_field(x=ConsensusDescriptor()),
            [mp(x=i(1))],
            None,
            0,
            "aggregation for field failed 'x': unknown consensus descriptor type: <nil>",
            False,
        ),
    ],
)
def test_a_descriptor_without_an_outcome_says_where_and_why(
    *,
    descriptor: ConsensusDescriptor,
    observations: list[Value],
    default: Value | None,
    f: int,
    text: str,
    disagreement: bool,
) -> None:
    with pytest.raises(RuleError) as caught:
        aggregate(descriptor, observations, default, f)
    assert (caught.value.message, caught.value.disagreement) == (text, disagreement)


def test_an_absent_or_kindless_default_is_none() -> None:
    assert usable(None) is None
    assert usable(Value()) is None
    assert usable(i(0)) == i(0)


def test_a_descriptor_is_named_as_in_the_reference() -> None:
    assert [describe(one) for one in (ConsensusDescriptor(), PRICE, MIDDLE)] == [
        "nil",
        "fields_map",
        "AGGREGATION_TYPE_MEDIAN",
    ]
