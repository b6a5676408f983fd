"""Deploying, activating, pausing and deleting workflows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper.engine.errors import DrainInProgressError
from innkeeper.engine.secrets import MemorySecrets
from innkeeper.store.executions import ExecutionStatus
from innkeeper.store.specs import SpecStatus
from innkeeper.workflows.deployment import LOCAL
from innkeeper.workflows.identity import workflow_id
from innkeeper.workflows.views import WorkflowState, WorkflowView
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin
from innkeeper_sdk.errors import ConflictError, LimitExceededError, NotFoundError, WorkflowError
from innkeeper_sdk.module import Run
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult
from tests.host.engine.engine_world import TRIGGER, answer, eventually, text
from tests.host.workflows.handler_world import OWNER, Hosted, deployment, open_handler


def id_of(name: str = "my-workflow", binary: bytes = b"binary", config: bytes = b"") -> str:
    return workflow_id(owner=OWNER, name=name, binary=binary, config=config)


class Gate:
    """A guest that holds each execution until it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.leave = asyncio.Event()

    async def __call__(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        self.entered.release()
        await self.leave.wait()
        return answer()

    async def running(self) -> None:
        """Wait until another execution runs."""
        async with asyncio.timeout(5):
            await self.entered.acquire()


async def busy(hosted: Hosted, name: str = "my-workflow") -> tuple[WorkflowView, Gate]:
    """Deploy a workflow, and have an execution of it run."""
    gate = hosted.modules.guests[b"busy"] = Gate()
    view = await hosted.handler.deploy(deployment(name, binary=b"busy"))
    hosted.world.trigger.emit("event", trigger_id=f"trigger_reg_{view.workflow_id}_0")
    await gate.running()
    return view, gate


async def test_a_deployed_workflow_runs_and_is_seen(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment(config=b"config", tag="v1", attributes=b'{"note": "x"}'))
    assert view.workflow_id == id_of(config=b"config")
    assert (view.owner, view.name, view.tag, view.kind, view.source) == (OWNER, "my-workflow", "v1", "scripted", LOCAL)
    assert (view.status, view.state, view.reason, view.module) == (
        SpecStatus.ACTIVE,
        WorkflowState.RUNNING,
        "",
        "scripted",
    )
    assert view.binary_url == f"artifact:sha256/{view.binary_sha256}"
    assert view.attributes == b'{"note": "x"}'
    (trigger,) = view.triggers
    assert (trigger.index, trigger.id, trigger.method, trigger.module) == (0, TRIGGER, "Trigger", "scripted")
    assert trigger.payload.Is(StringValue.DESCRIPTOR)
    assert await hosted.handler.views() == [view]
    assert await hosted.handler.view(view.workflow_id) == view
    assert await hosted.handler.find("my-workflow") == view


async def test_a_module_is_made_of_what_was_deployed(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment(tag="v1", attributes=b'{"bound": true}'))
    ((spec, binary, binding),) = hosted.modules.made
    assert (spec.workflow_id, spec.owner, spec.name, spec.tag, spec.kind) == (
        view.workflow_id,
        OWNER,
        "my-workflow",
        "v1",
        "scripted",
    )
    assert (spec.attributes, spec.binary_url, binary) == ({"bound": True}, view.binary_url, b"binary")
    assert binding is not None
    assert binding.module == view.module == "vault"


async def test_the_log_says_which_way_a_workflow_went_and_why(hosted: Hosted, caplog: pytest.LogCaptureFixture) -> None:
    view = await hosted.handler.deploy(deployment())
    (fields,) = [vars(record) for record in caplog.records if record.message == "a workflow runs"]
    assert fields["workflow_id"] == view.workflow_id
    assert (fields["module_type"], fields["why"]) == ("scripted", "it is the only one")
    assert fields["triggers"] == [f"{TRIGGER} on scripted"]


async def test_deploying_the_same_again_changes_nothing(hosted: Hosted) -> None:
    first = await hosted.handler.deploy(deployment())
    assert await hosted.handler.deploy(deployment()) == first
    assert await hosted.handler.deploy(deployment(attributes=b" {} ")) == first
    assert len(hosted.modules.made) == 1


async def test_what_is_not_acceptable_stores_and_stops_nothing(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment())
    with pytest.raises(WorkflowError, match="attributes are not valid"):
        await hosted.handler.deploy(deployment(binary=b"new", attributes=b"{"))
    assert await hosted.handler.views() == [view]
    assert len(hosted.modules.open) == 1


async def test_another_content_under_the_same_name_replaces_the_old_one(hosted: Hosted) -> None:
    old = await hosted.handler.deploy(deployment())
    new = await hosted.handler.deploy(deployment(binary=b"new"))
    assert new.workflow_id == id_of(binary=b"new") != old.workflow_id
    assert await hosted.handler.views() == [new]
    first, second = hosted.modules.modules
    assert first.history == ["started", "closed"]
    assert second.history == ["started"]
    registered = [registration.trigger_id for registration in hosted.world.trigger.registrations]
    assert hosted.world.trigger.unregistered == registered[:1]


async def test_the_old_one_is_stopped_before_its_row_goes(hosted: Hosted) -> None:
    _, gate = await busy(hosted)
    replacing = asyncio.create_task(hosted.handler.deploy(deployment(binary=b"new")))
    await eventually(lambda: hosted.handler._lifecycle.engine(id_of(binary=b"busy")).state.value == "draining")  # type: ignore[union-attr] # it is there
    assert await hosted.world.stores.specs.header(id_of(binary=b"new")) is None
    assert await hosted.world.stores.specs.header(id_of(binary=b"busy")) is not None
    gate.leave.set()
    assert (await replacing).state is WorkflowState.RUNNING
    assert await hosted.world.stores.specs.header(id_of(binary=b"busy")) is None


async def test_an_old_one_that_cannot_stop_in_time_stays_and_goes_on(tmp_path: Path) -> None:
    async with open_handler(tmp_path, drain_seconds=0.05) as hosted:
        old, gate = await busy(hosted)
        with pytest.raises(DrainInProgressError, match="1 of its executions still run"):
            await hosted.handler.deploy(deployment(binary=b"new"))
        (view,) = await hosted.handler.views()
        assert (view.workflow_id, view.state) == (old.workflow_id, WorkflowState.DRAINING)

        gate.leave.set()
        await hosted.world.ended()
        await hosted.handler.reconcile()
        (view,) = await hosted.handler.views()
        assert (view.workflow_id, view.state) == (old.workflow_id, WorkflowState.RUNNING)
        assert hosted.modules.modules[0].history == ["started", "executed", "closed"]


async def test_a_change_of_attributes_recreates_the_engine_under_the_same_id(hosted: Hosted) -> None:
    first = await hosted.handler.deploy(deployment())
    second = await hosted.handler.deploy(deployment(attributes=b'{"bound": true}'))
    assert second.workflow_id == first.workflow_id
    assert (second.module, second.attributes) == ("vault", b'{"bound": true}')
    assert second.created_at == first.created_at
    assert [module.history for module in hosted.modules.modules] == [["started", "closed"], ["started"]]
    assert len(await hosted.handler.views()) == 1


async def test_a_change_of_the_tag_reaches_the_capabilities(hosted: Hosted) -> None:
    await hosted.handler.deploy(deployment(tag="v1"))
    view = await hosted.handler.deploy(deployment(tag="v2"))
    assert view.tag == "v2"
    assert hosted.world.trigger.registrations[-1].metadata.workflow_tag == "v2"


@pytest.mark.parametrize("where", ["refuse", "on_start"])
async def test_a_workflow_that_cannot_start_is_stored_and_failed_with_the_reason(hosted: Hosted, where: str) -> None:
    getattr(hosted.modules, where)[b"binary"] = WorkflowError("the binary is broken")
    view = await hosted.handler.deploy(deployment())
    assert (view.status, view.state, view.reason) == (SpecStatus.ACTIVE, WorkflowState.FAILED, "the binary is broken")
    assert hosted.modules.open == []
    assert hosted.world.trigger.registered == {}
    assert len(hosted.handler._engines) == 0


async def test_a_failed_workflow_can_be_deployed_again_and_activated_again(hosted: Hosted) -> None:
    hosted.modules.refuse[b"binary"] = WorkflowError("broken")
    view = await hosted.handler.deploy(deployment())
    assert (await hosted.handler.activate(view.workflow_id)).state is WorkflowState.FAILED
    hosted.modules.refuse.clear()
    assert (await hosted.handler.deploy(deployment())).state is WorkflowState.RUNNING
    assert len(hosted.modules.made) == 3


async def test_a_refused_schedule_leaves_nothing_registered(hosted: Hosted) -> None:
    hosted.world.trigger.refuse[f"trigger_reg_{id_of()}_0"] = CapabilityError(
        "bad schedule", error_code=ErrorCode.InvalidArgument, origin=Origin.USER
    )
    view = await hosted.handler.deploy(deployment())
    assert view.state is WorkflowState.FAILED
    assert "bad schedule" in view.reason
    assert hosted.modules.open == []


async def test_a_workflow_can_be_stored_paused_and_activated_later(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment(), paused=True)
    assert (view.status, view.state) == (SpecStatus.PAUSED, WorkflowState.PAUSED)
    assert await hosted.handler.deploy(deployment(), paused=True) == view
    assert hosted.modules.made == []
    view = await hosted.handler.activate(view.workflow_id)
    assert (view.status, view.state) == (SpecStatus.ACTIVE, WorkflowState.RUNNING)


async def test_deploying_a_running_workflow_paused_stops_it(hosted: Hosted) -> None:
    await hosted.handler.deploy(deployment())
    view = await hosted.handler.deploy(deployment(), paused=True)
    assert view.state is WorkflowState.PAUSED
    assert hosted.modules.open == []


async def test_a_paused_workflow_keeps_its_binary_and_goes_on_when_it_is_activated(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment())
    paused = await hosted.handler.pause(view.workflow_id)
    assert (paused.status, paused.state, paused.module) == (SpecStatus.PAUSED, WorkflowState.PAUSED, "")
    assert [trigger.id for trigger in paused.triggers] == [TRIGGER]
    assert hosted.modules.open == []
    artifacts = await hosted.world.stores.specs.artifacts(view.workflow_id)
    assert artifacts is not None
    assert artifacts.binary == b"binary"
    assert (await hosted.handler.activate(view.workflow_id)).state is WorkflowState.RUNNING
    hosted.world.trigger.emit("event")
    (record,) = await hosted.world.ended()
    assert record.status is ExecutionStatus.SUCCESS


async def test_acts_may_be_repeated(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment())
    assert await hosted.handler.activate(view.workflow_id) == view
    paused = await hosted.handler.pause(view.workflow_id)
    assert await hosted.handler.pause(view.workflow_id) == paused
    assert await hosted.handler.delete(view.workflow_id) is True
    assert await hosted.handler.delete(view.workflow_id) is False
    assert len(hosted.modules.made) == 1


async def test_a_deleted_workflow_is_gone_and_audited(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment())
    await hosted.handler.delete(view.workflow_id)
    assert await hosted.handler.views() == []
    assert hosted.modules.open == []
    assert hosted.world.trigger.registered == {}
    for act in (hosted.handler.view, hosted.handler.activate, hosted.handler.pause):
        with pytest.raises(NotFoundError, match="there is no workflow"):
            await act(view.workflow_id)
    assert [entry.action for entry in await hosted.world.stores.audit.entries(view.workflow_id)] == ["workflow.delete"]


async def test_pausing_waits_for_what_runs(hosted: Hosted) -> None:
    view, gate = await busy(hosted)
    pausing = asyncio.create_task(hosted.handler.pause(view.workflow_id))
    await eventually(lambda: hosted.handler._lifecycle.engine(view.workflow_id).state.value == "draining")  # type: ignore[union-attr] # it is there
    assert not pausing.done()
    gate.leave.set()
    assert (await pausing).state is WorkflowState.PAUSED
    (record,) = await hosted.world.ended()
    assert record.status is ExecutionStatus.SUCCESS


@pytest.mark.parametrize("act", ["pause", "delete"])
async def test_an_act_that_has_to_wait_too_long_says_so_and_completes_by_itself(tmp_path: Path, act: str) -> None:
    async with open_handler(tmp_path, drain_seconds=0.05) as hosted:
        view, gate = await busy(hosted)
        await hosted.handler.start()
        for _ in range(2):
            with pytest.raises(DrainInProgressError, match="still run"):
                await getattr(hosted.handler, act)(view.workflow_id)
        seen = await hosted.handler.view(view.workflow_id)
        assert (seen.state, seen.reason) == (WorkflowState.DRAINING, "1 executions are still running")
        gate.leave.set()
        await eventually(lambda: not hosted.modules.open)
        (record,) = await hosted.world.ended()
        assert record.status is ExecutionStatus.SUCCESS
        if act == "pause":
            assert (await hosted.handler.pause(view.workflow_id)).state is WorkflowState.PAUSED
        else:
            await hosted.handler.reconcile()
            assert await hosted.handler.views() == []


async def test_activating_what_still_drains_makes_it_run_again(tmp_path: Path) -> None:
    async with open_handler(tmp_path, drain_seconds=0.05) as hosted:
        view, gate = await busy(hosted)
        with pytest.raises(DrainInProgressError):
            await hosted.handler.pause(view.workflow_id)
        assert (await hosted.handler.activate(view.workflow_id)).state is WorkflowState.DRAINING
        gate.leave.set()
        await hosted.world.ended()
        await hosted.handler.reconcile()
        assert (await hosted.handler.view(view.workflow_id)).state is WorkflowState.RUNNING


async def test_what_is_being_deleted_can_neither_be_paused_nor_activated(tmp_path: Path) -> None:
    async with open_handler(tmp_path, drain_seconds=0.05) as hosted:
        view, gate = await busy(hosted)
        with pytest.raises(DrainInProgressError):
            await hosted.handler.delete(view.workflow_id)
        for act in (hosted.handler.pause, hosted.handler.activate):
            with pytest.raises(ConflictError, match="is being deleted"):
                await act(view.workflow_id)
        gate.leave.set()
        await hosted.world.ended()
        assert (await hosted.handler.deploy(deployment(binary=b"busy"))).state is WorkflowState.RUNNING


async def test_events_that_wait_when_a_workflow_is_paused_end_visibly(tmp_path: Path) -> None:
    async with open_handler(tmp_path, limits={"PerWorkflow.ExecutionConcurrencyLimit": 1}) as hosted:
        view, gate = await busy(hosted)
        hosted.world.trigger.emit("waits")
        await hosted.world.trigger.until(lambda: len(hosted.world.trigger.acknowledged) == 2)
        pausing = asyncio.create_task(hosted.handler.pause(view.workflow_id))
        await eventually(lambda: hosted.handler._lifecycle.engine(view.workflow_id).state.value == "draining")  # type: ignore[union-attr] # it is there
        gate.leave.set()
        await pausing
        first, second = await hosted.world.ended(2)
        assert first.status is ExecutionStatus.SUCCESS
        assert (second.status, second.attempt, second.error) == (
            ExecutionStatus.FAILED,
            0,
            "the workflow was paused",
        )


async def test_the_number_of_workflows_is_limited_and_pausing_or_deleting_makes_room(tmp_path: Path) -> None:
    async with open_handler(tmp_path, limits={"WorkflowLimit": 1}) as hosted:
        first = await hosted.handler.deploy(deployment("first"))
        with pytest.raises(LimitExceededError, match="WorkflowLimit limited: cannot use 2, limit is 1"):
            await hosted.handler.deploy(deployment("second"))
        assert len(await hosted.handler.views()) == 1
        assert len(hosted.modules.modules) == 1

        await hosted.handler.pause(first.workflow_id)
        second = await hosted.handler.deploy(deployment("second"))
        assert second.state is WorkflowState.RUNNING
        with pytest.raises(LimitExceededError):
            await hosted.handler.activate(first.workflow_id)

        await hosted.handler.delete(second.workflow_id)
        assert (await hosted.handler.activate(first.workflow_id)).state is WorkflowState.RUNNING
        assert (await hosted.handler.deploy(deployment("first", binary=b"new"))).state is WorkflowState.RUNNING


async def test_the_number_of_an_owners_workflows_is_limited(tmp_path: Path) -> None:
    async with open_handler(tmp_path, limits={"PerOwner.WorkflowLimit": 1}) as hosted:
        await hosted.handler.deploy(deployment("first"))
        with pytest.raises(LimitExceededError, match=rf"for owner\[{OWNER}\]"):
            await hosted.handler.deploy(deployment("second"))
        assert (await hosted.handler.deploy(deployment("second", owner="33" * 20))).state is WorkflowState.RUNNING


async def test_a_workflow_that_cannot_start_holds_its_place_in_the_count_and_none_among_the_engines(
    tmp_path: Path,
) -> None:
    async with open_handler(tmp_path, limits={"WorkflowLimit": 1}) as hosted:
        hosted.modules.refuse[b"binary"] = WorkflowError("broken")
        await hosted.handler.deploy(deployment("first"))
        with pytest.raises(LimitExceededError):
            await hosted.handler.deploy(deployment("second"))
        assert len(hosted.handler._engines) == 0


async def test_content_that_has_the_id_of_another_workflow_is_refused_and_told(
    hosted: Hosted, caplog: pytest.LogCaptureFixture
) -> None:
    """The id does not separate the parts: the last letters of one name are the first of the other's binary."""
    first = await hosted.handler.deploy(deployment("clock", binary=b"xyz"))
    assert first.workflow_id == id_of("clockx", b"yz")
    with pytest.raises(ConflictError, match=r"already that of another workflow \(found clock of owner"):
        await hosted.handler.deploy(deployment("clockx", binary=b"yz"))
    (fields,) = [vars(record) for record in caplog.records if "WorkflowID collision detected" in record.message]
    assert (fields["existing_workflow"], fields["attempted_source"], fields["existing_source"]) == (
        "clock",
        LOCAL,
        LOCAL,
    )
    assert await hosted.handler.views() == [first]


async def test_two_who_deploy_at_once_come_one_after_the_other(hosted: Hosted) -> None:
    await asyncio.gather(*(hosted.handler.deploy(deployment(binary=b"%d" % number)) for number in range(5)))
    (view,) = await hosted.handler.views()
    assert view.state is WorkflowState.RUNNING
    assert len(hosted.modules.open) == 1
    assert len(hosted.handler._engines) == 1


async def test_a_selector_finds_a_simulated_workflow_too(hosted: Hosted) -> None:
    simulated = await hosted.handler.simulate(deployment(), secrets=MemorySecrets({}))
    assert await hosted.handler.find(simulated.workflow_id[:8]) == simulated
    record = await hosted.handler.fire(simulated.workflow_id, 0, text("payload"))
    assert record.status is ExecutionStatus.SUCCESS
