"""Sizes and limit texts."""

from __future__ import annotations

import pytest

from innkeeper_consensus.limits import bound_text, format_size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0b"),
        (999, "999b"),
        (1000, "1kb"),
        (9500, "9.5kb"),
        (100_000, "100kb"),
        (100_001, "100.001kb"),
        (1_100_000, "1.1mb"),
        (10**9, "1gb"),
        (1_234_567_890, "1.23456789gb"),
        (2 * 10**12, "2tb"),
    ],
)
def test_sizes_print_as_in_the_reference(size: int, text: str) -> None:
    assert format_size(size) == text


def test_a_passed_limit_names_key_workflow_amount_and_limit() -> None:
    assert bound_text("Key", "ab", "2kb", "1kb") == "Key limited for workflow[ab]: cannot use 2kb, limit is 1kb"
