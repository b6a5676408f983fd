"""Whether a deployment takes a protection away.

Rules of this module:

1. From bound to unbound is allowed only when it is asked for by name, and then it is audited.
2. What cannot be decided counts as bound: attributes whose provider is gone, and attributes that are damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from innkeeper.modules.attributes import DeclaredAttribute, binding, parse_attributes
from innkeeper.store.audit import AuditEntry
from innkeeper.store.specs import SpecHeader
from innkeeper.workflows.deployment import Accepted
from innkeeper_sdk.errors import ConflictError, UnavailableError, WorkflowError

__all__ = ["PlainRefusedError", "check_plain", "same_attributes"]


class PlainRefusedError(ConflictError):
    """Raised when a bound workflow would become unbound and nobody asked for that."""

    code = "plain-refused"


def check_plain(
    before: SpecHeader | None,
    after: Accepted,
    declared: Mapping[str, DeclaredAttribute],
    *,
    allow_plain: bool,
    now: datetime,
) -> list[AuditEntry]:
    """Check that a deployment takes no protection away unasked.

    Args:
        before: The workflow that it replaces or changes, or None.
        after: The deployment.
        declared: The attributes that installed providers declare.
        allow_plain: Whether it was asked for.
        now: The time.

    Returns:
        What must be audited.

    Raises:
        PlainRefusedError: It takes one away, and that was not asked for.
    """
    if before is None or after.binding is not None:
        return []
    module = _bound_to(before, declared)
    if module is None:
        return []
    if not allow_plain:
        raise PlainRefusedError(
            f"the workflow {before.name} is bound to {module} by its attributes, and would not be bound any more",
            expected="attributes that bind it",
            actual=after.attributes.text,
            hint="give the same attributes, or --allow-plain if that is meant",
        )
    return [
        AuditEntry(
            time=now,
            action="workflow.allow-plain",
            workflow_id=after.workflow_id,
            owner=after.owner,
            name=before.name,
            detail={
                "was": before.workflow_id,
                "bound_to": module,
                "attributes_before": before.attributes.decode("utf-8", "replace"),
                "attributes_after": after.attributes.text,
            },
        )
    ]


def same_attributes(before: SpecHeader, after: Accepted, declared: Mapping[str, DeclaredAttribute]) -> bool:
    """Tell whether a deployment has the attributes that its workflow had."""
    try:
        return parse_attributes(before.attributes, declared, stored=True) == after.attributes
    except (WorkflowError, UnavailableError):
        return False


def _bound_to(header: SpecHeader, declared: Mapping[str, DeclaredAttribute]) -> str | None:
    try:
        bound = binding(parse_attributes(header.attributes, declared, stored=True), declared)
    except (WorkflowError, UnavailableError):
        return "a module type that is not known any more"
    return None if bound is None else f"the module type {bound.module}"
