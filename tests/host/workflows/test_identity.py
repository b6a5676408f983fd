"""Identities, against the reference's formulas and vectors."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.workflows.identity import (
    execution_id,
    idempotency_key,
    metadata_name,
    parse_owner,
    trigger_reference,
    trigger_registration_id,
    wire_name,
    workflow_id,
)
from innkeeper_sdk.errors import WorkflowError

OWNER = "22" * 20


def test_an_execution_id_is_the_references() -> None:
    assert (
        execution_id("11" * 32, "2026-01-01T00:05:00Z", 0)
        == "4a5f3722853fe70fe0531e671569213ce0fc8b5b7f1e5e6b7d6bfc8ca199be03"
    )


def test_a_name_on_the_wire_is_the_references() -> None:
    assert wire_name("my-workflow") == "889158b6ac"
    assert metadata_name("my-workflow") == "38383931353862366163"


def test_a_workflow_id_is_the_hash_of_its_parts_with_the_version_in_front() -> None:
    found = workflow_id(owner=OWNER, name="name", binary=b"\x00binary", config=b"config")
    digest = hashlib.sha256(bytes.fromhex(OWNER) + b"name" + b"\x00binary" + b"config").hexdigest()
    assert found == "00" + digest[2:]
    with_secrets = workflow_id(owner=OWNER, name="n", binary=b"b", config=b"c", secrets_url="https://x")
    assert with_secrets[2:] == hashlib.sha256(bytes.fromhex(OWNER) + b"nbchttps://x").hexdigest()[2:]


@given(st.text(), st.binary(), st.binary())
def test_a_workflow_id_does_not_separate_its_parts(name: str, binary: bytes, config: bytes) -> None:
    """The formula is public, so the ambiguity is too: whoever keys by the id must compare the parts."""
    one = workflow_id(owner=OWNER, name=name, binary=binary, config=config)
    assert one == workflow_id(owner=OWNER, name=name, binary=binary + config, config=b"")
    assert len(one) == 64
    assert one.startswith("00")


def test_triggers_are_named_by_their_workflow_and_index() -> None:
    assert trigger_reference(3) == "trigger_3"
    assert trigger_registration_id("00ff", 3) == "trigger_reg_00ff_3"


@given(st.lists(st.text(max_size=3), min_size=6, max_size=6))
def test_no_two_calls_share_an_idempotency_key(parts: list[str]) -> None:
    first, second = tuple(parts[:3]), tuple(parts[3:])
    assert (idempotency_key(*first) == idempotency_key(*second)) == (first == second)


@pytest.mark.parametrize("text", ["ab" * 20, "0x" + "ab" * 20, "0X" + "AB" * 20, "aB" * 20])
def test_an_owner_is_stored_in_lower_case_without_its_prefix(text: str) -> None:
    assert parse_owner(text) == "ab" * 20


@pytest.mark.parametrize(
    "text", ["", "0x", "ab" * 19, "ab" * 21, "zz" * 20, " " + "ab" * 20, "ab" * 20 + "\n", "٣" * 40]
)
def test_what_is_no_address_is_no_owner(text: str) -> None:
    with pytest.raises(WorkflowError, match="20 bytes in hexadecimal"):
        parse_owner(text)
