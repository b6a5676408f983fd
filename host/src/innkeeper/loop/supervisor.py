"""Keeping a process alive: launched, watched, ended with all that belongs to it, and launched again.

Rules of this module:

1. What happens is an event, taken one after the other by one task; what is done about it is in ``machine``. An event of
   an earlier generation is nobody's.
2. The first generation must become ready: if it does not, the start has failed, with the process's own words. Later
   ones are tried again, later each time, until the budget is spent; so is the first if only the guard was missing.
3. A plugin that refuses to be initialised is tried once more, for what it needs may have been missing; one that is of
   another kind is not.
4. Nobody waits for the network under a lock: there are none. Whoever calls a process that is down is told so at once.
5. To close ends everything, whatever is under way, and within a bound; nothing is launched afterwards.

For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from innkeeper.capabilities.faults import class_name
from innkeeper.loop.generation import Generation
from innkeeper.loop.guard import Guard
from innkeeper.loop.handshake import Cause
from innkeeper.loop.health import Verdict, judge
from innkeeper.loop.launch import InitialiseError, LaunchError
from innkeeper.loop.machine import Effect, Event, Restarts, step
from innkeeper.loop.peers import Peers, Registrar
from innkeeper.loop.plans import ProcessPlan
from innkeeper.loop.states import PartStatus, ProcessState
from innkeeper.loop.surroundings import Surroundings
from innkeeper_sdk.errors import InnkeeperError, ProviderFailedError, UnavailableError

__all__ = ["Supervisor"]


class Supervisor:
    """Keep one process, with its helpers.

    Args:
        plan: What to run.
        guard: Has been started.
        registrar: Where its capabilities go.
        peers: What its provider may use of the registry.
        host_public_key: 32 bytes: what this host is known by.
        app_id: What a plugin knows this host by.
        logger: Where it is told.
        changed: Called after every change of a part.
    """

    def __init__(
        self,
        plan: ProcessPlan,
        *,
        guard: Guard,
        registrar: Registrar,
        peers: Peers,
        host_public_key: bytes,
        app_id: str,
        logger: logging.Logger,
        changed: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._around = Surroundings(
            guard=guard,
            registrar=registrar,
            peers=peers,
            host_public_key=host_public_key,
            app_id=app_id,
            logger=logger,
        )
        self._logger = logger
        self._changed = changed
        self._state = ProcessState.STARTING
        self._reason = ""
        self._since = datetime.now(UTC)
        self._error: InnkeeperError | None = None
        self._generation: Generation | None = None
        self._refusals = 0
        self._restarts = Restarts(plan.restart)
        self._events: asyncio.Queue[tuple[Event, int, InnkeeperError | str]] = asyncio.Queue()
        self._settled = asyncio.Event()
        self._actor: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Launch the process; return when its capabilities are there.

        Raises:
            ProviderFailedError: They cannot be; what was started has been ended.
        """
        if self._actor is None:
            self._actor = asyncio.create_task(self._act(launch=True), name=f"supervisor of {self._plan.name}")
        await self._settled.wait()
        if not self._state.serves:
            error = self._error
            raise (
                error
                if isinstance(error, ProviderFailedError)
                else ProviderFailedError(
                    str(error or f"the process {self._plan.name} was stopped before it was ready"),
                    provider=self._plan.provider_id,
                )
            )

    async def close(self) -> None:
        """End the process and everything that belongs to it; idempotent."""
        if self._actor is None:
            self._actor = asyncio.create_task(self._act(launch=False), name=f"supervisor of {self._plan.name}")
        self._post(Event.STOP, 0)
        # Whoever stops waiting does not stop the end.
        await asyncio.shield(self._actor)

    def parts(self) -> list[PartStatus]:
        """Return how the process is, and its helpers."""
        generation = self._generation
        number = generation.number if generation is not None else None
        alive = self._state.serves or self._state in (ProcessState.STARTING, ProcessState.STOPPING)
        process = PartStatus(
            name=self._plan.name,
            mode="loop",
            state=self._state,
            reason=self._reason,
            since=self._since,
            pid=generation.pid if generation is not None and alive else None,
            generation=number,
        )
        return [
            process,
            *(
                PartStatus(
                    name=helper.name,
                    mode="helper",
                    state=self._state,
                    reason=self._reason,
                    since=self._since,
                    pid=generation.helper_pid(helper.name) if generation is not None and alive else None,
                    generation=number,
                )
                for helper in self._plan.helpers
            ),
        ]

    def _post(self, event: Event, generation: int, why: InnkeeperError | str = "") -> None:
        self._events.put_nowait((event, generation, why))

    async def _act(self, *, launch: bool) -> None:
        try:
            if launch:
                await self._do(Effect.LAUNCH)
            await self._take_events()
        except Exception as error:
            # A fault of the host: what was started is ended all the same, and nobody waits for ever.
            self._logger.exception("the supervisor of process %s failed", self._plan.name)
            await self._reap()
            self._enter(ProcessState.FAILED, f"the host failed to supervise it: {class_name(error)}")
        finally:
            self._settled.set()

    async def _take_events(self) -> None:
        while self._state is not ProcessState.STOPPED:
            event, number, why = await self._events.get()
            if number and (self._generation is None or number != self._generation.number):
                continue
            event = self._weighed(event, why)
            state, effects = step(self._state, event)
            # What comes too late changes nothing, the reason neither.
            if state is not self._state or (event is Event.LATE and state is ProcessState.DEGRADED):
                self._enter(state, why)
            for effect in effects:
                await self._do(effect)

    def _weighed(self, event: Event, why: InnkeeperError | str) -> Event:
        """Return what a fall means, given how often there were others."""
        if event is Event.READY:
            self._refusals = 0
        if event is not Event.FELL or self._generation is None:
            return event
        starting = self._state is ProcessState.STARTING
        if isinstance(why, LaunchError) and why.cause is Cause.COOKIE:
            return Event.REFUSED
        hopeless = isinstance(why, LaunchError) and why.cause is not None and why.cause.hopeless
        if isinstance(why, InitialiseError):
            self._refusals += 1
            hopeless = self._refusals > 1
        first = self._generation.number == 1 and not isinstance(why, UnavailableError)
        if starting and (hopeless or first):
            return Event.HOPELESS
        if starting or self._state.serves:
            return event if self._restarts.spend(asyncio.get_running_loop().time()) else Event.SPENT
        return event

    def _enter(self, state: ProcessState, why: InnkeeperError | str) -> None:
        if state is not self._state:
            self._since = datetime.now(UTC)
        self._state = state
        self._reason = why.message if isinstance(why, InnkeeperError) else why
        if why:
            self._error = (
                why if isinstance(why, InnkeeperError) else ProviderFailedError(why, provider=self._plan.provider_id)
            )
        level = logging.INFO if state.serves or not self._reason else logging.ERROR
        if state is ProcessState.DEGRADED:
            level = logging.WARNING
        self._logger.log(
            level,
            "process %s of provider %s is %s%s",
            self._plan.name,
            self._plan.provider_id,
            state.value,
            f": {self._reason}" if self._reason else "",
            extra={"generation": self._generation.number if self._generation is not None else None},
        )
        try:
            self._changed()
        except Exception:
            self._logger.exception("a change of process %s could not be told", self._plan.name)

    async def _do(self, effect: Effect) -> None:
        generation = self._generation
        match effect:
            case Effect.LAUNCH:
                number = 1 if generation is None else generation.number + 1
                self._generation = Generation(number, self._plan, self._around)
                self._watching = asyncio.create_task(self._watch(self._generation))
            case Effect.PAUSE:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._restarts.pause(), self._post, Event.LAUNCH, 0)
            case Effect.SETTLE:
                self._settled.set()
            case Effect.ABANDON:
                if generation is not None:
                    generation.abandon()
            case Effect.CLOSE:
                if generation is not None:
                    await generation.close()
            case Effect.REAP:
                await self._reap()

    async def _reap(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        if self._generation is not None:
            await self._generation.reap()
        self._post(Event.REAPED, 0)

    async def _watch(self, generation: Generation) -> None:
        number = generation.number
        try:
            await generation.start()
        except InnkeeperError as error:
            self._post(Event.FELL, number, error)
            return
        except Exception as error:
            self._logger.exception("process %s could not be started", self._plan.name)
            self._post(Event.FELL, number, f"the host could not start it: {error}")
            return
        self._post(Event.READY, number)
        missed = 0
        while True:
            happened = await asyncio.wait({generation.fell}, timeout=self._plan.restart.ping_interval_seconds)
            if happened[0]:
                self._post(Event.FELL, number, generation.fell.result())
                return
            wrong = await generation.ping()
            before, missed = missed, missed + 1 if wrong else 0
            match judge(missed, self._plan.restart):
                case Verdict.HUNG:
                    self._post(Event.FELL, number, f"{missed} health checks failed in a row: {wrong}")
                    return
                case Verdict.LATE:
                    self._post(Event.LATE, number, wrong)
                case Verdict.WELL if before:
                    self._post(Event.READY, number)
