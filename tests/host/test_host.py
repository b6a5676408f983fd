"""What a host knows of module types that are not ready."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

from innkeeper.host import _pending
from innkeeper.providers.states import ProviderState, ProviderStatus


def test_module_types_of_providers_that_do_not_serve_are_pending_with_the_reason() -> None:
    states = {
        "ready": (ProviderState.READY, ""),
        "broken": (ProviderState.FAILED, "it broke"),
        "late": (ProviderState.STARTING, ""),
        "off": (ProviderState.DISABLED, ""),
    }
    entries = [
        SimpleNamespace(id=id_, manifest=SimpleNamespace(modules=[SimpleNamespace(name=f"{id_}-module")]))
        for id_ in states
    ]
    entries.append(SimpleNamespace(id="gone", manifest=None))
    states["gone"] = (ProviderState.FAILED, "not installed")
    rows = [
        SimpleNamespace(id=id_, status=ProviderStatus(state, reason, datetime.now(UTC)))
        for id_, (state, reason) in states.items()
    ]
    pending = _pending(SimpleNamespace(entries=entries), SimpleNamespace(statuses=lambda: rows))
    assert pending == {
        "broken-module": "its provider broken is failed: it broke",
        "late-module": "its provider late is starting",
    }
