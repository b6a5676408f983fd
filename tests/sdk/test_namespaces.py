from __future__ import annotations

import pytest

from innkeeper_sdk.namespaces import DEFAULT_NAMESPACE, normalise


@pytest.mark.parametrize("namespace", [None, "", "main"])
def test_an_empty_or_absent_namespace_is_main(namespace: str | None) -> None:
    assert normalise(namespace) == "main" == DEFAULT_NAMESPACE


@pytest.mark.parametrize("namespace", ["Main", " ", "main ", "other", "0", "ma\u0130n"])
def test_any_other_namespace_stays_as_it_is(namespace: str) -> None:
    assert normalise(namespace) == namespace


def test_normalising_twice_changes_nothing() -> None:
    assert normalise(normalise("")) == normalise("")
