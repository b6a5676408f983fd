"""The wall around a provider's code."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

import pytest

from innkeeper.providers.containment import Wall, WalledError
from innkeeper_sdk.errors import ConfigError, ProviderFailedError

HERE = Path(__file__)
SECRET = "hunter2"  # noqa: S105 - what must not be seen


@pytest.fixture
def wall() -> Wall:
    return Wall("probe", HERE.parent)


def raising(error: BaseException):  # type: ignore[no-untyped-def]  # what it returns is never seen
    def function() -> None:
        raise error

    return function


def awaiting(error: BaseException):  # type: ignore[no-untyped-def]  # as above
    async def function() -> None:
        raise error

    return function


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Masked(Exception):
    """An exception that does not let itself be looked at."""

    @property  # type: ignore[misc]  # providers may do anything
    def __class__(self) -> type:
        raise RuntimeError(SECRET)

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(SECRET)

    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class Weird:
    def __repr__(self) -> str:
        raise RuntimeError(SECRET)


class Speaks(Exception):
    """An exception that notes which threads it is asked in for its text, and is slow."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__()
        self.release = release
        self.asked: list[str] = []

    def __str__(self) -> str:
        self.asked.append(threading.current_thread().name)
        self.release.wait(60)
        return "at last"


FAILURES = [
    (SystemExit(Weird()), "it ended with sys.exit(Weird) (providers/"),
    (ValueError("it broke"), "it failed: ValueError: it broke (providers/test_provider_containment.py:"),
    (ValueError(), "it failed: ValueError (providers/"),
    (ValueError("a\nb\n  c"), "it failed: ValueError: a b c ("),
    (Unspeakable(), "it failed: Unspeakable ("),
    (SystemExit(3), "it ended with sys.exit(3) (providers/"),
    (SystemExit("bye"), "it ended with sys.exit('bye') ("),
    (KeyboardInterrupt(), "it failed: KeyboardInterrupt ("),
    (GeneratorExit(), "it failed: GeneratorExit ("),
    (asyncio.CancelledError(), "it was cancelled by the provider itself"),
    (ConfigError("not valid", expected="x", hint="mend it"), "it failed: not valid (expected x); mend it"),
    (ProviderFailedError("broken", provider="probe"), "it failed: broken"),
    (ValueError("x" * 10_000), "it failed: ValueError: xxx"),
    (ValueError(f"login with {SECRET}"), "it failed: ValueError: login with <secret> ("),
]


@pytest.mark.parametrize(("error", "said"), FAILURES)
async def test_what_a_thread_raises_is_one_sentence(wall: Wall, error: BaseException, said: str) -> None:
    wall.hide({SECRET})
    with pytest.raises(ProviderFailedError) as caught:
        await wall.in_thread("it", raising(error), seconds=30)
    assert caught.value.message.startswith(said)
    assert (caught.value.provider, caught.value.__cause__) == ("probe", None)
    assert len(caught.value.message) < 600


@pytest.mark.parametrize(("error", "said"), FAILURES)
async def test_what_a_coroutine_raises_is_one_sentence(wall: Wall, error: BaseException, said: str) -> None:
    wall.hide({SECRET})
    with pytest.raises(ProviderFailedError) as caught:
        await wall.in_task("it", awaiting(error), seconds=30)
    assert caught.value.message.startswith(said)
    assert (caught.value.provider, wall.abandoned) == ("probe", set())


async def test_an_exception_that_is_slow_to_say_what_it_is_does_not_hold_up_the_loop(
    wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper.providers.containment._WORDS_SECONDS", 0.05)
    release = threading.Event()
    error = Speaks(release)
    try:
        with pytest.raises(ProviderFailedError) as caught:
            await wall.in_thread("its import", raising(error), seconds=0.05)
        assert caught.value.message.startswith("its import did not end in 0.05 s, it is at providers/test_provider")
        with pytest.raises(ProviderFailedError) as caught:
            await wall.in_task("its start", awaiting(error), seconds=30)
        assert caught.value.message.startswith("its start failed: Speaks (providers/test_provider_containment.py:")
    finally:
        release.set()
    assert error.asked
    assert threading.main_thread().name not in error.asked


async def test_an_exception_that_does_not_let_itself_be_looked_at_is_one_sentence(wall: Wall) -> None:
    def function() -> None:
        raise Masked  # made here: the test runner would look at a parameter

    async def start() -> None:
        function()

    for call in (wall.in_thread("it", function, seconds=30), wall.in_task("it", start, seconds=30)):
        with pytest.raises(ProviderFailedError) as caught:
            await call
        assert caught.value.message.startswith("it failed: Masked (providers/test_provider_containment.py:")


async def test_a_failure_brings_its_traceback_as_a_text_without_secrets(wall: Wall) -> None:
    wall.hide({SECRET})
    for call in (
        wall.in_thread("it", raising(ValueError(SECRET)), seconds=30),
        wall.in_task("it", awaiting(ValueError(SECRET)), seconds=30),
    ):
        with pytest.raises(WalledError) as caught:
            await call
        assert caught.value.trace.startswith("Traceback (most recent call last):")
        assert caught.value.trace.endswith("ValueError: <secret>")


async def test_where_a_hanging_coroutine_is_does_not_ask_what_it_awaits(wall: Wall) -> None:
    class Awaits:
        def __await__(self):  # type: ignore[no-untyped-def]  # an iterator of futures
            return self

        def __iter__(self):  # type: ignore[no-untyped-def]  # as above
            return self

        def __next__(self) -> None:
            return None

        def __getattr__(self, name: str) -> object:
            if name.startswith(("cr_", "gi_")):
                raise SystemExit(SECRET)
            raise AttributeError(name)

    async def hang() -> None:
        await Awaits()

    with pytest.raises(ProviderFailedError, match=r"did not end in 0.05 s, it is at providers/test_provider_contain"):
        await wall.in_task("it", hang, seconds=0.05)


async def test_values_pass(wall: Wall) -> None:
    async def value() -> int:
        return 5

    assert await wall.in_thread("it", lambda: 5, seconds=30) == 5
    assert await wall.in_task("it", value, seconds=30) == 5
    assert wall.abandoned == set()


async def test_a_function_that_breaks_its_contract_fails(wall: Wall) -> None:
    with pytest.raises(ProviderFailedError, match="TypeError: object int can't be used in 'await' expression"):
        await wall.in_task("it", lambda: 5, seconds=30)  # type: ignore[arg-type,return-value]  # that is the point


async def test_a_thread_that_hangs_is_left_behind_and_its_place_is_told(wall: Wall) -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(60)

    try:
        with pytest.raises(ProviderFailedError) as caught:
            await wall.in_thread("its import", hang, seconds=0.05)
        assert caught.value.message.startswith(
            "its import did not end in 0.05 s, it is at providers/test_provider_containment.py:"
        )
        names = {thread.name: thread.daemon for thread in threading.enumerate()}
        assert names["innkeeper probe: its import"] is True
    finally:
        release.set()


async def test_what_a_late_thread_brings_is_dropped(wall: Wall) -> None:
    release = threading.Event()

    def late() -> int:
        release.wait(60)
        raise ValueError("too late")

    with pytest.raises(ProviderFailedError):
        await wall.in_thread("it", late, seconds=0.01)
    release.set()
    for thread in threading.enumerate():
        if thread.name == "innkeeper probe: it":
            await asyncio.to_thread(thread.join, 30)
    await asyncio.sleep(0)


async def test_a_coroutine_that_hangs_is_cancelled_and_its_place_is_told(wall: Wall) -> None:
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ProviderFailedError) as caught:
        await wall.in_task("the start of x", hang, seconds=0.05)
    line = hang.__code__.co_firstlineno + 2
    assert caught.value.message == (
        f"the start of x did not end in 0.05 s, it is at providers/test_provider_containment.py:{line}"
    )
    assert ended.is_set()
    assert wall.abandoned == set()


async def test_a_coroutine_that_cannot_be_cancelled_is_left_behind_and_named(
    wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper.providers.containment._GRACE_SECONDS", 0.05)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("and then this")

    started = time.monotonic()
    with pytest.raises(ProviderFailedError, match="did not end in"):
        await wall.in_task("the end of x", stubborn, seconds=0.05)
    assert time.monotonic() - started < 30
    (task,) = wall.abandoned
    assert task.get_name() == "innkeeper probe: the end of x"
    release.set()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert wall.abandoned == set()


async def test_the_callers_cancellation_reaches_the_provider_and_is_no_failure(wall: Wall) -> None:
    inside, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(wall.in_task("it", hang, seconds=60))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_the_callers_cancellation_leaves_a_thread_behind(wall: Wall) -> None:
    release, inside = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        release.wait(60)

    task = asyncio.create_task(wall.in_thread("it", hang, seconds=60))
    await asyncio.to_thread(inside.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()


def raised(text: str) -> ValueError:
    with pytest.raises(ValueError, match=text) as caught:
        raising(ValueError(text))()
    return caught.value


def test_a_traceback_has_no_secrets(wall: Wall) -> None:
    wall.hide({SECRET})
    text = wall.traceback(raised(SECRET))
    assert "ValueError: <secret>" in text
    assert SECRET not in text


def test_of_what_fails_only_a_place_in_the_package_is_told() -> None:
    error = Wall("probe", HERE.parent / "elsewhere").failure("it", raised("broken"))
    assert error.message == "it failed: ValueError: broken"


def test_a_process_ends_while_a_thread_hangs() -> None:
    import subprocess

    code = (
        "import asyncio, threading\n"
        "from innkeeper.providers.containment import Wall\n"
        "async def main():\n"
        "    try:\n"
        "        await Wall('probe', None).in_thread('it', threading.Event().wait, seconds=0.05)\n"
        "    except Exception as error:\n"
        "        print(error.message.split(',')[0])\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("it did not end in 0.05 s\n", "")
