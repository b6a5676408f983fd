"""A bound workflow does not become unbound unasked, and never unrecorded."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from innkeeper.workflows.plain import PlainRefusedError
from innkeeper.workflows.views import WorkflowState
from tests.host.workflows.handler_world import ATTRIBUTES, Hosted, deployment

BOUND = b'{"bound": true}'


@pytest.mark.parametrize("binary", [b"binary", b"another binary"])
@pytest.mark.parametrize("attributes", [b"", b"{}", b'{"bound": false}', b'{"note": "x"}'])
async def test_a_bound_workflow_does_not_become_unbound_unasked(
    hosted: Hosted, binary: bytes, attributes: bytes
) -> None:
    bound = await hosted.handler.deploy(deployment(attributes=BOUND))
    with pytest.raises(PlainRefusedError, match=r"bound to the module type vault.*--allow-plain"):
        await hosted.handler.deploy(deployment(binary=binary, attributes=attributes))
    assert await hosted.handler.views() == [bound]
    assert len(hosted.modules.made) == 1
    assert await hosted.world.stores.audit.entries() == []


@pytest.mark.parametrize("paused", [False, True])
async def test_it_does_when_it_is_asked_for_and_that_is_audited(
    hosted: Hosted, caplog: pytest.LogCaptureFixture, paused: bool
) -> None:
    bound = await hosted.handler.deploy(deployment(attributes=BOUND), paused=paused)
    with caplog.at_level(logging.WARNING):
        plain = await hosted.handler.deploy(deployment(), paused=paused, allow_plain=True)
    assert plain.attributes == b""
    if not paused:
        assert (plain.state, plain.module) == (WorkflowState.RUNNING, "scripted")
    (entry,) = await hosted.world.stores.audit.entries()
    assert (entry.action, entry.workflow_id, entry.name) == ("workflow.allow-plain", plain.workflow_id, "my-workflow")
    assert entry.detail == {
        "was": bound.workflow_id,
        "bound_to": "the module type vault",
        "attributes_before": BOUND.decode(),
        "attributes_after": "{}",
    }
    assert "audit: workflow.allow-plain" in caplog.text


async def test_nothing_is_audited_where_nothing_is_taken_away(hosted: Hosted) -> None:
    for attributes in (b"", b'{"note": "x"}', BOUND, BOUND):
        await hosted.handler.deploy(deployment(attributes=attributes), allow_plain=True)
    assert await hosted.world.stores.audit.entries() == []


async def test_attributes_whose_provider_is_gone_count_as_bound(hosted: Hosted) -> None:
    await hosted.handler.deploy(deployment(attributes=BOUND))
    await hosted.handler.close()
    without = hosted.again(attributes={"note": ATTRIBUTES["note"]})
    with pytest.raises(PlainRefusedError, match="not known any more"):
        await without.deploy(deployment())
    assert (await without.deploy(deployment(), allow_plain=True)).state is WorkflowState.RUNNING
    await without.close()


async def test_damaged_attributes_count_as_bound(hosted: Hosted, tmp_path: Path) -> None:
    await hosted.handler.deploy(deployment(), paused=True)
    with closing(sqlite3.connect(tmp_path / "host.db", isolation_level=None)) as connection:
        connection.execute("UPDATE workflow_specs_v2 SET attributes = CAST('{' AS BLOB)")
    with pytest.raises(PlainRefusedError, match="not known any more"):
        await hosted.handler.deploy(deployment())
