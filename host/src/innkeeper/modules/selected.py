"""The modules of one workflow, behind one face.

Rules of this module:

1. The main module is asked for the triggers. Each trigger is run by the first module that meets its requirements: the
   main one, then those that take no kind of their own, in the order of plugins.yaml; of a bound workflow the main one
   alone. None is an error; one that is not ready yet defers the workflow.
2. It fails closed: a trigger that was not chosen for is never run, and a new choice replaces the old one whole.
3. A pre-hook runs on the main module, with the workflow's configuration and the unrestricted helper. It must answer
   with restrictions, or with an error, which is the result; anything else fails the execution.

The rules are the reference's (chainlink-common, ``workflows/host/requirement_selecting_module.go``) without its faults:
there a pre-hook gets no configuration, and an answer of it that is no restriction restricts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from attrs import evolve, field, frozen

from innkeeper.capabilities.callers import Right, WorkflowCaller
from innkeeper.capabilities.limits import LimitTable
from innkeeper.capabilities.registry import Registry
from innkeeper.modules.attributes import Binding
from innkeeper.modules.candidates import Candidate, ReadyModuleType
from innkeeper.modules.requirements import needs_offers, satisfied
from innkeeper.modules.restrictions import PayloadSecrets, restricted
from innkeeper_sdk.errors import (
    DeadlineExceededError,
    InnkeeperError,
    NotFoundError,
    UnavailableError,
    WorkflowError,
)
from innkeeper_sdk.module import ExecutionHelper, Module, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    ExecuteRequest,
    ExecutionResult,
    Requirements,
    TeeTypeAndRegions,
    TriggerSubscription,
)

__all__ = ["SelectedModule", "Surroundings"]

_PRE_HOOK_TIMEOUT: Final = "PerWorkflow.PreHookTimeout"


def _same_helper(helper: ExecutionHelper) -> ExecutionHelper:
    return helper


def _nothing_pending() -> Mapping[str, str]:
    return {}


def _unknown(provider_id: str) -> str:
    del provider_id
    return "it is missing, disabled, or not ready"


@frozen
class Surroundings:
    """What choosing modules needs of the rest of the host.

    Attributes:
        ready: Returns the module types that are ready, by name, in the order of plugins.yaml.
        registry: The registry: what a restricted capability id stands for.
        limits: The limits in force.
        pending: Returns the enabled module types that are not ready, by name, with the reason of each.
        absent: Returns why a provider does not give a module type, given its id: a clause about the provider.
        payload_secrets: How to find the secrets that a call's payload asks for, by full message name.
        pre_hook_helper: Returns the helper of an execution's pre-hook, given that of the execution; a host that keeps
            a journal gives the pre-hook one of its own, since its calls are numbered anew.
    """

    ready: Callable[[], Mapping[str, ReadyModuleType]]
    registry: Registry
    limits: LimitTable
    pending: Callable[[], Mapping[str, str]] = _nothing_pending
    absent: Callable[[str], str] = _unknown
    payload_secrets: Mapping[str, PayloadSecrets] = field(factory=dict)
    pre_hook_helper: Callable[[ExecutionHelper], ExecutionHelper] = _same_helper


@frozen
class _Choice:
    """What runs one trigger."""

    candidate: Candidate
    requirements: Requirements | None
    pre_hook: bool


class SelectedModule(Module):
    """The modules of one workflow, behind one face; made by ``Modules.create``."""

    def __init__(
        self, around: Surroundings, main: Candidate, *, spec: WorkflowSpec, binary: bytes, binding: Binding | None
    ) -> None:
        self._around = around
        self._main = main
        self._spec = spec
        self._binary = binary
        self._binding = binding
        self._others: list[Candidate] = []
        self._choices: dict[int, _Choice] = {}

    @property
    def main(self) -> str:
        """Return the name of the main module type."""
        return self._main.name

    @property
    def why(self) -> str:
        """Return why it is the main one, for the log."""
        if self._binding is None:
            return f"it takes the kind {self._spec.kind}"
        return f"the attributes bind the workflow to it: {', '.join(self._binding.keys)}"

    def module_of(self, trigger: int) -> str | None:
        """Return the name of the module type that runs a trigger, or None if none was chosen."""
        choice = self._choices.get(trigger)
        return None if choice is None else choice.candidate.name

    async def start(self) -> None:
        """Start the main module; others start when they are chosen.

        Raises:
            InnkeeperError: It does not start.
        """
        await self._main.start()

    async def close(self) -> None:
        """Close every module that was loaded; idempotent.

        Raises:
            InnkeeperError: One did not close; the others are closed all the same.
        """
        self._choices = {}
        errors = []
        for candidate in [*self._others, self._main]:
            try:
                await candidate.close()
            except InnkeeperError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        """Execute a request on the module that was chosen for it.

        Args:
            request: What the guest is told.
            run: The attempt.

        Returns:
            The guest's result.

        Raises:
            UnavailableError: No module can be chosen yet.
            InnkeeperError: No module can be chosen, or the execution failed.
        """
        match request.WhichOneof("request"):
            case "subscribe":
                return await self._subscribe(request, run)
            case "trigger":
                return await self._trigger(request, run)
            case other:
                raise WorkflowError(
                    "an execution is asked for something else than triggers or an event",
                    expected="subscribe or trigger",
                    actual=other or "nothing",
                )

    async def _subscribe(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        self._choices = {}
        result = await self._main.execute(request, run)
        if result.WhichOneof("result") == "trigger_subscriptions":
            self._choices = await self._choose(result.trigger_subscriptions.subscriptions)
        return result

    async def _choose(self, subscriptions: Sequence[TriggerSubscription]) -> dict[int, _Choice]:
        candidates = [self._main, *self._additional()]
        offers: dict[str, Sequence[TeeTypeAndRegions]] = {}
        choices = {}
        for index, subscription in enumerate(subscriptions):
            requirements = subscription.requirements if subscription.HasField("requirements") else None
            for candidate in candidates:
                if needs_offers(requirements) and candidate.name not in offers:
                    offers[candidate.name] = await candidate.offers()
                if satisfied(requirements, offers.get(candidate.name, ())):
                    break
            else:
                raise self._none(index, needs_offers(requirements))
            choices[index] = _Choice(candidate, requirements, subscription.pre_hook)
        for candidate in {choice.candidate.name: choice.candidate for choice in choices.values()}.values():
            await candidate.start()
        return choices

    def _additional(self) -> list[Candidate]:
        """Return the candidates besides the main one; what is not ready any more is left out."""
        if self._binding is not None:
            return []
        found = []
        for name, ready in self._around.ready().items():
            takes_a_kind = any(kind.module == name for kind in ready.manifest.kinds)
            if name == self._main.name or takes_a_kind:
                continue
            known = [one for one in self._others if one.name == name and one.module_type is ready.module_type]
            if not known:
                limits = self._around.limits
                known = [Candidate(name, ready, spec=self._spec, binary=self._binary, limits=limits)]
                self._others += known
            found += known
        return found

    def _none(self, index: int, waiting_helps: bool) -> InnkeeperError:
        text = f"cannot find a runner that can satisfy the requirements for trigger {index}"
        pending = self._around.pending() if self._binding is None and waiting_helps else {}
        if pending:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(pending.items()))
            return UnavailableError(f"{text} yet: {reasons}")
        return WorkflowError(text, hint="see innkeeper plugins list for the module types that are enabled")

    async def _trigger(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        choice = self._choices.get(request.trigger.id)
        if choice is None:
            raise WorkflowError(
                "cannot trigger before gathering subscriptions", actual=f"an event of trigger {request.trigger.id}"
            )
        helper, restrictions = run.helper, None
        if choice.pre_hook:
            answer = await self._pre_hook(request, run)
            if answer.WhichOneof("result") == "error":
                return answer
            restrictions = answer.restrictions
            helper = restricted(
                helper, restrictions, resolve=self._resolve, payload_secrets=self._around.payload_secrets
            )
        return await choice.candidate.execute(
            request, evolve(run, helper=helper, requirements=choice.requirements, restrictions=restrictions)
        )

    async def _pre_hook(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        seconds = self._around.limits.get(_PRE_HOOK_TIMEOUT, owner=self._spec.owner, workflow_id=self._spec.workflow_id)
        asked = ExecuteRequest(
            config=request.config, pre_hook=request.trigger, max_response_size=request.max_response_size
        )
        deadline = min(run.deadline, time.monotonic() + float(seconds))
        helper = self._around.pre_hook_helper(run.helper)
        try:
            answer = await self._main.execute(
                asked, evolve(run, deadline=deadline, helper=helper, requirements=None, restrictions=None)
            )
        except UnavailableError:
            raise
        except DeadlineExceededError as error:
            raise DeadlineExceededError(f"pre-hook execution failed: {error}") from error
        except InnkeeperError as error:
            raise WorkflowError(f"pre-hook execution failed: {error}") from error
        which = answer.WhichOneof("result")
        if which not in ("error", "restrictions"):
            raise WorkflowError(
                "pre-hook execution failed: it answered without restrictions",
                expected="restrictions or an error",
                actual=which or "nothing",
            )
        return answer

    def _resolve(self, capability_id: str) -> str:
        caller = WorkflowCaller(self._spec.owner, self._spec.workflow_id)
        try:
            return self._around.registry.resolve(caller, capability_id, Right.SEE).info.id
        except NotFoundError:
            return capability_id
