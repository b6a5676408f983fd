"""Whatever is asked of the handler in whatever order, what runs is what was asked for."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from innkeeper.store.specs import SpecStatus
from innkeeper.workflows.views import WorkflowState
from innkeeper_sdk.errors import UnavailableError, WorkflowError
from tests.host.workflows.handler_world import Hosted, deployment, open_handler

T = TypeVar("T")

NAMES = st.sampled_from(["a", "b"])
BINARIES = st.sampled_from([b"good", b"other", b"broken", b"waiting"])


class HandlerMachine(RuleBasedStateMachine):
    """The handler against what was asked of it, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.directory = tempfile.TemporaryDirectory()
        self.hosted: Hosted = self.run(self.stack.enter_async_context(open_handler(Path(self.directory.name))))
        self.hosted.modules.refuse[b"broken"] = WorkflowError("broken")
        self.hosted.modules.refuse[b"waiting"] = UnavailableError("waiting")
        self.asked: dict[str, tuple[bytes, bool]] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.hosted.handler.close())
        assert self.hosted.modules.open == []
        assert self.hosted.world.trigger.registered == {}
        self.run(self.stack.aclose())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.directory.cleanup()

    @rule(name=NAMES, binary=BINARIES, paused=st.booleans())
    def deploy(self, name: str, binary: bytes, paused: bool) -> None:
        self.run(self.hosted.handler.deploy(deployment(name, binary=binary), paused=paused))
        self.asked[name] = (binary, paused)

    @rule(name=NAMES)
    def activate(self, name: str) -> None:
        self._act("activate", name, paused=False)

    @rule(name=NAMES)
    def pause(self, name: str) -> None:
        self._act("pause", name, paused=True)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if name in self.asked:
            view = self.run(self.hosted.handler.find(name))
            assert self.run(self.hosted.handler.delete(view.workflow_id))
            del self.asked[name]

    @rule()
    def reconcile(self) -> None:
        self.hosted.handler.providers_changed()
        self.run(self.hosted.handler.reconcile())

    @rule()
    def restart(self) -> None:
        self.run(self.hosted.handler.close())
        self.hosted.handler = self.hosted.again()
        self.run(self.hosted.handler.reconcile())

    @invariant()
    def what_runs_is_what_was_asked_for(self) -> None:
        views = {view.name: view for view in self.run(self.hosted.handler.views())}
        assert views.keys() == self.asked.keys()
        running = 0
        for name, (binary, paused) in self.asked.items():
            status = SpecStatus.PAUSED if paused else SpecStatus.ACTIVE
            state = {
                b"broken": WorkflowState.FAILED,
                b"waiting": WorkflowState.DEFERRED,
            }.get(binary, WorkflowState.RUNNING)
            expected = WorkflowState.PAUSED if paused else state
            assert (views[name].status, views[name].state) == (status, expected), name
            running += expected is WorkflowState.RUNNING
        assert len(self.hosted.modules.open) == running
        assert len(self.hosted.world.trigger.registered) == running
        assert len(self.hosted.handler._engines) == running

    def _act(self, act: str, name: str, *, paused: bool) -> None:
        if name in self.asked:
            view = self.run(self.hosted.handler.find(name))
            self.run(getattr(self.hosted.handler, act)(view.workflow_id))
            self.asked[name] = (self.asked[name][0], paused)


HandlerMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
TestHandler = HandlerMachine.TestCase
