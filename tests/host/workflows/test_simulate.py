"""Simulated workflows: in no table, beside what is deployed, and never in its way."""

from __future__ import annotations

import logging

import pytest

from innkeeper.engine.secrets import MemorySecrets
from innkeeper.store.executions import ExecutionStatus
from innkeeper.workflows.deployment import LOCAL, SIMULATION
from innkeeper.workflows.views import WorkflowState
from innkeeper_sdk.errors import ConflictError, InnkeeperError, NotFoundError, UnavailableError, WorkflowError
from innkeeper_sdk.module import Run
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult, GetSecretsRequest, SecretRequest
from tests.host.engine.engine_world import answer, text
from tests.host.workflows.handler_world import Hosted, deployment

SECRETS = MemorySecrets({("main", "KEY"): "value"})


async def reveal(request: ExecuteRequest, run: Run) -> ExecutionResult:
    (response,) = await run.helper.get_secrets(GetSecretsRequest(requests=[SecretRequest(id="KEY")]))
    return answer(response.secret.value or response.error.error)


async def test_a_simulated_workflow_runs_when_it_is_fired_with_its_own_secrets(hosted: Hosted) -> None:
    hosted.modules.guests[b"binary"] = reveal
    view = await hosted.handler.simulate(deployment(), secrets=SECRETS)
    assert (view.state, view.source) == (WorkflowState.RUNNING, SIMULATION)
    assert await hosted.world.stores.specs.headers() == []
    assert await hosted.handler.views() == [view]
    record = await hosted.handler.fire(view.workflow_id, 0, text("payload"))
    assert ExecutionResult.FromString(record.result) == answer("value")


async def test_a_deployed_workflow_does_not_get_the_secrets_of_a_simulation(hosted: Hosted) -> None:
    hosted.modules.guests[b"binary"] = reveal
    await hosted.handler.simulate(deployment("simulated"), secrets=SECRETS)
    view = await hosted.handler.deploy(deployment("deployed"))
    hosted.world.trigger.emit("event", trigger_id=f"trigger_reg_{view.workflow_id}_0")
    (record,) = await hosted.world.ended()
    assert "no secret store is enabled" in ExecutionResult.FromString(record.result).value.string_value


async def test_reconciling_leaves_a_simulation_alone(hosted: Hosted) -> None:
    view = await hosted.handler.simulate(deployment(), secrets=SECRETS)
    await hosted.handler.reconcile()
    assert (await hosted.handler.view(view.workflow_id)).state is WorkflowState.RUNNING


@pytest.mark.parametrize("error", [WorkflowError("broken"), UnavailableError("not ready")])
async def test_a_simulation_that_cannot_start_is_an_error_and_leaves_nothing(
    hosted: Hosted, error: InnkeeperError
) -> None:
    hosted.modules.on_start[b"binary"] = error
    with pytest.raises(type(error), match=str(error)):
        await hosted.handler.simulate(deployment(), secrets=SECRETS)
    assert hosted.modules.open == []
    assert await hosted.handler.views() == []
    assert len(hosted.handler._engines) == 0
    hosted.modules.on_start.clear()
    assert (await hosted.handler.simulate(deployment(), secrets=SECRETS)).state is WorkflowState.RUNNING


async def test_a_simulation_can_be_deleted(hosted: Hosted) -> None:
    view = await hosted.handler.simulate(deployment(), secrets=SECRETS)
    assert await hosted.handler.delete(view.workflow_id) is True
    assert await hosted.handler.delete(view.workflow_id) is False
    assert hosted.modules.open == []
    with pytest.raises(NotFoundError):
        await hosted.handler.fire(view.workflow_id, 0, text("payload"))


async def test_a_simulation_is_neither_paused_nor_activated(hosted: Hosted) -> None:
    view = await hosted.handler.simulate(deployment(), secrets=SECRETS)
    for act in (hosted.handler.pause, hosted.handler.activate):
        with pytest.raises(ConflictError, match="neither paused nor activated"):
            await act(view.workflow_id)
    assert (await hosted.handler.view(view.workflow_id)).state is WorkflowState.RUNNING


async def test_only_what_is_simulated_can_be_fired(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment())
    with pytest.raises(ConflictError, match="only a simulated workflow"):
        await hosted.handler.fire(view.workflow_id, 0, text("payload"))


async def test_two_engines_for_one_id_are_an_invariant_violation_and_the_second_is_closed(
    hosted: Hosted, caplog: pytest.LogCaptureFixture
) -> None:
    deployed = await hosted.handler.deploy(deployment())
    with caplog.at_level(logging.WARNING), pytest.raises(ConflictError, match="invariant violation"):
        await hosted.handler.simulate(deployment(), secrets=SECRETS)
    (fields,) = [vars(record) for record in caplog.records if "WorkflowID collision detected" in record.message]
    assert (fields["attempted_source"], fields["existing_source"]) == (SIMULATION, LOCAL)
    assert [module.history for module in hosted.modules.modules] == [["started"], ["started", "closed"]]
    assert await hosted.handler.views() == [deployed]
    assert len(hosted.handler._engines) == 1


async def test_what_is_simulated_cannot_be_deployed_beside_it(hosted: Hosted, caplog: pytest.LogCaptureFixture) -> None:
    simulated = await hosted.handler.simulate(deployment(), secrets=SECRETS)
    with caplog.at_level(logging.WARNING), pytest.raises(ConflictError, match="already that of another workflow"):
        await hosted.handler.deploy(deployment())
    (fields,) = [vars(record) for record in caplog.records if "WorkflowID collision detected" in record.message]
    assert (fields["attempted_source"], fields["existing_source"]) == (LOCAL, SIMULATION)
    assert await hosted.handler.views() == [simulated]
    assert len(hosted.modules.made) == 1


async def test_executions_of_a_simulation_are_stored_like_others(hosted: Hosted) -> None:
    view = await hosted.handler.simulate(deployment(), secrets=SECRETS)
    record = await hosted.handler.fire(view.workflow_id, 0, text("payload"))
    assert await hosted.world.stores.executions.newest(workflow_id=view.workflow_id) == [record]
    assert record.status is ExecutionStatus.SUCCESS
