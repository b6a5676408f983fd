"""The limits that the host itself enforces.

Rules of this module:

1. Names and defaults are the reference's (chainlink-common, ``settings/cresettings/settings.go``). What only a provider
   enforces is declared in that provider's manifest.
2. ``PerWorkflow.PreHookTimeout`` and ``PerWorkflow.ConfigSizeLimit`` have other names or places there; the values are
   the same.
3. ``PerWorkflow.JournalEntryLimit`` is this host's own: there, what an execution was told is not kept. Guests read the
   clock some ten times and make some ten calls; a thousand times that is still a few megabytes, in the memory of the
   host that replays it and on its disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from innkeeper_sdk.manifest import Limit, LimitScope, LimitType

__all__ = ["HOST_LIMITS"]


def _size(default: str, description: str) -> Limit:
    return Limit(LimitType.SIZE, default, description=description)


def _duration(default: str, description: str) -> Limit:
    return Limit(LimitType.DURATION, default, description=description)


def _count(default: int, description: str, scope: LimitScope = LimitScope.WORKFLOW) -> Limit:
    return Limit(LimitType.INTEGER, default, scope=scope, description=description)


HOST_LIMITS: Final[Mapping[str, Limit]] = {
    "WorkflowLimit": _count(1000, "Workflows of this host.", LimitScope.GLOBAL),
    "WorkflowExecutionConcurrencyLimit": _count(1000, "Executions at once on this host.", LimitScope.GLOBAL),
    "PerOwner.WorkflowLimit": _count(1000, "Workflows of one owner.", LimitScope.OWNER),
    "PerOwner.WorkflowExecutionConcurrencyLimit": _count(
        5, "Executions at once of all workflows of one owner.", LimitScope.OWNER
    ),
    "PerWorkflow.TriggerSubscriptionTimeout": _duration("15s", "How long a workflow may take to say its triggers."),
    "PerWorkflow.TriggerSubscriptionLimit": _count(10, "Triggers of one workflow."),
    "PerWorkflow.TriggerRegistrationsTimeout": _duration("10s", "How long registering all triggers may take."),
    "PerWorkflow.TriggerEventQueueLimit": _count(50, "Events that may wait to be executed."),
    "PerWorkflow.TriggerEventQueueTimeout": _duration("10m", "How long an event may wait to be executed."),
    "PerWorkflow.ExecutionConcurrencyLimit": _count(5, "Executions of one workflow at once."),
    "PerWorkflow.ExecutionTimeout": _duration("5m", "How long an execution may take."),
    "PerWorkflow.ExecutionResponseLimit": _size("100kb", "The size of a workflow's result."),
    "PerWorkflow.PreHookTimeout": _duration("10s", "How long a handler's pre-hook may take."),
    "PerWorkflow.CapabilityConcurrencyLimit": _count(30, "Capability calls under way at once."),
    "PerWorkflow.CapabilityCallTimeout": _duration("3m", "How long one capability call may take."),
    "PerWorkflow.SecretsConcurrencyLimit": _count(5, "Requests for secrets under way at once."),
    "PerWorkflow.Secrets.CallLimit": _count(5, "Requests for secrets of one execution."),
    "PerWorkflow.JournalEntryLimit": _count(
        10_000, "What the journal of one execution holds: readings of clocks, calls and their answers."
    ),
    "PerWorkflow.LogLineLimit": _size("1kb", "The size of one line of a workflow's log."),
    "PerWorkflow.LogEventLimit": _count(1000, "Lines of log of one execution."),
    "PerWorkflow.UserMetricEnabled": Limit(
        LimitType.BOOLEAN, default=False, description="Whether user metrics are taken at all."
    ),
    "PerWorkflow.UserMetricNameLengthLimit": _count(128, "The bytes of a user metric's name."),
    "PerWorkflow.UserMetricLabelsPerMetric": _count(10, "Labels of one user metric."),
    "PerWorkflow.UserMetricLabelValueLengthLimit": _count(256, "The bytes of a label's value."),
    "PerWorkflow.ConfigSizeLimit": _size("50kb", "The size of a workflow's configuration."),
}
