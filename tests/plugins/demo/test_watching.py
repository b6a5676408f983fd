"""Waiting looks at what the host's stream tells, ends at its deadline, and notices when the stream ends."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import cast

import pytest

from innkeeper_demo.errors import StepError
from innkeeper_demo.watching import Watcher
from innkeeper_sdk.control import ControlClient
from innkeeper_sdk.errors import InnkeeperError, UnavailableError
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb


class Client:
    """A host's stream that a test feeds."""

    def __init__(self) -> None:
        self.fed: queue.SimpleQueue[pb.Execution | InnkeeperError | None] = queue.SimpleQueue()

    def watch_executions(self) -> Iterator[pb.Execution]:
        while (item := self.fed.get()) is not None:
            if isinstance(item, InnkeeperError):
                raise item
            yield item

    def close(self) -> None:
        self.fed.put(None)

    def tell(self, execution_id: str, status: str, workflow_id: str = "w") -> None:
        self.fed.put(pb.Execution(execution_id=execution_id, workflow_id=workflow_id, status=status))


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def watcher(client: Client) -> Iterator[Watcher]:
    with Watcher(cast(ControlClient, client)) as watcher:
        yield watcher


def test_the_newest_that_was_told_counts(client: Client, watcher: Watcher) -> None:
    for status in ("accepted", "running", "success"):
        client.tell("a", status)
    client.tell("b", "running")
    client.tell("c", "error")
    client.tell("d", "success", "other")
    watcher.wait(lambda: bool(watcher.successes("other")), 10, "all of it")
    assert [e.execution_id for e in watcher.executions("w")] == ["a", "b", "c"]
    assert [e.execution_id for e in watcher.successes("w")] == ["a"]
    assert [e.execution_id for e in watcher.live("w")] == ["b"]
    assert [e.execution_id for e in watcher.finished("w")] == ["a", "c"]


def test_what_holds_already_is_not_waited_for(watcher: Watcher) -> None:
    watcher.wait(lambda: True, 0, "nothing")


def test_what_does_not_come_about_is_an_error_with_its_reason(client: Client, watcher: Watcher) -> None:
    client.tell("a", "running")
    with pytest.raises(StepError, match=r"a success did not come about in 0 s; it is deferred"):
        watcher.wait(lambda: bool(watcher.successes("w")), 0.2, "a success", why=lambda: "; it is deferred")


def test_the_end_of_the_stream_is_an_error(client: Client, watcher: Watcher) -> None:
    client.fed.put(None)
    with pytest.raises(StepError, match="the host ended while a success"):
        watcher.wait(lambda: False, 10, "a success")


def test_an_error_of_the_stream_is_raised(client: Client, watcher: Watcher) -> None:
    client.fed.put(UnavailableError("events were lost"))
    with pytest.raises(UnavailableError, match="lost"):
        watcher.wait(lambda: False, 10, "a success")
