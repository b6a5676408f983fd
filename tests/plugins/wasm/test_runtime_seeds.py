"""Seeds of DON mode."""

from __future__ import annotations

import pytest

from innkeeper_wasm.driver import don_seed
from innkeeper_wasm.runtime.seeds import fnv1a64


def test_the_seed_is_the_fnv_1a_hash_of_the_execution_id() -> None:
    assert fnv1a64(b"id") == 0x08B72E07B55C3AC0
    assert don_seed("id") == 628021283683842752


@pytest.mark.parametrize(
    ("text", "hash_"), [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)]
)
def test_a_hash_from_the_upper_half_is_a_negative_seed(text: str, hash_: int) -> None:
    assert fnv1a64(text.encode()) == hash_
    assert don_seed(text) == hash_ - (1 << 64)
