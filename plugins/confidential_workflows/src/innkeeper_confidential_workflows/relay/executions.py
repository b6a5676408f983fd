"""The executions that are live: for whom the relay answers.

Rules of this module:

1. One execution of a workflow is live once at a time; while a workflow subscribes, its execution id is empty.
2. What runs for an execution ends with it: whoever waits is told so, and nothing of it goes on.
3. A result is attested once. After it the execution asks for nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from hmac import compare_digest
from typing import Any, TypeVar

from attrs import define, field

from innkeeper_sdk.errors import ConflictError, NotFoundError
from innkeeper_sdk.module import ExecutionHelper

__all__ = ["LiveExecution", "LiveExecutions"]

_T = TypeVar("_T")


@define(eq=False)
class LiveExecution:
    """One execution, as the host knows it.

    Attributes:
        workflow_id: 64 hexadecimal digits.
        owner: 40 hexadecimal digits.
        execution_id: 64 hexadecimal digits; empty while subscribing.
        attempt: From 1.
        binary_sha256: Of the binary as it is stored: 32 bytes.
        request_sha256: Of the request as it is sent: 32 bytes.
        deadline: When it is to be over, in seconds of ``time.monotonic``.
        helper: Its callbacks.
        asked: How many times which secrets were asked for, by their names.
    """

    workflow_id: str
    owner: str
    execution_id: str
    attempt: int
    binary_sha256: bytes
    request_sha256: bytes
    deadline: float
    helper: ExecutionHelper = field(repr=False)
    asked: dict[tuple[tuple[str, str], ...], int] = field(factory=dict, repr=False)
    _touched: bool = field(default=False, init=False)
    _result_sha256: bytes | None = field(default=None, init=False)
    _over: bool = field(default=False, init=False)
    _running: set[asyncio.Task[Any]] = field(factory=set, init=False, repr=False)

    @property
    def touched(self) -> bool:
        """Return whether anything was asked for it, so that it may have had an effect."""
        return self._touched

    @property
    def what(self) -> str:
        """Return what it is called in errors."""
        return f"execution {self.execution_id}" if self.execution_id else "the subscribing"

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run something for the execution, as long as it is live.

        Args:
            work: What to run; it is cancelled when the execution is over, or its caller goes.

        Raises:
            NotFoundError: The execution is over.
        """
        if self._over:
            work.close()
            raise self._ended()
        self._touched = True
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
        if task.cancelled():
            raise self._ended()
        return task.result()

    def submit(self, result_sha256: bytes) -> None:
        """Take note of what an attested body says of the result.

        Raises:
            ConflictError: There is one already.
        """
        if self._result_sha256 is not None:
            raise ConflictError(f"{self.what} of workflow {self.workflow_id} has a result already")
        self._result_sha256 = result_sha256

    def check_unfinished(self) -> None:
        """Refuse what comes after the result.

        Raises:
            ConflictError: There is a result.
        """
        if self._result_sha256 is not None:
            raise ConflictError(f"{self.what} of workflow {self.workflow_id} asks for something after its result")

    def attested(self, result_sha256: bytes) -> bool:
        """Return whether this is the digest that was attested; False also if none was."""
        return self._result_sha256 is not None and compare_digest(self._result_sha256, result_sha256)

    async def end(self) -> None:
        """Cancel what runs for it, and wait for that; idempotent."""
        self._over = True
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _ended(self) -> NotFoundError:
        return NotFoundError(f"{self.what} of workflow {self.workflow_id} is over")


class LiveExecutions:
    """The table of live executions, which the module fills and the relay reads."""

    def __init__(self) -> None:
        self._live: dict[tuple[str, str], LiveExecution] = {}

    def __len__(self) -> int:
        return len(self._live)

    @asynccontextmanager
    async def registered(self, execution: LiveExecution) -> AsyncIterator[None]:
        """Register an execution for as long as the context is open; then end what runs for it.

        Raises:
            ConflictError: It is live already.
        """
        key = (execution.workflow_id, execution.execution_id)
        if key in self._live:
            raise ConflictError(
                f"{execution.what} of workflow {execution.workflow_id} runs already",
                expected="one run of an execution at a time",
                actual=f"attempt {execution.attempt} beside attempt {self._live[key].attempt}",
            )
        self._live[key] = execution
        try:
            yield
        finally:
            del self._live[key]
            await execution.end()

    def get(self, workflow_id: str, execution_id: str) -> LiveExecution:
        """Return a live execution.

        Raises:
            NotFoundError: It is not live.
        """
        live = self._live.get((workflow_id, execution_id))
        if live is None:
            # What was asked is anybody's text; the log has it.
            raise NotFoundError("no such execution is live")
        return live
