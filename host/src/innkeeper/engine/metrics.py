"""User metrics: numbers that a workflow reports about itself.

Rules of this module:

1. They are refused unless ``PerWorkflow.UserMetricEnabled`` says otherwise for the workflow.
2. A metric that is too large in any way is refused, never cut.
"""

from __future__ import annotations

import logging
from typing import Final

from innkeeper.engine.limits import EngineLimits
from innkeeper.engine.ports import MetricSink
from innkeeper_sdk.errors import LimitExceededError, WorkflowError
from innkeeper_sdk.module import UserMetric, WorkflowSpec

__all__ = ["LogMetrics", "UserMetrics"]

_KINDS: Final = ("counter", "gauge")


class LogMetrics:
    """Write each metric to the host's log, as fields.

    Args:
        logger: The log.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def record(self, spec: WorkflowSpec, name: str, metric: UserMetric) -> None:
        """Write a metric."""
        self._logger.info(
            "user metric",
            extra={
                "workflow_id": spec.workflow_id,
                "metric": name,
                "value": metric.value,
                "labels": dict(metric.labels),
            },
        )


class UserMetrics:
    """Check a workflow's metrics, and hand them on.

    Args:
        spec: The workflow.
        limits: Its limits.
        sink: Where they go.
    """

    def __init__(self, spec: WorkflowSpec, limits: EngineLimits, sink: MetricSink) -> None:
        self._spec = spec
        self._limits = limits
        self._sink = sink

    def emit(self, metric: UserMetric) -> None:
        """Hand on a metric.

        Raises:
            WorkflowError: Metrics are off, or this is none.
            LimitExceededError: It is too large.
        """
        limits = self._limits
        if not limits.user_metrics:
            raise WorkflowError("user metrics are off", hint="set PerWorkflow.UserMetricEnabled")
        if metric.kind not in _KINDS:
            raise WorkflowError("unsupported user metric type", expected=" or ".join(_KINDS), actual=metric.kind)
        if not metric.name:
            raise WorkflowError("a user metric has no name")
        self._check("name", len(metric.name.encode()), limits.metric_name_bytes)
        self._check("number of labels", len(metric.labels), limits.metric_labels)
        for value in metric.labels.values():
            self._check("label value", len(value.encode()), limits.metric_label_bytes)
        self._sink.record(self._spec, f"user_workflow_{metric.name}_{metric.kind}", metric)

    @staticmethod
    def _check(what: str, size: int, limit: int) -> None:
        if size > limit:
            raise LimitExceededError(
                f"the {what} of a user metric is too large", expected=f"at most {limit}", actual=str(size)
            )
