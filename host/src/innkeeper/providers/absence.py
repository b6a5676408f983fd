"""Why something of a provider is not there: for who waits for it.

Rules of this module:

1. A module type that an enabled provider declares is pending until the provider serves. One of a disabled provider is
   not: nothing but a change of plugins.yaml brings it.
2. Of a provider that something is bound to it is said exactly what is in the way, and where it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from innkeeper.providers.catalog import Catalog, CatalogEntry
from innkeeper.providers.states import ProviderState, ProviderStatus, ProviderStatusRow

__all__ = ["pending", "why_absent"]


def pending(catalog: Catalog, rows: Iterable[ProviderStatusRow]) -> Mapping[str, str]:
    """Return the enabled module types that are not ready, with the reason of each.

    Args:
        catalog: What may be loaded.
        rows: How its entries are.
    """
    statuses = {row.id: row.status for row in rows}
    found = {}
    for item in catalog.entries:
        status = statuses[item.id]
        if item.manifest is None or status.state.serves or status.state is ProviderState.DISABLED:
            continue
        for module in item.manifest.modules:
            found[module.name] = f"its provider {item.id} is {_told(status)}"
    return found


def why_absent(provider_id: str, catalog: Catalog, rows: Iterable[ProviderStatusRow], *, left_out: bool) -> str:
    """Return why a provider does not give what it is wanted for: a clause.

    Args:
        provider_id: The provider.
        catalog: What may be loaded.
        rows: How its entries are.
        left_out: Whether faulty entries were left out of plugins.yaml.
    """
    its = f"its provider {provider_id} is"
    items = [item for item in catalog.entries if _names(item, provider_id)]
    enabled = [item for item in items if item.entry.enabled]
    if enabled:
        statuses = {row.id: row.status for row in rows}
        status = statuses[enabled[0].id]
        return (
            f"{its} {_told(status)}" if not status.state.serves else f"{its} {status.state.value} and has no such one"
        )
    if items:
        return f"{its} disabled in plugins.yaml, at {items[0].entry.origin}"
    if provider_id not in catalog.installed:
        return f"{its} not installed"
    unless = ", unless in one that was left out as faulty" if left_out else ""
    return f"{its} installed and not named in plugins.yaml{unless}"


def _names(item: CatalogEntry, provider_id: str) -> bool:
    # What an entry is called may differ from what it names: two entries cannot be called the same.
    return (item.id if item.discovered is None else item.discovered.id) == provider_id


def _told(status: ProviderStatus) -> str:
    return f"{status.state.value}: {status.reason}" if status.reason else status.state.value
