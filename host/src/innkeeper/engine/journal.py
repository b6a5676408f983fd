"""The journal of one attempt: it records what the guest is told, and tells it again after a crash.

Rules of this module:

1. Whatever the guest is told goes through here: times, its seed, and the answers of calls, refusals included. Secrets
   are the exception: that they were asked for is kept, never what they are; they are fetched again.
2. Nothing leaves the host before the journal says so durably: ``started`` returns after it is stored, with everything
   before it. So whatever a call depended on is there when the call is.
3. An answer is stored without making the guest wait; the next ``started`` waits for it.
4. A call with another digest than the journal has for its id is a divergence. One that was never answered is repeated
   only if its method is declared idempotent; else its execution is in doubt. Both end the attempt: the guest is never
   told about them, because it could go on.
5. A guest that asks without end fills neither the memory nor the disk: what waits to be stored is stored batch by
   batch, and an entry above the limit ends the attempt in the same way. An answer of a call that left the host is
   always taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NoReturn

from attrs import define, field, frozen
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.engine.errors import InDoubtError, ReplayDivergenceError
from innkeeper.store.database import Database
from innkeeper.store.journal import EntryKind, JournalEntry, Phase, add_entries
from innkeeper_sdk.capability import CapabilityError
from innkeeper_sdk.errors import InnkeeperError, LimitExceededError, WorkflowError

__all__ = ["Answer", "CallId", "Journal"]

# Kept as signed numbers of 64 bits, in the order in which the guest was told them.
_NUMBERS: Final = (EntryKind.DON_TIME, EntryKind.NODE_TIME, EntryKind.NODE_SEED)

# Entries that may wait for the next call before they are stored by themselves: some tens of kilobytes.
_BATCH: Final = 256


@frozen
class CallId:
    """A call, or a request for secrets, of one attempt.

    Attributes:
        number: The guest's id of it.
        phase: Which run of the guest asked.
    """

    number: int
    phase: Phase = Phase.HANDLER

    def __str__(self) -> str:
        """Return what an operator is told."""
        return f"{self.number}" if self.phase is Phase.HANDLER else f"{self.number} of the pre-hook"


class _Form(Enum):
    """How an answer is kept: a byte, then the rest."""

    PAYLOAD = b"\x00"
    CAPABILITY_ERROR = b"\x01"
    REFUSAL = b"\x02"


@frozen
class Answer:
    """What a call was answered: a payload, or an error.

    Attributes:
        payload: The answer's message.
        error: Why there is none.
    """

    payload: AnyMessage | None = field(default=None, repr=False)
    error: InnkeeperError | None = None

    def encode(self) -> bytes:
        """Return the answer as it is kept."""
        if self.error is None:
            return _Form.PAYLOAD.value + (self.payload or AnyMessage()).SerializeToString()
        if isinstance(self.error, CapabilityError):
            return _Form.CAPABILITY_ERROR.value + self.error.serialize().encode("utf-8", "replace")
        return _Form.REFUSAL.value + str(self.error).encode("utf-8", "replace")

    @classmethod
    def decode(cls, data: bytes) -> Answer:
        """Return the answer that was kept."""
        form, rest = _Form(data[:1]), data[1:]
        if form is _Form.PAYLOAD:
            return cls(payload=AnyMessage.FromString(rest))
        text = rest.decode()
        return cls(error=CapabilityError.parse(text) if form is _Form.CAPABILITY_ERROR else InnkeeperError(text))

    def unwrap(self) -> AnyMessage:
        """Return the payload.

        Raises:
            InnkeeperError: The call was answered with an error.
        """
        if self.error is not None:
            raise self.error
        return self.payload or AnyMessage()


@define
class _Call:
    digest: bytes
    idempotent: bool = True
    # Whether it may have left the host.
    started: bool = False
    answered: bool = False
    # What an attempt before this one was answered; nothing asks again for an answer of this one.
    answer: Answer | None = None
    repeated: bool = False


class Journal:
    """Record one attempt, after replaying what the attempts before it recorded.

    Args:
        database: Where it is kept.
        execution_id: Whose it is.
        entries: What the attempts before this one recorded.
    """

    def __init__(self, database: Database, execution_id: str, entries: Sequence[JournalEntry] = ()) -> None:
        self._database = database
        self._execution_id = execution_id
        self._position = len(entries)
        self._most: int | None = None
        self._buffer: list[JournalEntry] = []
        self._numbers = {kind: deque[int]() for kind in _NUMBERS}
        self._calls: dict[CallId, _Call] = {}
        self._secrets: dict[CallId, bytes] = {}
        self._used: set[tuple[EntryKind, CallId]] = set()
        self._last: asyncio.Future[None] | None = None
        self._broken: BaseException | None = None
        self._fault: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        for entry in entries:
            self._remember(entry)

    @property
    def fault(self) -> asyncio.Future[NoReturn]:
        """Return a future that fails when this attempt cannot go on: it diverges, is in doubt, or lost its journal."""
        return self._fault

    @property
    def crowded(self) -> bool:
        """Return whether the next entry has to wait for those before it, or is above the limit."""
        return len(self._buffer) >= _BATCH or self._full

    def limit(self, most: int) -> None:
        """Let the journal hold so many entries, those of earlier attempts and the seed included."""
        self._most = most

    def number(
        self, kind: EntryKind, read: Callable[[], int], replay: Callable[[int], int] = lambda known: known
    ) -> int:
        """Return the next time, or the seed, that the guest is told.

        Args:
            kind: Whose time, or the seed.
            read: Returns a new one.
            replay: Takes note of one that the guest was told before, and returns it.

        Raises:
            LimitExceededError: The journal is full.
        """
        known = self._numbers[kind]
        if known:
            return replay(known.popleft())
        # Every attempt has a seed, also one that may ask for nothing.
        if kind is not EntryKind.NODE_SEED:
            self._admit()
        value = read()
        self._append(kind, value=value.to_bytes(8, "big", signed=True))
        return value

    def find(self, call_id: CallId, digest: bytes) -> Answer | None:
        """Return what a call was answered in an attempt before this one, or None if it is to be made.

        Args:
            call_id: The call.
            digest: SHA-256 of what it asks.

        Raises:
            WorkflowError: The guest has used this id before in this attempt.
            ReplayDivergenceError: It asked for something else before.
            InDoubtError: It was asked for, never answered, and may not be repeated.
        """
        self._use(EntryKind.STARTED, call_id)
        call = self._calls.get(call_id)
        if call is None:
            return None
        call.repeated = True
        if call.digest != digest:
            self._fail(_divergence(f"call {call_id} asks for something else"))
        if not call.answered and not call.idempotent:
            self._fail(_doubt(call_id))
        return call.answer

    async def started(self, call_id: CallId, digest: bytes, *, idempotent: bool) -> None:
        """Record that a call is about to leave the host; return when that is durable.

        Args:
            call_id: The call.
            digest: SHA-256 of what it asks.
            idempotent: Whether it may be repeated.

        Raises:
            DatabaseError: It cannot be recorded, so the call must not be made.
            LimitExceededError: The journal is full, so it must not be made either.
        """
        if call_id not in self._calls:
            self._admit()
            self._calls[call_id] = _Call(digest, idempotent, started=True, repeated=True)
            self._append(EntryKind.STARTED, call_id=call_id, digest=digest, idempotent=idempotent)
        await self.settle()

    def answered(self, call_id: CallId, digest: bytes, answer: Answer) -> None:
        """Record what a call was answered, or that it was refused before it left the host.

        Raises:
            LimitExceededError: It was refused, and the journal is full.
        """
        call = self._calls.get(call_id)
        if call is None:
            self._admit()
        else:
            call.answered = True
        self._append(EntryKind.ANSWERED, call_id=call_id, digest=digest, value=answer.encode())
        if call is not None:
            self._store()

    def secrets(self, call_id: CallId, digest: bytes) -> None:
        """Record that secrets were asked for.

        Raises:
            WorkflowError: The guest has used this id before in this attempt.
            ReplayDivergenceError: Others were asked for before.
            LimitExceededError: The journal is full.
        """
        self._use(EntryKind.SECRETS, call_id)
        known = self._secrets.get(call_id)
        if known is None:
            self._admit()
            self._secrets[call_id] = digest
            self._append(EntryKind.SECRETS, call_id=call_id, digest=digest)
        elif known != digest:
            self._fail(_divergence(f"request {call_id} asks for other secrets"))

    def unanswered(self) -> list[CallId]:
        """Return the calls that may have had an effect, were never answered, and may not be repeated."""
        return [id_ for id_, call in self._calls.items() if call.started and not call.answered and not call.idempotent]

    def check_replayed(self) -> None:
        """Check, at the end of an attempt, that it made every call that the attempts before it made.

        Raises:
            InDoubtError: One that it did not make is unanswered and may not be repeated.
            ReplayDivergenceError: It did not make one.
        """
        for call_id, call in self._calls.items():
            if call.started and not call.repeated:
                if not call.answered and not call.idempotent:
                    raise _doubt(call_id)
                raise _divergence(f"call {call_id} is not made any more")

    async def settle(self) -> None:
        """Wait until everything that was recorded is durable.

        Raises:
            DatabaseError: Some of it cannot be recorded; that ends the attempt too.
        """
        self._store()
        if self._last is not None:
            await asyncio.shield(self._last)
        if self._broken is not None:
            raise self._broken

    async def relieve(self) -> None:
        """Wait until what was recorded is durable, if it is a batch: whoever asks faster than the disk waits for it.

        Raises:
            DatabaseError: Some of it cannot be recorded; that ends the attempt too.
        """
        if len(self._buffer) >= _BATCH:
            await self.settle()

    def lose(self, error: BaseException) -> None:
        """End the attempt: what it does can no longer be recorded."""
        if self._broken is None:
            self._broken = error
        if not self._fault.done():
            self._fault.set_exception(error)

    def close(self) -> None:
        """Record nothing more; idempotent."""
        if self._fault.done():
            self._fault.exception()  # seen, or of no more interest
        else:
            self._fault.cancel()

    def _remember(self, entry: JournalEntry) -> None:
        if entry.kind in self._numbers:
            self._numbers[entry.kind].append(int.from_bytes(entry.value or b"", "big", signed=True))
            return
        call_id, digest = CallId(entry.callback_id or 0, entry.phase), entry.digest or b""
        if entry.kind is EntryKind.SECRETS:
            self._secrets[call_id] = digest
        elif entry.kind is EntryKind.STARTED:
            self._calls[call_id] = _Call(digest, entry.idempotent, started=True)
        else:
            call = self._calls.setdefault(call_id, _Call(digest))
            call.answered, call.answer = True, Answer.decode(entry.value or b"")

    def _use(self, kind: EntryKind, call_id: CallId) -> None:
        if (kind, call_id) in self._used:
            raise WorkflowError(f"callback id {call_id} is used twice")
        self._used.add((kind, call_id))

    @property
    def _full(self) -> bool:
        return self._most is not None and self._position >= self._most

    def _admit(self) -> None:
        if self._full:
            self._fail(
                LimitExceededError(
                    "the execution asked for more than its journal holds: readings of clocks, calls, and their answers",
                    expected=f"at most {self._most} entries (PerWorkflow.JournalEntryLimit)",
                )
            )

    def _append(
        self,
        kind: EntryKind,
        *,
        call_id: CallId | None = None,
        digest: bytes | None = None,
        idempotent: bool = False,
        value: bytes | None = None,
    ) -> None:
        self._buffer.append(
            JournalEntry(
                position=self._position,
                kind=kind,
                callback_id=None if call_id is None else call_id.number,
                digest=digest,
                idempotent=idempotent,
                value=value,
                phase=Phase.HANDLER if call_id is None else call_id.phase,
            )
        )
        self._position += 1

    def _store(self) -> None:
        if not self._buffer:
            return
        entries, self._buffer = self._buffer, []
        execution_id = self._execution_id
        # What is submitted later is stored later, so waiting for the last one is waiting for all.
        self._last = self._database.submit(lambda connection: add_entries(connection, execution_id, entries))
        self._last.add_done_callback(self._stored)

    def _stored(self, stored: asyncio.Future[None]) -> None:
        error = stored.exception()
        if error is not None:
            self.lose(error)

    def _fail(self, error: InnkeeperError) -> NoReturn:
        if not self._fault.done():
            self._fault.set_exception(error)
        raise error


def _divergence(what: str) -> ReplayDivergenceError:
    return ReplayDivergenceError(
        f"the new attempt does not repeat the one before it: {what}",
        hint="a workflow must ask for the same things when it is told the same things",
    )


def _doubt(call_id: CallId) -> InDoubtError:
    return InDoubtError(
        f"call {call_id} was made, its answer was lost, and its method may not be repeated: its effect is unknown"
    )
