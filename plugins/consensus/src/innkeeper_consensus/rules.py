"""The rules by which one value is made of what the nodes observed.

Rules of this module:

1. A rule is a function of the observations and f, the number of faulty nodes tolerated; nothing else goes in.
2. An observation is a value, or None where a node's map has no such key.
3. Two values are equal if their deterministic protobuf encodings are.
4. The texts of the faults are the reference's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from innkeeper_consensus.faults import RuleError
from innkeeper_consensus.ordering import ORDERED, normal
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import AggregationType
from innkeeper_sdk.proto.values.v1.values_pb2 import Value

__all__ = ["RULES", "TOO_FEW", "Observations", "Rule"]

Observations = Sequence[Value | None]

TOO_FEW: Final = "insufficient observations to reach consensus"
_SEVERAL: Final = "not identical, multiple values with f+1 occurrences"
_NONE: Final = "no values met f+1 threshold for identical consensus"


class Rule(Protocol):
    """A rule."""

    def __call__(self, observations: Observations, f: int) -> Value:
        """Return the outcome.

        Raises:
            RuleError: There is none.
        """


def identical(observations: Observations, f: int) -> Value:
    """Return the one value that at least f+1 nodes observed."""
    if not observations:
        raise RuleError("input slice cannot be empty for identical aggregation")
    winners = _repeated(observations, f)
    if len(winners) > 1:
        raise RuleError(_SEVERAL, disagreement=True)
    if not winners:
        raise RuleError(_NONE, disagreement=True)
    return winners[0]


def median(observations: Observations, f: int) -> Value:
    """Return the middle of the values of the one kind that at least f+1 nodes observed; the lower of two."""
    if len(observations) < f + 1:
        raise RuleError(f"insufficient observations ({len(observations)}) to meet minimum ({f + 1})")
    kinds: dict[str, list[Value]] = {}
    for value in observations:
        kind = None if value is None else value.WhichOneof("value")
        if value is not None and kind is not None:
            kinds.setdefault(kind, []).append(value)
    common = [kind for kind, values in kinds.items() if len(values) >= f + 1]
    if len(common) > 1:
        raise RuleError(_SEVERAL, disagreement=True)
    if not common:
        raise RuleError("no single value type meets the minimum observation threshold", disagreement=True)
    order = ORDERED.get(common[0])
    if order is None:
        name = "".join(part.capitalize() for part in common[0].split("_"))
        raise RuleError(f"unsupported type for median aggregation: *pb.Value_{name}")
    # Equal numbers may be written differently, as 1.0 and 1.00: the encoding decides, not the order of the nodes.
    values = sorted(kinds[common[0]], key=lambda value: (order(value), _encode(value)))
    return normal(values[(len(values) - 1) // 2])


def common_prefix(observations: Observations, f: int) -> Value:
    """Return the longest list that at least f+1 observed lists begin with."""
    return _list(_prefix(_lists(observations), f))


def common_suffix(observations: Observations, f: int) -> Value:
    """Return the longest list that at least f+1 observed lists end with."""
    try:
        elements = _prefix([elements[::-1] for elements in _lists(observations)], f)
    except RuleError as error:
        raise RuleError(
            f"failed to find common prefix of reversed lists: {error.message}", disagreement=error.disagreement
        ) from error
    return _list(elements[::-1])


def frequency_list(observations: Observations, f: int) -> Value:
    """Return each value observed with how often it was, most frequent first, then by encoding."""
    values = [value for value in observations if value is not None and value.WhichOneof("value") is not None]
    if len(values) < f + 1:
        raise RuleError(TOO_FEW)
    counts: dict[bytes, int] = {}
    for value in values:
        encoded = _encode(value)
        counts[encoded] = counts.get(encoded, 0) + 1
    result = Value()
    result.list_value.SetInParent()
    for encoded, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        entry = result.list_value.fields.add().map_value.fields
        entry["count"].int64_value = count
        entry["value"].ParseFromString(encoded)
    return result


RULES: Final[Mapping[int, Rule]] = MappingProxyType(
    {
        AggregationType.AGGREGATION_TYPE_IDENTICAL: identical,
        AggregationType.AGGREGATION_TYPE_MEDIAN: median,
        AggregationType.AGGREGATION_TYPE_COMMON_PREFIX: common_prefix,
        AggregationType.AGGREGATION_TYPE_COMMON_SUFFIX: common_suffix,
        AggregationType.AGGREGATION_TYPE_FREQUENCY_LIST: frequency_list,
    }
)


def _encode(value: Value) -> bytes:
    return value.SerializeToString(deterministic=True)


def _repeated(values: Iterable[Value | None], f: int) -> list[Value]:
    """Return the values that occur at least f+1 times."""
    groups: dict[bytes, list[Value]] = {}
    for value in values:
        if value is not None:
            groups.setdefault(_encode(value), []).append(value)
    return [group[0] for group in groups.values() if len(group) >= f + 1]


def _lists(observations: Observations) -> list[list[Value]]:
    return [
        list(value.list_value.fields)
        for value in observations
        if value is not None and value.WhichOneof("value") == "list_value"
    ]


def _prefix(lists: list[list[Value]], f: int) -> list[Value]:
    if len(lists) < f + 1:
        raise RuleError(TOO_FEW)
    prefix: list[Value] = []
    while True:
        at = len(prefix)
        lists = [elements for elements in lists if len(elements) > at]
        winners = _repeated((elements[at] for elements in lists), f)
        if not winners:
            return prefix
        if len(winners) > 1:
            raise RuleError(_SEVERAL, disagreement=True)
        prefix.append(winners[0])
        agreed = _encode(winners[0])
        lists = [elements for elements in lists if _encode(elements[at]) == agreed]


def _list(elements: list[Value]) -> Value:
    result = Value()
    result.list_value.SetInParent()
    result.list_value.fields.extend(elements)
    return result
