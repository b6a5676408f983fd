"""What a provider's code raises, made harmless."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from innkeeper.capabilities.faults import class_name, contain, is_a, location, trace_of, words
from innkeeper_sdk.errors import ConfigError, ProviderError


class _Liar(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override] # providers may do anything
        raise RuntimeError("no name")


class Masked(ValueError, metaclass=_Liar):
    """An exception that does not let itself be looked at."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError("no attribute")

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raising(error: BaseException) -> None:
    raise error


def fault(error: BaseException) -> ProviderError:
    return ProviderError(f"it failed with {class_name(error)}")


def test_an_exception_is_read_without_running_its_code() -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - it cannot be told more closely
        raising(Masked())
    error = caught.value
    assert class_name(error) == "Masked"
    assert is_a(error, KeyError, ValueError)
    assert not is_a(error, KeyError)
    assert location(error).rpartition(":")[0] == __file__
    assert trace_of(error) is not None
    assert words(error) == "Masked"


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    assert location(ValueError()) == ""


def test_only_errors_of_the_contract_speak() -> None:
    assert words(ConfigError("said", hint="mend it")) == "said; mend it"
    assert words(ValueError("key=hunter2")) == "ValueError"


@pytest.mark.parametrize("make", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
async def test_what_is_not_of_the_contract_is_a_fault(make: Callable[[], BaseException]) -> None:
    async def call() -> None:
        raise make()

    with pytest.raises(ProviderError, match=r"^it failed with ") as caught:
        await contain(call, passes=(LookupError,), fault=fault)
    assert caught.value.__suppress_context__


async def test_what_is_of_the_contract_passes() -> None:
    error = KeyError("x")

    async def call() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        await contain(call, passes=(LookupError,), fault=fault)
    assert caught.value is error


async def test_a_call_that_does_not_even_begin_is_a_fault() -> None:
    def call() -> asyncio.Future[None]:
        raise KeyboardInterrupt

    with pytest.raises(ProviderError, match="it failed with KeyboardInterrupt"):
        await contain(call, passes=(), fault=fault)


async def test_a_deadline_of_the_caller_is_kept() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await contain(asyncio.Event().wait, passes=(), fault=fault)
