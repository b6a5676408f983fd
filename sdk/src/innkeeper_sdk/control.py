"""A client of a running host: what the command line, provider commands and tests speak.

Rules of this module:

1. One method per call of ``innkeeper.control.v1``; requests and answers are its messages.
2. Failures are :class:`~innkeeper_sdk.errors.InnkeeperError`, the same as on the host's side.
3. A client verifies whose host it speaks to before it says anything.
4. Calls that load, compile or wait for a workflow have no deadline of their own: the host's limits end them, and
   closing the client or interrupting the call cancels them there too.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
from google.protobuf.message import Message

from innkeeper_sdk.control_errors import error_of_call
from innkeeper_sdk.control_socket import grpc_target, probe
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["ControlClient"]

_Answer = TypeVar("_Answer", bound=Message)

_SERVICE: Final = "/innkeeper.control.v1.Control/"
_OPTIONS: Final = (
    # The host says what it takes; what a private socket answers is trusted to have its size.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Neither proxies nor another client's connection state have a say on a unix socket.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class ControlClient:
    """Speak to one host.

    Args:
        socket: Its control socket, ``<runtime dir>/<name>/control.sock``.
        timeout: Seconds for calls that only ask.

    Raises:
        HostUnreachableError: No host listens there.
        VerificationError: The host there belongs to another user.
    """

    def __init__(self, socket: Path, *, timeout: float = 30.0) -> None:
        self.socket = socket
        self.peer = probe(socket)
        self._timeout = timeout
        self._channel = grpc.insecure_channel(grpc_target(socket), options=_OPTIONS)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Cancel what is under way and close the connection; idempotent."""
        self._channel.close()

    def host(self) -> pb.Host:
        """Return which host this is, and whether it is ready."""
        return self._call("GetHost", pb.GetHostRequest(), pb.Host)

    def providers(self) -> Sequence[pb.Provider]:
        """Return the host's providers and their states, in the order of plugins.yaml."""
        return self._call("ListProviders", pb.ListProvidersRequest(), pb.ListProvidersResponse).providers

    def capabilities(self) -> Sequence[pb.Capability]:
        """Return every registered capability, sorted by id."""
        return self._call("ListCapabilities", pb.ListCapabilitiesRequest(), pb.ListCapabilitiesResponse).capabilities

    def capability(self, capability_id: str) -> pb.Capability:
        """Return one capability.

        Raises:
            NotFoundError: There is none that the id stands for.
        """
        return self._call("GetCapability", pb.GetCapabilityRequest(id=capability_id), pb.Capability)

    def deploy(
        self, artifacts: pb.WorkflowArtifacts, *, paused: bool = False, allow_plain: bool = False
    ) -> pb.Workflow:
        """Deploy a workflow, or update the one of the same owner and name.

        Args:
            artifacts: Its files and metadata.
            paused: Store it without starting it.
            allow_plain: Permit that a workflow bound by its attributes becomes unbound.

        Returns:
            The workflow as it stands.

        Raises:
            WorkflowError: It is not acceptable.
            LimitExceededError: A file is larger than the host takes.
        """
        request = pb.DeployWorkflowRequest(artifacts=artifacts, paused=paused, allow_plain=allow_plain)
        return self._call("DeployWorkflow", request, pb.Workflow, waits=True)

    def workflows(self) -> Sequence[pb.Workflow]:
        """Return the deployed workflows, sorted by owner and name."""
        return self._call("ListWorkflows", pb.ListWorkflowsRequest(), pb.ListWorkflowsResponse).workflows

    def workflow(self, selector: pb.WorkflowSelector) -> pb.Workflow:
        """Return one workflow, with its triggers.

        Raises:
            NotFoundError: The selector fits none.
            ConflictError: It fits more than one.
        """
        return self._call("GetWorkflow", selector, pb.Workflow)

    def activate(self, selector: pb.WorkflowSelector) -> pb.Workflow:
        """Let a paused workflow run again."""
        return self._call("ActivateWorkflow", selector, pb.Workflow, waits=True)

    def pause(self, selector: pb.WorkflowSelector) -> pb.Workflow:
        """Stop a workflow and keep it."""
        return self._call("PauseWorkflow", selector, pb.Workflow, waits=True)

    def delete(self, selector: pb.WorkflowSelector) -> None:
        """Stop a workflow and forget it."""
        self._call("DeleteWorkflow", selector, pb.DeleteWorkflowResponse, waits=True)

    def logs(
        self, selector: pb.WorkflowSelector, *, execution_id: str = "", follow: bool = False, tail: int = 0
    ) -> Generator[pb.LogLine, None, None]:
        """Yield the lines that a workflow logged, oldest first.

        Args:
            selector: The workflow.
            execution_id: Only those of this execution.
            follow: Go on with the lines that come.
            tail: Only the newest so many of the lines so far; 0 is all.
        """
        request = pb.StreamLogsRequest(workflow=selector, execution_id=execution_id, follow=follow, tail=tail)
        return self._stream("StreamLogs", request, pb.LogLine)

    def simulate(self, artifacts: pb.WorkflowArtifacts, secrets: Sequence[pb.Secret] = ()) -> pb.Workflow:
        """Deploy a workflow that reacts to :meth:`fire` alone; in a development host only.

        Args:
            artifacts: Its files and metadata.
            secrets: What it may ask for; the host keeps them in memory.

        Returns:
            The workflow with its triggers.
        """
        request = pb.SimulateWorkflowRequest(artifacts=artifacts, secrets=secrets)
        return self._call("SimulateWorkflow", request, pb.SimulatedWorkflow, waits=True).workflow

    def fire(
        self, workflow_id: str, trigger: int = 0, *, payload_json: str = ""
    ) -> Generator[pb.FireTriggerUpdate, None, None]:
        """Fire a trigger of a simulated workflow and yield what happens; the last update is the finished execution.

        Args:
            workflow_id: Of :meth:`simulate`.
            trigger: The trigger's index.
            payload_json: The event as protobuf JSON; empty asks the trigger for its next event.
        """
        request = pb.FireTriggerRequest(workflow_id=workflow_id, trigger=trigger, payload_json=payload_json)
        return self._stream("FireTrigger", request, pb.FireTriggerUpdate)

    def executions(
        self, selector: pb.WorkflowSelector | None = None, *, limit: int = 0, status: str = ""
    ) -> Sequence[pb.Execution]:
        """Return executions, newest first.

        Args:
            selector: Only those of this workflow.
            limit: The newest so many; 0 is 100.
            status: Only those with this status.
        """
        request = pb.ListExecutionsRequest(workflow=selector, limit=limit, status=status)
        return self._call("ListExecutions", request, pb.ListExecutionsResponse).executions

    def execution(self, execution_id: str) -> pb.Execution:
        """Return one execution, with its log.

        Raises:
            NotFoundError: There is no such execution.
        """
        return self._call("GetExecution", pb.GetExecutionRequest(execution_id=execution_id), pb.Execution)

    def watch_executions(self, selector: pb.WorkflowSelector | None = None) -> Generator[pb.Execution, None, None]:
        """Yield executions as their status changes, from now on."""
        return self._stream("WatchExecutions", pb.WatchExecutionsRequest(workflow=selector), pb.Execution)

    def _call(self, method: str, request: Message, answer: type[_Answer], *, waits: bool = False) -> _Answer:
        call = self._channel.unary_unary(
            _SERVICE + method, request_serializer=_serialize, response_deserializer=answer.FromString
        )
        try:
            result: _Answer = call(request, timeout=None if waits else self._timeout)
        except grpc.RpcError as error:
            raise error_of_call(error, socket=str(self.socket)) from None
        return result

    def _stream(self, method: str, request: Message, answer: type[_Answer]) -> Generator[_Answer, None, None]:
        call = self._channel.unary_stream(
            _SERVICE + method, request_serializer=_serialize, response_deserializer=answer.FromString
        )(request)
        try:
            yield from call
        except grpc.RpcError as error:
            raise error_of_call(error, socket=str(self.socket)) from None
        finally:
            call.cancel()  # type: ignore[no-untyped-call] # the stubs of grpc leave it bare


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
