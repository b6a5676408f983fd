"""Why something of a provider is not there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from innkeeper.config.plugins import load_plugins
from innkeeper.providers.absence import pending, why_absent
from innkeeper.providers.catalog import Catalog, build_catalog
from innkeeper.providers.discovery import discover
from innkeeper.providers.states import ProviderState, ProviderStatus, ProviderStatusRow

Build = Callable[..., Catalog]


@pytest.fixture
def build(site: Any, tmp_path: Path) -> Build:
    """Return what makes the catalog of some entries."""

    def build(entries: str) -> Catalog:
        file = tmp_path / "plugins.yaml"
        file.write_text(f"plugins: {{a: [{entries}]}}")
        return build_catalog(load_plugins([file]), discover([str(site.path)]))

    return build


def rows(catalog: Catalog, **states: ProviderStatus) -> list[Any]:
    """Return how the entries are: as they were joined, or as is said."""
    now = datetime.now(UTC)
    return [
        SimpleNamespace(id=item.id, status=states.get(item.id, ProviderStatus(item.state, item.reason, now)))
        for item in catalog.entries
    ]


def why(catalog: Catalog, states: list[ProviderStatusRow] | None = None, *, left_out: bool = False) -> str:
    return why_absent("probe", catalog, rows(catalog) if states is None else states, left_out=left_out)


def test_module_types_of_enabled_providers_that_do_not_serve_are_pending_with_the_reason(
    site: Any, build: Build
) -> None:
    for id_ in ("good", "broken", "late", "off"):
        site.install(id_, modules=[{"name": f"{id_}-module"}])
    catalog = build(
        "{package: ik-good}, {package: ik-broken}, {package: ik-late}, "
        "{package: ik-off, enabled: false}, {package: gone}"
    )
    now = datetime.now(UTC)
    states = {
        "good": ProviderStatus(ProviderState.READY, "", now),
        "broken": ProviderStatus(ProviderState.FAILED, "it broke", now),
        "late": ProviderStatus(ProviderState.STARTING, "", now),
    }
    assert pending(catalog, rows(catalog, **states)) == {
        "broken-module": "its provider broken is failed: it broke",
        "late-module": "its provider late is starting",
    }


def test_of_a_disabled_provider_it_is_said_where_it_is_disabled(site: Any, build: Build, tmp_path: Path) -> None:
    site.install("probe")
    said = f"its provider probe is disabled in plugins.yaml, at {tmp_path / 'plugins.yaml'}:1:15"
    assert why(build("{package: ik-probe, enabled: false}")) == said
    assert why(build("{package: ik-probe, id: probe, enabled: false}")) == said


def test_of_a_provider_that_is_not_named_that_is_said(site: Any, build: Build) -> None:
    site.install("probe")
    assert why(build("")) == "its provider probe is installed and not named in plugins.yaml"
    assert why(build(""), left_out=True).endswith("in plugins.yaml, unless in one that was left out as faulty")


def test_of_a_provider_that_is_not_installed_that_is_said(build: Build) -> None:
    assert why(build("")) == "its provider probe is not installed"


def test_of_an_enabled_provider_its_state_is_said(site: Any, build: Build) -> None:
    site.install("probe")
    catalog = build("{package: ik-probe}")
    now = datetime.now(UTC)
    broken = ProviderStatus(ProviderState.FAILED, "it broke", now)
    assert why(catalog, rows(catalog, probe=broken)) == "its provider probe is failed: it broke"
    ready = ProviderStatus(ProviderState.READY, "", now)
    assert why(catalog, rows(catalog, probe=ready)) == "its provider probe is ready and has no such one"


def test_of_a_provider_that_two_entries_name_the_fault_is_said(site: Any, build: Build) -> None:
    site.install("probe")
    assert "is failed: the provider probe is named by two entries" in why(
        build("{package: ik-probe, id: probe}, {package: ik-probe}")
    )
