"""Attributes of the default set of providers, as a host puts them together."""

from __future__ import annotations

from pathlib import Path

import pytest

from innkeeper.config.plugins import load_plugins
from innkeeper.modules.attributes import Binding, binding, declare_attributes, parse_attributes
from innkeeper.providers.catalog import build_catalog
from innkeeper.providers.discovery import discover
from innkeeper_sdk.errors import WorkflowError

ROOT = Path(__file__).parents[2]

CATALOG = build_catalog(load_plugins([ROOT / "plugins.yaml"]), discover())
DECLARED = declare_attributes(CATALOG.installed.values()).keys


def bound(text: str) -> Binding | None:
    return binding(parse_attributes(text.encode(), DECLARED), DECLARED)


def test_a_confidential_workflow_is_bound_to_its_module_type_and_no_other_is() -> None:
    found = bound('{"confidential": true}')
    assert found is not None
    assert (found.module, found.provider_id, list(found.keys)) == (
        "confidential", "confidential-workflows", ["confidential"],
    )  # fmt: skip
    for text in ('{"confidential": false}', "{}", ""):
        assert bound(text) is None


def test_a_provider_that_is_disabled_declares_its_attributes_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "plugins.yaml"
    path.write_text("plugins: {a: [{package: innkeeper-confidential-workflows, enabled: false}]}")
    catalog = build_catalog(load_plugins([path]), discover())
    declared = declare_attributes(catalog.installed.values()).keys
    assert binding(parse_attributes(b'{"confidential": true}', declared), declared) == bound('{"confidential": true}')


@pytest.mark.parametrize("value", ["[]", "{}", "null", "true", '[{"namespace": "main", "key": "KEY"}]'])
def test_secrets_that_are_declared_ahead_are_refused_with_the_reason(value: str) -> None:
    with pytest.raises(WorkflowError, match="secrets are fetched at run time"):
        bound(f'{{"confidential": true, "vault_don_secrets": {value}}}')


@pytest.mark.parametrize(
    "text",
    [
        '{"Confidential": true}',
        '{"confidential": "true"}',
        '{"confidential": 1}',
        '{"confidential": null}',
        '{"confidential": {"confidential": true}}',
        '{"confidential": true, "confidential": false}',
        '{"confidential": false, "confidential": true}',
        '{"confidential": true} {}',
        '{"confidential\\u0000": true}',
        '[{"confidential": true}]',
        "null",
        "true",
        "{",
    ],
)
def test_what_is_malformed_is_an_error_and_never_plain(text: str) -> None:
    with pytest.raises(WorkflowError):
        bound(text)
