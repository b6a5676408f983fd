"""One registration of a trigger, as the side sees it that serves the trigger.

Rules of this module:

1. A registration ends once, whoever asks for it and how often: then the capability is told to unregister it.
2. What ends while it begins is unregistered after it stands: else it would stand for ever.
3. The end outlives the call that asked for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from innkeeper_sdk.capability import Capability, CapabilityError, TriggerEvent, TriggerRegistration
from innkeeper_sdk.loop import convert
from innkeeper_sdk.loop.faults import describe, hidden
from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb

__all__ = ["Registration"]

_LOGGER: Final = logging.getLogger(__name__)


class Registration:
    """Begin, drain and end one registration.

    Args:
        capability: The trigger.
        record: What is registered.
        active: The registrations that have not ended, by trigger id; this one adds and removes itself.
    """

    def __init__(self, capability: Capability, record: TriggerRegistration, active: dict[str, Registration]) -> None:
        self._capability = capability
        self._record = record
        self._active = active
        self._id = capability.info.id
        self._where = f"trigger {self._id}"
        self._refused = False
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self._ending: asyncio.Task[CapabilityError | None] | None = None
        active[record.trigger_id] = self

    async def begin(self) -> AsyncIterator[TriggerEvent]:
        """Register; return the events once the registration stands.

        Raises:
            CapabilityError: It is refused, or the capability failed.
        """
        try:
            return await self._capability.register_trigger(self._record)
        except CapabilityError:
            self._refused = True
            raise
        except Exception as error:  # noqa: BLE001 - a capability may raise anything; the subscriber gets an error
            raise hidden(error, self._where) from None
        finally:
            self._begun.set()

    async def next_message(self, events: AsyncIterator[TriggerEvent]) -> pb.TriggerResponseMessage | None:
        """Return the next event as the wire has it, or None when there will be none.

        Raises:
            CapabilityError: The capability failed.
        """
        if self._over.is_set():
            return None
        coming = asyncio.ensure_future(anext(events))
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((coming, over), return_when=asyncio.FIRST_COMPLETED)
            return convert.event_to_proto(coming.result(), capability_id=self._id) if coming.done() else None
        except (CapabilityError, asyncio.CancelledError):
            raise
        except StopAsyncIteration:
            return None
        except Exception as error:  # noqa: BLE001 - as above
            raise hidden(error, self._where) from None
        finally:
            over.cancel()
            if coming.cancel():
                # Whoever iterates may clean up before it lets go.
                await asyncio.gather(coming, return_exceptions=True)

    async def end(self) -> None:
        """Unregister, unless that was done or is under way; return when it is done.

        Raises:
            CapabilityError: The capability could not.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        error = await asyncio.shield(self._ending)
        if error is not None:
            raise error

    async def end_quietly(self) -> None:
        """The same for who cannot do anything about a failure: it is logged."""
        try:
            await self.end()
        except CapabilityError as error:
            _LOGGER.warning("%s could not be unregistered: %s", self._where, describe(error))

    async def _end(self) -> CapabilityError | None:
        self._over.set()
        await self._begun.wait()
        try:
            if not self._refused:
                await self._capability.unregister_trigger(self._record)
        except CapabilityError as error:
            return error
        except Exception as error:  # noqa: BLE001 - as above
            return hidden(error, self._where)
        finally:
            if self._active.get(self._record.trigger_id) is self:
                del self._active[self._record.trigger_id]
        return None
