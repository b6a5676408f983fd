"""A supervisor and a real plugin."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from innkeeper.loop import generation as generation_module
from innkeeper.loop import reaping
from innkeeper.loop.states import ProcessState
from innkeeper_sdk.capability import CapabilityError, CapabilityType, ErrorCode, TriggerRegistration
from innkeeper_sdk.errors import ProviderFailedError
from tests.host.loop.loop_world import (
    AIDE,
    DEADLINE,
    ECHO,
    KEY,
    Upper,
    World,
    alive,
    environ_of,
    payload,
    request,
    wait_gone,
)


async def test_a_plugin_is_started_called_and_stopped(world: World) -> None:
    plan = world.plan(config='{"a": 1}')
    async with world.running(plan) as supervisor:
        (part,) = supervisor.parts()
        assert (part.name, part.mode, part.state, part.generation) == ("main", "loop", ProcessState.READY, 1)
        assert part.pid is not None
        assert alive(part.pid)
        assert await world.call("echo", "hello") == "hello"
        assert json.loads(await world.call("config")) == {"a": 1}
        assert await world.call("key") == KEY.hex()
        pid = part.pid
    assert world.book.history == [f"+{ECHO}", f"-{ECHO}"]
    assert not alive(pid)
    assert list(world.sockets.iterdir()) == []
    (part,) = supervisor.parts()
    assert (part.state, part.pid) == (ProcessState.STOPPED, None)


async def test_its_environment_is_what_was_planned_and_what_the_wire_and_the_launch_add(world: World) -> None:
    os.environ["MATTER_OF_THE_HOST"] = "x"
    try:
        async with world.running(world.plan()):
            environ = dict(environ_of(await world.call("environ")))
    finally:
        del os.environ["MATTER_OF_THE_HOST"]
    assert environ.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # Python's own, if it sets one
    assert environ["TMPDIR"] == environ["PLUGIN_UNIX_SOCKET_DIR"]
    assert environ["CL_APP_ID"] == "test"
    assert environ["INNKEEPER_GUARDED"] == world.guard.mark[1]
    assert environ["INNKEEPER_LAUNCH"].startswith(world.guard.mark[1] + "-")
    assert set(environ) == {
        *("LANG", "INNKEEPER_PROVIDER", "INNKEEPER_PROCESS", "INNKEEPER_GUARDED", "INNKEEPER_LAUNCH", "TMPDIR"),
        *("PLUGIN_UNIX_SOCKET_DIR", "PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT", "PLUGIN_PROTOCOL_VERSIONS", "CL_APP_ID"),
        *("CL_PLUGIN_STANDARD_CAPABILITIES_MAGIC_COOKIE", "CL_PROMETHEUS_PORT"),
        "CL_MERCURY_TRANSMITTER_TRANSMIT__QUEUE_MAX_SIZE",
        "CL_MERCURY_TRANSMITTER_TRANSMIT_CONCURRENCY",
    }


async def test_a_killed_plugin_is_launched_again_and_registered_again(world: World) -> None:
    async with world.running(world.plan()) as supervisor:
        first = supervisor.parts()[0].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await world.until_state(supervisor, ProcessState.READY, generation=2)
        (part,) = supervisor.parts()
        assert part.pid not in (first, None)
        assert await world.call("echo", "again") == "again"
        assert world.book.history == [f"+{ECHO}", f"-{ECHO}", f"+{ECHO}"]
        assert len(list(world.sockets.iterdir())) == 1


async def test_what_waits_for_a_plugin_that_ends_is_told_at_once(world: World) -> None:
    async with world.running(world.plan(restart={"backoff_first_seconds": 60, "backoff_most_seconds": 60})):
        handle = world.book.capabilities[ECHO]
        waiting = asyncio.create_task(world.call("sleep", "600"))
        await world.call("echo")
        with pytest.raises(CapabilityError) as caught:
            await world.call("exit", "3")
        assert caught.value.error_code is ErrorCode.Unavailable
        with pytest.raises(CapabilityError) as caught:
            await waiting
        assert caught.value.error_code is ErrorCode.Unavailable
        await world.until(lambda: ECHO not in world.book.capabilities)
        world.book.capabilities[ECHO] = handle
        with pytest.raises(CapabilityError, match="has ended") as caught:
            await world.call("echo")
        assert caught.value.error_code is ErrorCode.Unavailable
        del world.book.capabilities[ECHO]


async def test_a_frozen_plugin_is_degraded_then_ended_and_launched_again(world: World) -> None:
    async with world.running(world.plan()) as supervisor:
        first = supervisor.parts()[0].pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await world.until_state(supervisor, ProcessState.DEGRADED)
        assert "health check" in supervisor.parts()[0].reason
        await world.until_state(supervisor, ProcessState.RESTARTING)
        assert "2 health checks failed in a row" in supervisor.parts()[0].reason
        await world.until_state(supervisor, ProcessState.READY, generation=2)
        assert not alive(first)


async def test_a_plugin_that_answers_again_is_ready_again(world: World) -> None:
    plan = world.plan(restart={"ping_failures": 1000})
    async with world.running(plan) as supervisor:
        pid = supervisor.parts()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await world.until_state(supervisor, ProcessState.DEGRADED)
        assert supervisor.parts()[0].state.serves
        os.kill(pid, signal.SIGCONT)
        await world.until_state(supervisor, ProcessState.READY)
        assert supervisor.parts()[0].reason == ""


async def test_grandchildren_end_with_the_plugin_wherever_they_went(world: World) -> None:
    async with world.running(world.plan()) as supervisor:
        pid = supervisor.parts()[0].pid
        assert pid is not None
        commands = ("exec sleep 600", "exec setsid sleep 600", "setsid sleep 600 & exec sleep 600", "kill -STOP $$")
        spawned = [int(await world.call("spawn", command)) for command in commands]
        orphan = int(await world.call("spawn", "(setsid sleep 600 >/dev/null 2>&1 &) ; exec sleep 600"))
        assert all(alive(each) for each in [*spawned, orphan])
        mark = environ_of(await world.call("environ"))["INNKEEPER_LAUNCH"].encode()
        os.kill(pid, signal.SIGKILL)
        await world.until_state(supervisor, ProcessState.READY, generation=2)
        wait_gone(pid, *spawned, orphan)
        assert bearers(mark) == []


async def poll(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is waited for is no event of a part
            await asyncio.sleep(0.002)


def bearers(mark: bytes) -> list[int]:
    """Return the processes that have a mark in their environment."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read() and alive(int(name)):
                    found.append(int(name))
        except (OSError, ValueError):
            continue
    return found


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "import sys; print('alas', file=sys.stderr); sys.exit(3)",
            "exited with status 3; stderr: 'alas'.*failed while",
        ),
        ("import sys; print('hello'); sys.exit(4)", "exited with status 4; stdout: 'hello'.*something else on stdout"),
        (
            "import time; print('hello', flush=True); time.sleep(600)",
            "stdout: 'hello'.*prints something else on stdout",
        ),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL.*lack of memory"),
        (
            "import time; print('1|0|tcp|localhost:1|grpc|', flush=True); time.sleep(600)",
            "network is 'tcp'.*another kind",
        ),
        ("import time; print('1|7|unix|/x|grpc|', flush=True); time.sleep(600)", "version is '7', expected '0'"),
        ("import sys, time; sys.stdout.write('x' * 100_000); sys.stdout.flush(); time.sleep(600)", "no handshake"),
        ("print('1|0|unix|/x|grpc|')", "exited with status 0"),
        ("import os, time; os.close(1); time.sleep(600)", "printed no handshake; likely cause: it is slow"),
        (
            "import time; print('1|0|unix|/run/docker.sock|grpc|', flush=True); time.sleep(600)",
            "serves at '/run/docker.sock', not in the directory",
        ),
    ],
)
async def test_a_start_that_fails_says_what_the_process_said_and_leaves_nothing(
    world: World, source: str, text: str
) -> None:
    supervisor = world.supervisor(world.plan(source))
    with pytest.raises(ProviderFailedError, match=text) as caught:
        await supervisor.start()
    assert caught.value.provider == "toy"
    (part,) = supervisor.parts()
    assert (part.state, part.pid) == (ProcessState.FAILED, None)
    assert part.reason in str(caught.value)
    assert list(world.sockets.iterdir()) == []
    assert world.guard._processes == {}
    assert world.guard._paths == {}
    await supervisor.close()
    assert supervisor.parts()[0].state is ProcessState.STOPPED


async def test_a_plugin_that_says_nothing_is_too_late(world: World) -> None:
    plan = world.plan("import time; time.sleep(600)", restart={"start_seconds": 0.3})
    with pytest.raises(ProviderFailedError, match=r"not ready within 0\.3 s; likely cause: it is slow"):
        await world.supervisor(plan).start()
    assert list(world.sockets.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "This binary is a plugin. These are not meant to be executed directly.",
        "this program is a plugin of an Innkeeper or Chainlink host, which starts it; it does nothing by itself",
    ],
)
async def test_a_refused_cookie_is_unsupported_and_not_tried_again(world: World, words: str) -> None:
    supervisor = world.supervisor(world.plan(f"import sys; print({words!r}, file=sys.stderr); sys.exit(1)"))
    with pytest.raises(ProviderFailedError, match="refuses the cookie"):
        await supervisor.start()
    (part,) = supervisor.parts()
    assert (part.state, part.generation) == (ProcessState.UNSUPPORTED, 1)
    await supervisor.close()


async def test_a_program_that_is_not_there_or_is_none_is_told(world: World) -> None:
    plan = world.plan()
    plan.executable.unlink()
    with pytest.raises(ProviderFailedError, match=r"cannot be run.*No such file.*install"):
        await world.supervisor(plan).start()
    plan.executable.write_bytes(b"\x7fELF nothing")
    with pytest.raises(ProviderFailedError, match=r"cannot be run.*Permission denied"):
        await world.supervisor(plan).start()
    plan.executable.chmod(0o700)
    with pytest.raises(ProviderFailedError, match=r"cannot be run.*Exec format error"):
        await world.supervisor(plan).start()
    assert list(world.sockets.iterdir()) == []
    assert world.guard._paths == {}


REFUSES = """
from innkeeper_sdk.errors import ConfigError
from innkeeper_sdk.loop import serve

def provide(context):
    raise ConfigError("the pepper is missing")

serve(provide)
"""


async def test_a_refused_configuration_is_failed_with_the_plugins_own_words(world: World) -> None:
    supervisor = world.supervisor(world.plan(REFUSES))
    with pytest.raises(ProviderFailedError, match=r"refused to be initialised.*the pepper is missing"):
        await supervisor.start()
    assert supervisor.parts()[0].state is ProcessState.FAILED
    await supervisor.close()


@pytest.mark.parametrize("said", ["é" * 30_000, "a\\udcff"], ids=["long", "no Unicode"])
async def test_a_refusal_of_any_length_and_any_text_is_told(world: World, said: str) -> None:
    source = REFUSES.replace("the pepper is missing", "the pepper is missing: " + said)
    with pytest.raises(ProviderFailedError, match=r"refused to be initialised: .*the pepper is missing: (é|a\\udcff)"):
        await world.supervisor(world.plan(source)).start()


async def test_a_plugin_that_refuses_later_is_tried_once_more(world: World) -> None:
    flag = world.folder / "refuse"
    source = (
        world.plan()
        .executable.read_text()
        .replace(
            "serve(lambda context: [Echo(context)])",
            f"""
def provide(context):
    with open({str(world.folder / "count")!r}, "a") as file:
        file.write("x")
    if os.path.exists({str(flag)!r}):
        raise RuntimeError("no")
    return [Echo(context)]

serve(provide)""",
        )
    )
    async with world.running(world.plan(source)) as supervisor:
        flag.write_text("")
        pid = supervisor.parts()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await world.until_state(supervisor, ProcessState.FAILED)
        assert supervisor.parts()[0].generation == 3
        assert (world.folder / "count").read_text() == "xxx"
        assert world.book.capabilities == {}


async def test_a_plugin_that_adds_less_than_its_manifest_says_is_failed(world: World) -> None:
    with pytest.raises(ProviderFailedError, match=r"did not add other@1\.0\.0"):
        await world.supervisor(world.plan(capabilities=(ECHO, "other@1.0.0"))).start()
    assert world.book.history == [f"+{ECHO}", f"-{ECHO}"]


async def test_a_plugin_that_adds_what_its_manifest_does_not_say_is_failed(world: World) -> None:
    with pytest.raises(ProviderFailedError, match=r"added 'echo@1\.0\.0', which is not one of its capabilities"):
        await world.supervisor(world.plan(capabilities=("other@1.0.0",))).start()
    assert world.book.history == []


async def test_a_plugin_that_says_it_serves_elsewhere_is_not_dialled_there(world: World) -> None:
    elsewhere = """
import innkeeper_sdk.loop.broker as broker
def tell(self, number, path):
    self._outbox.put_nowait(broker.ConnInfo(service_id=number, network="unix", address="/run/docker.sock"))
broker.Broker._tell = tell
"""
    source = world.plan().executable.read_text().partition("\n")[2]
    with pytest.raises(ProviderFailedError, match="is not served in the directory of PLUGIN_UNIX_SOCKET_DIR"):
        await world.supervisor(world.plan(elsewhere + source)).start()


async def test_a_socket_that_nobody_serves_is_told(world: World) -> None:
    source = """
    import os, time
    print(f"1|0|unix|{os.environ['TMPDIR']}/x.sock|grpc|", flush=True)
    time.sleep(600)
    """
    with pytest.raises(ProviderFailedError, match="nobody serves at the socket it named"):
        await world.supervisor(world.plan(source)).start()


REMOVES = """
    async def remove(self, text):
        await self.context.registry.remove(text)

    async def readd(self, text):
        # A call ends with the connection that it came by, which ends when its capability is taken away.
        self.adding = asyncio.create_task(self.anew(text))

    async def anew(self, text):
        from innkeeper_sdk.loop.serving import CapabilityServices
        registry = self.context.registry
        await registry.remove(text)
        number = registry._broker.next_id()
        await registry._broker.accept_and_serve(number, CapabilityServices(self).register)
        await registry.add(number, CapabilityType.COMBINED)

    async def echo("""


async def test_a_plugin_that_takes_its_capability_away_and_runs_on_is_launched_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation_module, "_GRACE_SECONDS", 0.5)
    source = world.plan().executable.read_text().partition("\n")[2].replace("\n    async def echo(", REMOVES)
    async with world.running(world.plan(source)) as supervisor:
        # The call ends with the connection that it came by.
        with pytest.raises(CapabilityError):
            await world.call("remove", ECHO)
        await world.until_state(supervisor, ProcessState.RESTARTING)
        assert supervisor.parts()[0].reason == f"it took {ECHO} away and runs on"
        await world.until_state(supervisor, ProcessState.READY, generation=2)
        assert await world.call("echo", "x") == "x"


async def test_a_plugin_that_adds_its_capability_anew_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_module, "_GRACE_SECONDS", 0.5)
    source = world.plan().executable.read_text().partition("\n")[2].replace("\n    async def echo(", REMOVES)
    async with world.running(world.plan(source)) as supervisor:
        first = world.book.capabilities[ECHO]
        with suppress(CapabilityError):  # the answer may come after the end of the connection that it would come by
            await world.call("readd", ECHO)
        await poll(lambda: world.book.capabilities.get(ECHO) not in (first, None))
        await asyncio.wait([asyncio.create_task(world.call("sleep", "600"))], timeout=1)
        assert await world.call("echo", "x") == "x"
        assert supervisor.parts()[0].generation == 1


async def test_what_the_registry_refuses_fails_the_start_with_its_words(world: World) -> None:
    world.book.register(Upper(ECHO), Upper(ECHO).info)
    with pytest.raises(ProviderFailedError, match=r"echo@1\.0\.0 is registered already"):
        await world.supervisor(world.plan()).start()
    assert world.book.history == [f"+{ECHO}"]


async def test_a_crash_loop_ends_in_quarantine(world: World) -> None:
    async with world.running(world.plan(restart={"budget": 2})) as supervisor:
        for generation in (1, 2, 3):
            await world.until_state(supervisor, ProcessState.READY, generation=generation)
            with pytest.raises(CapabilityError):
                await world.call("exit", "5")
        await world.until_state(supervisor, ProcessState.QUARANTINED)
        (part,) = supervisor.parts()
        assert (part.generation, part.pid) == (3, None)
        assert "exited with status 5" in part.reason
    assert supervisor.parts()[0].state is ProcessState.STOPPED


IGNORES_SHUTDOWN = """
import time
import innkeeper_sdk.loop.ending as ending
ending.Ending.request = lambda self, reason: None
"""


async def test_a_plugin_that_does_not_end_when_asked_is_killed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    source = world.plan().executable.read_text().partition("\n")[2]
    async with world.running(world.plan(IGNORES_SHUTDOWN + source)) as supervisor:
        pid = supervisor.parts()[0].pid
        assert pid is not None
    wait_gone(pid)
    assert "did not end when it was asked to" in caplog.text


async def test_a_frozen_plugin_is_stopped_within_the_bound(world: World) -> None:
    loop = asyncio.get_running_loop()
    plan = world.plan(restart={"ping_interval_seconds": 600, "stop_seconds": 0.5})
    async with world.running(plan) as supervisor:
        pid = supervisor.parts()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        begun = loop.time()
        await supervisor.close()
        assert loop.time() - begun < 5
    assert not alive(pid)


async def test_closing_while_it_starts_ends_the_start(world: World) -> None:
    supervisor = world.supervisor(world.plan("import time; time.sleep(600)"))
    starting = asyncio.create_task(supervisor.start())
    await poll(lambda: supervisor.parts()[0].pid is not None)
    await supervisor.close()
    with pytest.raises(ProviderFailedError, match="stopped before it was ready"):
        await starting
    assert world.guard._processes == {}
    assert list(world.sockets.iterdir()) == []


async def test_closing_while_it_pauses_launches_nothing(world: World) -> None:
    plan = world.plan(restart={"backoff_first_seconds": 60, "backoff_most_seconds": 60})
    async with world.running(plan) as supervisor:
        pid = supervisor.parts()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await world.until_state(supervisor, ProcessState.RESTARTING)
        await supervisor.close()
        await supervisor.close()
        assert supervisor.parts()[0].state is ProcessState.STOPPED
        assert supervisor.parts()[0].generation == 1


async def test_closing_what_was_never_started_is_fine(world: World) -> None:
    supervisor = world.supervisor(world.plan())
    await supervisor.close()
    assert supervisor.parts()[0].state is ProcessState.STOPPED
    with pytest.raises(ProviderFailedError, match="stopped before"):
        await supervisor.start()


async def test_a_plugin_calls_what_its_provider_may_use_and_no_more(world: World) -> None:
    upper = world.book.peers["upper@1.0.0"] = Upper("upper@1.0.0")
    world.book.peers["clock@1.0.0"] = Upper("clock@1.0.0", CapabilityType.TRIGGER)
    async with world.running(world.plan()):
        assert await world.call("call", "upper@1.0.0") == "HELLO"
        assert await world.call("list") == "clock@1.0.0,upper@1.0.0"
        assert await world.call("call", "nothing@1.0.0") == "NotFoundError capability nothing@1.0.0 not found"
        assert "is a trigger and cannot be executed" in await world.call("call", "clock@1.0.0")
        # What was handed out is asked anew at each call: it may not be there any more.
        del world.book.peers["upper@1.0.0"]
        assert upper.calls == 1


async def test_helpers_share_a_socket_with_their_process(world: World) -> None:
    async with world.running(world.plan(aide=AIDE)) as supervisor:
        process, helper = supervisor.parts()
        assert (helper.name, helper.mode, helper.state, helper.generation) == ("aide", "helper", ProcessState.READY, 1)
        text, pid, session, files = json.loads((await world.call("helper", "hi")).partition(", {")[0] + "]")
        assert (text, pid, session) == ("hi", helper.pid, helper.pid)
        assert files[:4] == [0, 1, 2, 3]
        assert len(files) == 5  # and the directory that it lists them from
        assert helper.pid != process.pid
    assert helper.pid is not None
    assert not alive(helper.pid)
    assert world.guard._processes == {}


async def test_the_end_of_a_helper_is_the_end_of_the_generation(world: World) -> None:
    async with world.running(world.plan(aide=AIDE)) as supervisor:
        process, helper = supervisor.parts()
        assert process.pid is not None
        assert helper.pid is not None
        # Whether its answer or the end of its generation is first is nobody's promise.
        await asyncio.gather(world.call("helper", "exit"), return_exceptions=True)
        await world.until_state(supervisor, ProcessState.READY, generation=2)
        assert await world.call("echo", "x") == "x"
        assert not alive(process.pid)
        assert not alive(helper.pid)
        assert supervisor.parts()[1].generation == 2


async def test_the_end_of_a_process_is_the_end_of_its_helpers(world: World) -> None:
    stubborn = "import time; time.sleep(600)"
    async with world.running(world.plan(aide=stubborn)) as supervisor:
        process, helper = supervisor.parts()
        assert process.pid is not None
        assert helper.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await world.until_state(supervisor, ProcessState.READY, generation=2)
        assert not alive(helper.pid)


async def test_a_helper_that_cannot_be_run_fails_the_start(world: World) -> None:
    plan = world.plan(aide=AIDE)
    plan.helpers[0].executable.unlink()
    with pytest.raises(ProviderFailedError, match=r"the helper aide cannot be run.*No such file"):
        await world.supervisor(plan).start()
    assert list(world.sockets.iterdir()) == []


async def test_a_killed_guard_takes_no_helper_with_it_and_helpers_still_end_with_their_generation(world: World) -> None:
    async with world.running(world.plan(aide=AIDE)) as supervisor:
        first = world.guard.pid
        process, helper = supervisor.parts()
        assert first is not None
        assert helper.pid is not None
        assert process.pid is not None
        os.kill(first, signal.SIGKILL)
        wait_gone(first)
        assert json.loads((await world.call("helper", "hi")).partition(", {")[0] + "]")[1] == helper.pid
        os.kill(helper.pid, signal.SIGKILL)
        await world.until_state(supervisor, ProcessState.RESTARTING)
        assert "its helper aide ended, nobody knows how" in supervisor.parts()[0].reason
        await world.until_state(supervisor, ProcessState.READY, generation=2)
        assert world.guard.pid not in (first, None)
        assert not alive(process.pid)


async def test_a_guard_that_ends_while_a_helper_is_to_be_started_costs_a_generation_and_no_more(world: World) -> None:
    first = world.guard.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    supervisor = world.supervisor(world.plan(aide=AIDE))
    starting = asyncio.create_task(supervisor.start())
    await poll(lambda: len(world.guard._spawns._asked) == 1)
    os.kill(first, signal.SIGKILL)
    await starting
    assert [part.generation for part in supervisor.parts()] == [2, 2]
    await supervisor.close()


async def test_a_plugin_that_floods_its_output_blocks_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "innkeeper")
    source = world.plan().executable.read_text().partition("\n")[2]
    flood = """
import threading
def flood():
    while True:
        os.write(2, b"x" * 200 + b"\\n")
        print("y" * 200, flush=True)
def provide(context):
    threading.Thread(target=flood, daemon=True).start()
    return [Echo(context)]
serve(provide)
"""
    async with world.running(world.plan(source.partition("\nserve(")[0] + flood)):
        for _ in range(20):
            async with asyncio.timeout(DEADLINE):
                assert await world.call("echo", "x") == "x"


async def test_a_change_that_cannot_be_told_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise RuntimeError("nobody listens")

    supervisor = world.supervisor(world.plan())
    supervisor._changed = broken
    await supervisor.start()
    await supervisor.close()
    assert supervisor.parts()[0].state is ProcessState.STOPPED
    assert "could not be told" in caplog.text


async def test_a_fault_of_the_supervisor_itself_ends_the_process_and_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running(world.plan()) as supervisor:
        pid = supervisor.parts()[0].pid
        assert pid is not None

        def broken() -> float:
            raise RuntimeError("a fault")

        monkeypatch.setattr(supervisor._restarts, "pause", broken)
        os.kill(pid, signal.SIGKILL)
        await world.until_state(supervisor, ProcessState.FAILED)
        assert supervisor.parts()[0].reason == "the host failed to supervise it: RuntimeError"
        assert world.guard._processes == {}


async def test_a_runtime_directory_that_is_too_long_is_told_before_anything_starts(world: World) -> None:
    plan = world.plan(socket_dir=world.folder / ("x" * 80))
    with pytest.raises(ProviderFailedError, match=r"sockets is too long.*choose a shorter runtime directory"):
        await world.supervisor(plan).start()
    assert world.guard._paths == {}
    (world.folder / "file").write_text("")
    plan = world.plan(socket_dir=world.folder / "file")
    with pytest.raises(ProviderFailedError, match=r"cannot be made: (File exists|Not a directory)|too long"):
        await world.supervisor(plan).start()
    assert world.guard._paths == {}


async def test_events_of_a_plugins_trigger_end_with_its_generation(world: World) -> None:
    source = world.plan().executable.read_text().partition("\n")[2]
    trigger = """
    async def register_trigger(self, registration):
        async def events():
            yield TriggerEvent("1", registration.payload)
            await asyncio.Event().wait()
        return events()

    async def unregister_trigger(self, registration):
        pass

    async def echo("""
    async with world.running(world.plan(source.replace("\n    async def echo(", trigger))) as supervisor:
        registration = TriggerRegistration("t", request("x").metadata, "Tick", payload("hi"))
        events = await world.book.capabilities[ECHO].register_trigger(registration)
        assert (await anext(events)).payload == payload("hi")
        waiting = asyncio.ensure_future(anext(events))
        pid = supervisor.parts()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(CapabilityError) as caught:
            await waiting
        assert caught.value.error_code is ErrorCode.Unavailable
        await world.until_state(supervisor, ProcessState.READY, generation=2)
        events = await world.book.capabilities[ECHO].register_trigger(registration)
        assert (await anext(events)).id == "1"
        await world.book.capabilities[ECHO].unregister_trigger(registration)


async def test_a_connection_that_is_lost_while_the_process_runs_on_is_the_end_of_the_generation(world: World) -> None:
    source = world.plan().executable.read_text().partition("\n")[2]
    async with world.running(world.plan(IGNORES_SHUTDOWN + source)) as supervisor:
        generation = supervisor._generation
        assert generation is not None
        assert generation._connection is not None
        pid = generation.pid
        assert pid is not None
        generation._connection._tasks[0].cancel()  # as when its stream ends
        await world.until_state(supervisor, ProcessState.RESTARTING)
        assert supervisor.parts()[0].reason == "it closed its connection and runs on"
        await world.until_state(supervisor, ProcessState.READY, generation=2)
        assert not alive(pid)


async def test_a_host_without_descriptors_fails_the_start_and_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.dup

    def none_left(file: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("innkeeper.loop.launch.os.dup", none_left)
    plan = world.plan()
    with pytest.raises(ProviderFailedError, match=r"cannot be watched: Too many open files; raise the limit"):
        await world.supervisor(plan).start()
    monkeypatch.setattr("innkeeper.loop.launch.os.dup", opened)
    monkeypatch.setattr("innkeeper.loop.helpers.os.pipe", lambda: none_left(0))
    with pytest.raises(ProviderFailedError, match=r"the host could not start it: .*Too many open files"):
        await world.supervisor(world.plan(aide=AIDE)).start()
    assert list(world.sockets.iterdir()) == []
    assert world.guard._processes == {}
    assert world.guard._paths == {}


async def test_what_cannot_be_ended_is_told_and_stays_with_the_guard(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(remains: reaping.Remains, **_: object) -> reaping.Reaped:
        return reaping.Reaped((), (remains.processes[0].pid,))

    async with world.running(world.plan()) as supervisor:
        pid = supervisor.parts()[0].pid
        with monkeypatch.context() as patched:
            patched.setattr(reaping, "reap", fails)
            await supervisor.close()
    assert f"left something behind: the processes {pid} cannot be ended" in caplog.text
    assert supervisor.parts()[0].state is ProcessState.STOPPED
    assert list(world.guard._processes) == [pid]


async def test_what_was_reaped_is_not_reaped_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    real = reaping.reap

    async def counted(remains: reaping.Remains, **options: Any) -> reaping.Reaped:
        reaped = await real(remains, **options)
        calls.append(reaped.ended)
        return reaped

    monkeypatch.setattr(reaping, "reap", counted)
    async with world.running(world.plan(aide=AIDE, restart={"budget": 0})) as supervisor:
        process, helper = supervisor.parts()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await world.until_state(supervisor, ProcessState.QUARANTINED)
        await poll(lambda: len(calls) == 1)
    assert len(calls) == 1
    assert process.pid not in calls[0]
    assert helper.pid is not None
    assert not alive(helper.pid)
