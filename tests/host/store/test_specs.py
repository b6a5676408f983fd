"""Deployed workflows in the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from sqlalchemy import text

from innkeeper.store.audit import AuditEntry
from innkeeper.store.errors import DatabaseError
from innkeeper.store.specs import Artifacts, SpecHeader, SpecStatus
from innkeeper.store.stores import Stores

NOW = datetime(2026, 1, 1, 0, 5, 0, 123456, UTC)
FIRST, SECOND = "00" * 32, "00" * 31 + "01"
ARTIFACTS = Artifacts(binary=bytes(range(256)), config=b"\xff\x00config")

HEADER = SpecHeader(
    workflow_id=FIRST,
    owner="22" * 20,
    name="my-workflow",
    tag="v1",
    kind="some",
    status=SpecStatus.ACTIVE,
    attributes=b'{"key":true}',
    binary_url="artifact:sha256/00",
    source="local",
    created_at=NOW,
    updated_at=NOW,
    storage_bytes=264,
)


def entry(action: str) -> AuditEntry:
    return AuditEntry(
        time=NOW, action=action, workflow_id=FIRST, owner="22" * 20, name="my-workflow", detail={"a": "b"}
    )


async def test_what_was_stored_is_read_back_whole(stores: Stores) -> None:
    await stores.specs.put(HEADER, ARTIFACTS)
    assert await stores.specs.header(FIRST) == HEADER
    assert await stores.specs.headers() == [HEADER]
    assert await stores.specs.named(HEADER.owner, HEADER.name) == HEADER
    assert await stores.specs.artifacts(FIRST) == ARTIFACTS


async def test_what_is_not_there_is_none(stores: Stores) -> None:
    assert await stores.specs.header(FIRST) is None
    assert await stores.specs.named("22" * 20, "x") is None
    assert await stores.specs.artifacts(FIRST) is None
    assert await stores.specs.headers() == []


async def test_empty_attributes_are_empty_bytes(stores: Stores) -> None:
    await stores.specs.put(evolve(HEADER, attributes=b""), ARTIFACTS)
    found = await stores.specs.header(FIRST)
    assert found is not None
    assert found.attributes == b""


async def test_storing_again_updates_and_keeps_when_it_was_created(stores: Stores) -> None:
    await stores.specs.put(HEADER, ARTIFACTS)
    later = NOW + timedelta(hours=1)
    changed = evolve(HEADER, tag="v2", attributes=b"{}", updated_at=later, created_at=later)
    await stores.specs.put(changed, ARTIFACTS)
    assert await stores.specs.headers() == [evolve(changed, created_at=NOW)]


async def test_replacing_is_one_act_with_its_audit(stores: Stores) -> None:
    await stores.specs.put(HEADER, ARTIFACTS)
    await stores.specs.put(evolve(HEADER, workflow_id=SECOND), ARTIFACTS, replaces=FIRST, audit=[entry("replace")])
    assert [header.workflow_id for header in await stores.specs.headers()] == [SECOND]
    assert await stores.audit.entries() == [entry("replace")]


async def test_a_replacement_that_fails_leaves_everything(stores: Stores) -> None:
    await stores.specs.put(HEADER, ARTIFACTS)
    broken = evolve(HEADER, workflow_id=SECOND, updated_at=datetime(2026, 1, 1))
    with pytest.raises(Exception, match="needs a zone"):
        await stores.specs.put(broken, ARTIFACTS, replaces=FIRST, audit=[entry("replace")])
    assert await stores.specs.headers() == [HEADER]
    assert await stores.audit.entries() == []


async def test_deleting_says_who_deleted_and_audits_once(stores: Stores) -> None:
    await stores.specs.put(HEADER, ARTIFACTS)
    assert await stores.specs.delete(FIRST, audit=[entry("delete")]) is True
    assert await stores.specs.delete(FIRST, audit=[entry("delete")]) is False
    assert await stores.audit.entries(FIRST) == [entry("delete")]
    assert await stores.audit.entries(SECOND) == []


async def test_status_and_subscriptions_change_only_what_is_there(stores: Stores) -> None:
    later = NOW + timedelta(hours=1)
    assert await stores.specs.set_status(FIRST, SpecStatus.PAUSED, at=later) is False
    await stores.specs.put(HEADER, ARTIFACTS)
    assert await stores.specs.set_status(FIRST, SpecStatus.PAUSED, at=later) is True
    assert await stores.specs.set_subscriptions(FIRST, b"subscriptions") is True
    assert await stores.specs.header(FIRST) == evolve(
        HEADER, status=SpecStatus.PAUSED, updated_at=later, subscriptions=b"subscriptions"
    )
    assert await stores.specs.artifacts(FIRST) == ARTIFACTS


@pytest.mark.parametrize("status", ["", "unknown"])
async def test_an_unknown_status_is_paused(stores: Stores, status: str) -> None:
    await stores.specs.put(HEADER, ARTIFACTS)
    await stores.database.write(
        lambda connection: connection.execute(text("UPDATE workflow_specs_v2 SET status = :status"), {"status": status})
    )
    found = await stores.specs.header(FIRST)
    assert found is not None
    assert found.status is SpecStatus.PAUSED


async def test_a_damaged_binary_is_an_error_that_says_what_to_do(stores: Stores) -> None:
    await stores.specs.put(HEADER, ARTIFACTS)
    await stores.database.write(
        lambda connection: connection.execute(text("UPDATE workflow_specs_v2 SET workflow = 'no hex'"))
    )
    with pytest.raises(DatabaseError, match="deploy the workflow again"):
        await stores.specs.artifacts(FIRST)


def test_a_binary_is_in_no_repr() -> None:
    assert "xff" not in repr(ARTIFACTS)
