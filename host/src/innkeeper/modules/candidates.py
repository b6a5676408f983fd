"""One module type, for one workflow: loaded and started when it is first needed, and closed once.

Rules of this module:

1. Loading and starting happen at most once at a time; one that failed is closed and may be tried again.
2. What was loaded is closed, whether its start succeeded or not. After ``close`` nothing is loaded any more.
3. A module type is a provider's code: what it raises besides the errors of its contract is that provider's error, and
   the text of such an exception goes nowhere, since it may hold what no log may keep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from attrs import evolve

from innkeeper.capabilities.faults import class_name, contain, is_a, location
from innkeeper.capabilities.limits import LimitTable
from innkeeper_sdk.errors import InnkeeperError, ProviderError, UnavailableError
from innkeeper_sdk.manifest import Manifest
from innkeeper_sdk.module import Module, ModuleType, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult, TeeTypeAndRegions

__all__ = ["Candidate", "ReadyModuleType"]

_T = TypeVar("_T")


class ReadyModuleType(Protocol):
    """A module type whose provider is ready."""

    @property
    def provider_id(self) -> str:
        """Return the provider's id."""

    @property
    def module_type(self) -> ModuleType:
        """Return the module type."""

    @property
    def manifest(self) -> Manifest:
        """Return the provider's manifest."""


class Candidate:
    """A module type that may run a workflow.

    Args:
        name: The module type's name.
        ready: The module type.
        spec: The workflow; the limits of the module type's provider are added.
        binary: Its binary.
        limits: The limits in force.
    """

    def __init__(
        self, name: str, ready: ReadyModuleType, *, spec: WorkflowSpec, binary: bytes, limits: LimitTable
    ) -> None:
        own = limits.of_provider(ready.provider_id, owner=spec.owner, workflow_id=spec.workflow_id)
        self.name = name
        self.module_type = ready.module_type
        self._provider_id = ready.provider_id
        self._spec = evolve(spec, limits={**spec.limits, **own})
        self._binary = binary
        self._lock = asyncio.Lock()
        self._module: Module | None = None
        self._started = False
        self._closed = False

    async def load(self) -> None:
        """Load the binary, if that is not done.

        Raises:
            InnkeeperError: It is refused.
            UnavailableError: It cannot be loaded yet, or this is closed.
        """
        async with self._lock:
            await self._load()

    async def start(self) -> None:
        """Load the binary and start the module, as far as that is not done.

        Raises:
            InnkeeperError: It is refused, or does not start.
            UnavailableError: It cannot be had yet, or this is closed.
        """
        await self._start()

    async def offers(self) -> Sequence[TeeTypeAndRegions]:
        """Ask what the module type offers now.

        Raises:
            UnavailableError: It cannot be told yet.
            InnkeeperError: The provider is at fault.
        """

        async def offers() -> list[TeeTypeAndRegions]:
            return list(await self.module_type.offers())

        return await self._guard("its offers", offers)

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        """Execute a request, on the module started if need be.

        Raises:
            InnkeeperError: It failed.
            UnavailableError: The module cannot be had yet, or this is closed.
        """
        module = await self._start()
        result = await self._guard("an execution", lambda: module.execute(request, run))
        if not is_a(result, ExecutionResult):
            raise self._fault("an execution", TypeError())
        return result

    async def close(self) -> None:
        """Close the module, if there is one; idempotent.

        Raises:
            InnkeeperError: It does not close.
        """
        async with self._lock:
            self._closed = True
            module, self._module, self._started = self._module, None, False
            if module is not None:
                await self._guard("its end", lambda: module.close())  # noqa: PLW0108 - looked up inside the wall

    async def _start(self) -> Module:
        async with self._lock:
            module = await self._load()
            if not self._started:
                try:
                    await self._guard("its start", lambda: module.start())  # noqa: PLW0108 - looked up inside the wall
                except BaseException as error:
                    self._module = None
                    try:
                        await self._guard("its end", lambda: module.close())  # noqa: PLW0108 - looked up inside the wall
                    except InnkeeperError as second:
                        error.add_note(f"and closing it failed: {second}")
                    raise
                self._started = True
            return module

    async def _load(self) -> Module:
        if self._closed:
            raise UnavailableError(f"the module {self.name} of workflow {self._spec.workflow_id} is closed")
        if self._module is None:
            module = await self._guard("loading", lambda: self.module_type.load(self._spec, self._binary))
            if not is_a(module, Module):
                raise self._fault("loading", TypeError())
            self._module = module
        return self._module

    async def _guard(self, what: str, function: Callable[[], Awaitable[_T]]) -> _T:
        return await contain(function, passes=(InnkeeperError,), fault=lambda error: self._fault(what, error))

    def _fault(self, what: str, error: BaseException) -> ProviderError:
        return ProviderError(
            f"the module type {self.name} failed in {what}: {class_name(error)} {location(error)}".rstrip(),
            provider=self._provider_id,
        )
