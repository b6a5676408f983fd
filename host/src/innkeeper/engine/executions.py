"""Running one execution: its attempts, and how it ends.

Rules of this module:

1. ``accepted → running (attempt n) → an end``, each step durable. Beginning an attempt is not waited for: whatever the
   attempt does outside waits for its journal, which is stored after it.
2. An attempt ends with the module's answer, at its deadline, or when its journal says that it cannot go on. The module
   is told the deadline and keeps it itself; it is cut off a moment later if it does not.
3. A failure at or after the deadline is a timeout; an answer after it is an answer.
4. A module that is not available is waited for, attempt after attempt, as long as an event may wait: the crash of a
   provider loses no accepted event.
5. If the running itself is cancelled, nothing is recorded: the next host tries again, as after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Any, Final

from attrs import evolve, field, frozen
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.capabilities.faults import class_name, contain, location
from innkeeper.engine.backoff import Backoff
from innkeeper.engine.clock import at
from innkeeper.engine.errors import InDoubtError
from innkeeper.engine.events import Broadcast, ExecutionChanged, LineWritten
from innkeeper.engine.helper import AttemptHelper, Services
from innkeeper.engine.journal import Journal
from innkeeper.engine.logs import LogBuffer
from innkeeper.engine.ports import ChosenModule
from innkeeper.store.executions import ExecutionRecord, ExecutionStatus, Outcome
from innkeeper.store.journal import EntryKind
from innkeeper.store.logs import LogLine, add_lines
from innkeeper.store.stores import Stores
from innkeeper_sdk.errors import DeadlineExceededError, InnkeeperError, ProviderError, UnavailableError
from innkeeper_sdk.module import Run
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult, Trigger

__all__ = ["Runner", "Work"]

# What a module gets to end an execution by itself after its deadline, and after it was cancelled.
_GRACE: Final = 2.0

# An execution that ends its host each time must not do so for ever.
_MOST_ATTEMPTS: Final = 100


@frozen
class Work:
    """An accepted event.

    Attributes:
        record: Its execution.
        payload: The event's message.
        recovered: Whether an earlier host accepted it, and may have begun it.
    """

    record: ExecutionRecord
    payload: AnyMessage = field(repr=False)
    recovered: bool = False


class Runner:
    """Run executions of one workflow.

    Args:
        services: What they share.
        config: The workflow's configuration.
        module: Its module, which has answered to a subscribe.
        stores: Where they are recorded.
        events: Who is told.
        backoff: The pauses between tries when the module is not available.
        logger: Where troubles go.
    """

    def __init__(
        self,
        services: Services,
        config: bytes,
        module: ChosenModule,
        *,
        stores: Stores,
        events: Broadcast,
        backoff: Backoff,
        logger: logging.Logger,
    ) -> None:
        self.services = services
        self.config = config
        self.module = module
        self.stores = stores
        self.events = events
        self.backoff = backoff
        self.logger = logger

    async def run(self, work: Work) -> ExecutionRecord:
        """Run an execution to its end.

        Args:
            work: The accepted event.

        Returns:
            The execution as it ended.

        Raises:
            DatabaseError: Its end could not be recorded.
        """
        clock = self.services.clock
        patience = clock.monotonic() + self.services.own.queue_seconds
        record, failures, again = work.record, 0, work.recovered
        if record.attempt >= _MOST_ATTEMPTS:
            error = f"given up after {record.attempt} attempts that never ended"
            return await self.finish(record, Outcome(ExecutionStatus.FAILED, at(clock), error=error))
        while True:
            record = evolve(record, status=ExecutionStatus.RUNNING, attempt=record.attempt + 1, started_at=at(clock))
            attempt = _Attempt(self, work, record, again=again)
            try:
                outcome = await attempt.run()
            except UnavailableError as error:
                failures, again = failures + 1, True
                pause = self.backoff.delay(failures)
                if clock.monotonic() + pause <= patience:
                    self.logger.warning(
                        "an execution waits for its module", extra={**self.fields(record), "reason": str(error)}
                    )
                    await asyncio.sleep(pause)
                    continue
                outcome = attempt.outcome(ExecutionStatus.FAILED, error=str(error))
            return await self.finish(record, outcome, attempt.logs.take())

    async def finish(self, record: ExecutionRecord, outcome: Outcome, lines: Sequence[LogLine] = ()) -> ExecutionRecord:
        """Record how an execution ended, and tell it.

        Raises:
            DatabaseError: It could not be recorded.
        """
        await self.stores.database.write(self.stores.executions.finish(record.execution_id, outcome, lines))
        ended = evolve(
            record,
            status=outcome.status,
            result=outcome.result,
            error=outcome.error,
            finished_at=outcome.finished_at,
            seconds=outcome.seconds,
            dropped_logs=outcome.dropped_logs,
        )
        self.events.publish(*map(LineWritten, lines), ExecutionChanged(ended))
        return ended

    def fields(self, record: ExecutionRecord) -> dict[str, str | int]:
        """Return what the host's log says of an execution."""
        return {
            "workflow_id": record.workflow_id,
            "execution_id": record.execution_id,
            "trigger": record.trigger_index,
            "attempt": record.attempt,
        }


class _Attempt:
    """One try of an execution."""

    def __init__(self, runner: Runner, work: Work, record: ExecutionRecord, *, again: bool) -> None:
        self._runner = runner
        self._services = runner.services
        self._stores = runner.stores
        self._work = work
        self._record = record
        self._again = again
        self._started = self._services.clock.monotonic()
        self._deadline = self._started + self._services.own.execution_seconds
        self.logs = LogBuffer(
            workflow_id=record.workflow_id,
            execution_id=record.execution_id,
            line_bytes=self._services.own.log_line_bytes,
            lines=self._services.own.log_lines,
            clock=self._services.clock,
            write=self._write,
        )

    async def run(self) -> Outcome:
        """Return how the attempt ended.

        Raises:
            UnavailableError: The module is not available; the journal is stored as far as it goes.
        """
        execution_id = self._record.execution_id
        entries = await self._stores.journal.load(execution_id) if self._again else ()
        begun = self._stores.database.submit(
            self._stores.executions.begin(
                execution_id, attempt=self._record.attempt, at=self._record.started_at or at(self._services.clock)
            )
        )
        journal = Journal(self._stores.database, execution_id, entries)
        helper = AttemptHelper(
            self._services, execution_id=execution_id, journal=journal, logs=self.logs, deadline=self._deadline
        )
        begun.add_done_callback(lambda done: self._begun(done, journal))
        seed = journal.number(EntryKind.NODE_SEED, lambda: secrets.randbits(64) - (1 << 63))
        task = asyncio.create_task(self._execute(helper, seed), name=f"innkeeper execution {execution_id}")
        ends: set[asyncio.Future[Any]] = {task, journal.fault}
        try:
            await asyncio.wait(
                ends,
                timeout=max(0.0, self._deadline + _GRACE - self._services.clock.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            return await self._classify(task, journal)
        finally:
            await self._end(task)
            await helper.close()
            journal.close()

    def outcome(self, status: ExecutionStatus, *, result: bytes = b"", error: str = "") -> Outcome:
        """Return an outcome of this attempt, now."""
        clock = self._services.clock
        return Outcome(
            status=status,
            finished_at=at(clock),
            result=result,
            error=error,
            seconds=clock.monotonic() - self._started,
            dropped_logs=self.logs.dropped,
        )

    async def _execute(self, helper: AttemptHelper, seed: int) -> ExecutionResult:
        request = ExecuteRequest(
            config=self._runner.config,
            trigger=Trigger(id=self._record.trigger_index, payload=self._work.payload),
            max_response_size=self._services.own.response_bytes,
        )
        run = Run(
            execution_id=self._record.execution_id,
            attempt=self._record.attempt,
            deadline=self._deadline,
            helper=helper,
            node_seed=seed,
        )
        passes = (InnkeeperError, asyncio.CancelledError)
        return await contain(lambda: self._runner.module.execute(request, run), passes=passes, fault=self._fault)

    async def _classify(self, task: asyncio.Task[ExecutionResult], journal: Journal) -> Outcome:
        if journal.fault.done():
            return self._faulted(journal.fault.exception(), journal)
        if not task.done():
            return self._cut_off(ExecutionStatus.TIMEOUT, self._late(), journal)
        if task.cancelled():
            return self._cut_off(ExecutionStatus.FAILED, "the module ended the execution without a result", journal)
        error = task.exception()
        if error is None:
            return self._answered(task.result(), journal)
        if isinstance(error, DeadlineExceededError) or self._services.clock.monotonic() >= self._deadline:
            return self._cut_off(ExecutionStatus.TIMEOUT, self._late(), journal)
        if isinstance(error, UnavailableError):
            await journal.settle()
            raise error
        return self._cut_off(ExecutionStatus.FAILED, str(error), journal)

    def _answered(self, result: ExecutionResult, journal: Journal) -> Outcome:
        which = result.WhichOneof("result")
        if which not in ("value", "error", None):
            return self.outcome(ExecutionStatus.FAILED, error=f"the workflow answered a trigger with {which}")
        try:
            self._services.limits.check(
                "PerWorkflow.ExecutionResponseLimit",
                result.ByteSize(),
                owner=self._services.spec.owner,
                workflow_id=self._services.spec.workflow_id,
            )
            journal.check_replayed()
        except InDoubtError as error:
            return self.outcome(ExecutionStatus.IN_DOUBT, error=str(error))
        except InnkeeperError as error:
            return self.outcome(ExecutionStatus.FAILED, error=str(error))
        status = ExecutionStatus.ERROR if which == "error" else ExecutionStatus.SUCCESS
        return self.outcome(status, result=result.SerializeToString(), error=result.error)

    def _faulted(self, fault: BaseException | None, journal: Journal) -> Outcome:
        if isinstance(fault, InDoubtError):
            return self.outcome(ExecutionStatus.IN_DOUBT, error=str(fault))
        return self._cut_off(ExecutionStatus.FAILED, str(fault), journal)

    def _cut_off(self, status: ExecutionStatus, error: str, journal: Journal) -> Outcome:
        unanswered = journal.unanswered()
        if unanswered:
            error += f"; call {', '.join(map(str, unanswered))} was not answered, so its effect is unknown"
        return self.outcome(status, error=error)

    def _late(self) -> str:
        return f"the execution was not over after {self._services.own.execution_seconds:g} s"

    def _fault(self, error: BaseException) -> InnkeeperError:
        # The text of a foreign exception goes nowhere: it may hold what a log must not keep.
        self._runner.logger.error(
            "a module is at fault",
            extra={
                **self._runner.fields(self._record),
                "reason": class_name(error),
                "where": location(error),
            },
        )
        return ProviderError(f"the module is at fault: {class_name(error)}")

    async def _end(self, task: asyncio.Task[ExecutionResult]) -> None:
        if task.cancel():
            await asyncio.wait({task}, timeout=_GRACE)
        if task.done():
            if not task.cancelled():
                task.exception()  # seen, or of no more interest
        else:
            self._runner.logger.error(
                "a module does not end an execution that was cancelled", extra=self._runner.fields(self._record)
            )

    def _begun(self, begun: asyncio.Future[None], journal: Journal) -> None:
        error = begun.exception()
        if error is None:
            self._runner.events.publish(ExecutionChanged(self._record))
        else:
            journal.lose(error)

    def _write(self, lines: Sequence[LogLine]) -> None:
        stored = self._stores.database.submit(lambda connection: add_lines(connection, lines))
        stored.add_done_callback(lambda done: self._written(done, lines))

    def _written(self, stored: asyncio.Future[None], lines: Sequence[LogLine]) -> None:
        error = stored.exception()
        if error is None:
            self._runner.events.publish(*map(LineWritten, lines))
            return
        self.logs.lost(len(lines))
        self._runner.logger.error(
            "lines of a workflow's log could not be stored",
            extra={**self._runner.fields(self._record), "lines": len(lines), "reason": str(error)},
        )
