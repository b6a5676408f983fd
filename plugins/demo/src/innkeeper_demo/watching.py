"""What the executions of a host are doing, as its control socket tells it.

Rules of this module:

1. The host's stream is read by a thread of its own; whoever waits does so on what the thread has read, with a deadline.
   Nobody asks again and again.
2. What is known of an execution is the newest that was told. A stream that ends while somebody waits is an error.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from innkeeper_demo.errors import StepError
from innkeeper_sdk.control import ControlClient
from innkeeper_sdk.errors import InnkeeperError
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["SUCCESS", "Watcher"]

SUCCESS: Final = "success"
_RUNNING: Final = frozenset({"accepted", "running"})


class Watcher:
    """Follow executions while the context is open.

    Args:
        client: Of the host; closing it ends the watching.
    """

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self._told: queue.SimpleQueue[pb.Execution | InnkeeperError | None] = queue.SimpleQueue()
        self._executions: dict[str, dict[str, pb.Execution]] = {}
        self._stream = client.watch_executions()
        self._thread = threading.Thread(target=self._read, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client, which ends the stream, and wait for the thread."""
        self._client.close()
        self._thread.join()

    def executions(self, workflow_id: str) -> list[pb.Execution]:
        """Return what is known of a workflow's executions, in the order in which they were first told."""
        return list(self._executions.get(workflow_id, {}).values())

    def finished(self, workflow_id: str) -> list[pb.Execution]:
        """Return those that have ended."""
        return [execution for execution in self.executions(workflow_id) if execution.status not in _RUNNING]

    def successes(self, workflow_id: str) -> list[pb.Execution]:
        """Return those that succeeded."""
        return [execution for execution in self.executions(workflow_id) if execution.status == SUCCESS]

    def live(self, workflow_id: str) -> list[pb.Execution]:
        """Return those that have not ended."""
        return [execution for execution in self.executions(workflow_id) if execution.status in _RUNNING]

    def wait(
        self, condition: Callable[[], bool], seconds: float, what: str, *, why: Callable[[], str] = lambda: ""
    ) -> None:
        """Wait until a condition holds; it is looked at after every change of an execution.

        Args:
            condition: What to wait for.
            seconds: How long.
            what: What is waited for, for the error.
            why: Called then, for what the error can add.

        Raises:
            StepError: It does not come about, or the host stops telling.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            try:
                self._take(self._told.get(timeout=max(0.0, deadline - time.monotonic())), what)
            except queue.Empty:
                raise StepError(f"{what} did not come about in {seconds:.0f} s{why()}") from None
            # The condition is to be judged by the newest that is known.
            while not self._told.empty():
                self._take(self._told.get(), what)

    def _take(self, told: pb.Execution | InnkeeperError | None, what: str) -> None:
        if told is None:
            raise StepError(f"the host ended while {what} was waited for")
        if isinstance(told, InnkeeperError):
            raise told
        self._executions.setdefault(told.workflow_id, {})[told.execution_id] = told

    def _read(self) -> None:
        try:
            for execution in self._stream:
                self._told.put(execution)
        except InnkeeperError as error:
            self._told.put(error)
        else:
            self._told.put(None)
