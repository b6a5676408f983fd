"""User metrics: what a guest reports, as the SDK's record.

The message is ``WorkflowUserMetric`` of the reference's workflow events, of which a guest fills four fields. Here it is
only read; whether it is taken is decided by the execution helper.
"""

from __future__ import annotations

from typing import Final

from innkeeper_sdk.module import UserMetric
from innkeeper_wasm.proto.user_metric_pb2 import WorkflowUserMetric

__all__ = ["parse_metric"]

_KINDS: Final = {WorkflowUserMetric.COUNTER: "counter", WorkflowUserMetric.GAUGE: "gauge"}


def parse_metric(data: bytes) -> UserMetric:
    """Read a metric.

    Args:
        data: A serialized WorkflowUserMetric.

    Returns:
        The metric; its kind is ``unknown`` when it is neither a counter nor a gauge.

    Raises:
        google.protobuf.message.DecodeError: It is no WorkflowUserMetric.
    """
    metric = WorkflowUserMetric.FromString(data)
    kind = _KINDS.get(metric.type, "unknown")
    return UserMetric(name=metric.name, value=metric.value, kind=kind, labels=dict(metric.labels))
