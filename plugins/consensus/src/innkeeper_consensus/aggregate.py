"""Applying a descriptor to what the nodes observed.

Rules of this module:

1. A descriptor names a rule, or a map of descriptors by field, to any depth.
2. A map of descriptors gives a map with exactly its keys, computed in their order. A field without an outcome takes the
   default's field if there is one; else the whole map has no outcome.
3. A value without a kind is no default.
"""

from __future__ import annotations

from innkeeper_consensus.faults import RuleError
from innkeeper_consensus.rules import RULES, TOO_FEW, Observations
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import AggregationType, ConsensusDescriptor, FieldsMap
from innkeeper_sdk.proto.values.v1.values_pb2 import Map, Value

__all__ = ["aggregate", "describe", "usable"]


def usable(default: Value | None) -> Value | None:
    """Return a default, or None where it stands for none."""
    return None if default is None or default.WhichOneof("value") is None else default


def describe(descriptor: ConsensusDescriptor) -> str:
    """Return a descriptor's name as the reference writes it: the rule, ``fields_map`` or ``nil``."""
    kind = descriptor.WhichOneof("descriptor")
    if kind == "aggregation":
        return _name(descriptor.aggregation)
    return kind or "nil"


def aggregate(descriptor: ConsensusDescriptor, observations: Observations, default: Value | None, f: int) -> Value:
    """Return the outcome of a descriptor.

    Args:
        descriptor: What to do.
        observations: One per node; None where a node has none.
        default: What fields fall back on; the outcome as a whole does not.
        f: Faulty nodes tolerated.

    Raises:
        RuleError: There is no outcome.
    """
    match descriptor.WhichOneof("descriptor"):
        case "aggregation":
            rule = RULES.get(descriptor.aggregation)
            if rule is None:
                raise RuleError(f"unknown aggregation type: {_name(descriptor.aggregation)}")
            return rule(observations, f)
        case "fields_map":
            return _fields(descriptor.fields_map, observations, usable(default), f)
        case _:
            raise RuleError("unknown consensus descriptor type: <nil>")


def _fields(descriptor: FieldsMap, observations: Observations, default: Value | None, f: int) -> Value:
    if len(observations) < f + 1:
        raise RuleError(TOO_FEW)
    maps = [
        value.map_value.fields
        for value in observations
        if value is not None and value.WhichOneof("value") == "map_value"
    ]
    defaults = Map().fields if default is None else default.map_value.fields
    result = Value()
    result.map_value.SetInParent()
    for key in sorted(descriptor.fields):
        fallback = usable(defaults.get(key))
        try:
            outcome = aggregate(descriptor.fields[key], [fields.get(key) for fields in maps], fallback, f)
        except RuleError as error:
            if fallback is None:
                raise RuleError(
                    f"aggregation for field failed '{key}': {error.message}", disagreement=error.disagreement
                ) from error
            outcome = fallback
        result.map_value.fields[key].CopyFrom(outcome)
    return result


def _name(aggregation: AggregationType.ValueType) -> str:
    # A newer SDK's rule has a number and no name here; Go prints such a number bare.
    return AggregationType.Name(aggregation) if aggregation in AggregationType.values() else str(aggregation)
