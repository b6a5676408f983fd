"""The host's limits on one workflow, resolved once when its engine is made.

Rules of this module:

1. Names and defaults are the reference's (chainlink-common, settings/cresettings); they are declared in
   ``innkeeper.capabilities.host_limits``. Here they get the fields that the engine reads; an amount that it only
   compares is checked where it arises.
2. Limits are inclusive. Sizes are bytes, durations are seconds.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen

from innkeeper_sdk.hooks import Limits

__all__ = ["EngineLimits"]

_INTEGERS: Final = {
    "queued_events": "PerWorkflow.TriggerEventQueueLimit",
    "executions": "PerWorkflow.ExecutionConcurrencyLimit",
    "owner_executions": "PerOwner.WorkflowExecutionConcurrencyLimit",
    "response_bytes": "PerWorkflow.ExecutionResponseLimit",
    "capability_calls_at_once": "PerWorkflow.CapabilityConcurrencyLimit",
    "secrets_calls_at_once": "PerWorkflow.SecretsConcurrencyLimit",
    "journal_entries": "PerWorkflow.JournalEntryLimit",
    "log_line_bytes": "PerWorkflow.LogLineLimit",
    "log_lines": "PerWorkflow.LogEventLimit",
    "metric_name_bytes": "PerWorkflow.UserMetricNameLengthLimit",
    "metric_labels": "PerWorkflow.UserMetricLabelsPerMetric",
    "metric_label_bytes": "PerWorkflow.UserMetricLabelValueLengthLimit",
}
_SECONDS: Final = {
    "subscribe_seconds": "PerWorkflow.TriggerSubscriptionTimeout",
    "register_seconds": "PerWorkflow.TriggerRegistrationsTimeout",
    "queue_seconds": "PerWorkflow.TriggerEventQueueTimeout",
    "execution_seconds": "PerWorkflow.ExecutionTimeout",
    "capability_call_seconds": "PerWorkflow.CapabilityCallTimeout",
}


@frozen(kw_only=True)
class EngineLimits:
    """What one workflow may use.

    Attributes:
        queued_events: Events that may wait to be executed.
        executions: Executions at once.
        owner_executions: Executions at once of all workflows of its owner.
        response_bytes: The size of a result.
        capability_calls_at_once: Capability calls under way in all its executions.
        secrets_calls_at_once: Requests for secrets under way in all its executions.
        journal_entries: What the journal of one execution holds.
        log_line_bytes: The size of a line; a longer one is cut.
        log_lines: Lines of one execution; further ones are dropped and counted.
        metric_name_bytes: The size of a user metric's name.
        metric_labels: Labels of a user metric.
        metric_label_bytes: The size of a label's value.
        subscribe_seconds: How long subscribing may take.
        register_seconds: How long registering all triggers may take.
        queue_seconds: How long an event may wait to be executed.
        execution_seconds: How long an execution may take.
        capability_call_seconds: How long a capability call may take.
        user_metrics: Whether user metrics are taken at all.
    """

    queued_events: int
    executions: int
    owner_executions: int
    response_bytes: int
    capability_calls_at_once: int
    secrets_calls_at_once: int
    journal_entries: int
    log_line_bytes: int
    log_lines: int
    metric_name_bytes: int
    metric_labels: int
    metric_label_bytes: int
    subscribe_seconds: float
    register_seconds: float
    queue_seconds: float
    execution_seconds: float
    capability_call_seconds: float
    user_metrics: bool

    @classmethod
    def of(cls, limits: Limits, *, owner: str, workflow_id: str) -> EngineLimits:
        """Return the limits of a workflow.

        Raises:
            KeyError: The host does not declare one of them.
        """

        def get(name: str) -> float:
            return limits.get(name, owner=owner, workflow_id=workflow_id)

        values: dict[str, Any] = {field: int(get(name)) for field, name in _INTEGERS.items()}
        values.update({field: float(get(name)) for field, name in _SECONDS.items()})
        return cls(**values, user_metrics=bool(get("PerWorkflow.UserMetricEnabled")))
