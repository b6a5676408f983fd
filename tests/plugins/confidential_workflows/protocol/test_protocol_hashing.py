"""Hashes: the reference's golden values, and no two meanings with one hash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_confidential_workflows.protocol import (
    METHOD_CAPABILITY,
    METHOD_RESULT,
    METHOD_SECRETS,
    domain_hash,
    length_prefixed,
    user_data_of,
)

# Output of the reference's own Go code.
GOLDEN = {
    ("", ""): "6e7bfe779a981a28d4a696febfe389c01e6922ae9d42f1711ed17faf59e83fe6",
    ("ab", "c"): "4979765ee27be0126b177bb2a7f65fb24e29a250317c7fbbdc714cf860f4bb9f",
    ("test-tag", '{"key":"value"}'): "524ea05a3ec3285187c0c13004f22682db8e0a45d27a84a77c48e2eb29b4a85e",
}


@pytest.mark.parametrize(("tag", "data"), GOLDEN)
def test_the_reference_has_the_same_hashes(tag: str, data: str) -> None:
    assert domain_hash(tag, data.encode()).hex() == GOLDEN[tag, data]


def test_a_byte_that_moves_from_the_tag_into_the_data_changes_the_hash() -> None:
    assert (
        len({domain_hash("a", b"bc"), domain_hash("ab", b"c"), domain_hash("abc", b""), domain_hash("", b"abc")}) == 4
    )


@given(st.lists(st.binary(max_size=12), max_size=4), st.lists(st.binary(max_size=12), max_size=4))
def test_different_parts_have_different_encodings(one: list[bytes], other: list[bytes]) -> None:
    assert (length_prefixed(*one) == length_prefixed(*other)) == (one == other)


def test_a_body_has_another_user_data_for_each_method() -> None:
    methods = (METHOD_SECRETS, METHOD_CAPABILITY, METHOD_RESULT)
    assert len({user_data_of(method, b"body") for method in methods}) == 3
    assert user_data_of(METHOD_SECRETS, b"body") == domain_hash("cw-attest/1/confidential.secrets.get", b"body")
