"""The errors of the SDK: what they say, to people and to programs."""

from __future__ import annotations

import inspect
import pickle

import pytest

from innkeeper_sdk import errors
from innkeeper_sdk.errors import (
    ConfigError,
    ExitCode,
    HostError,
    InnkeeperError,
    NotFoundError,
    ProviderError,
    ProviderFailedError,
    UnavailableError,
    WorkflowError,
)

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, InnkeeperError)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_in_one_branch_and_exported(cls: type[InnkeeperError]) -> None:
    assert cls.__name__ in errors.__all__
    branches = [issubclass(cls, HostError), issubclass(cls, ProviderError)]
    assert sum(branches) == (0 if cls in (InnkeeperError, UnavailableError) else 1)
    assert cls.__doc__ is not None
    assert isinstance(cls.exit_code, ExitCode)


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and " " not in code for code in codes)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InnkeeperError("it broke"), "it broke"),
        (ConfigError("it broke", path="a.yaml:1:2"), "a.yaml:1:2: it broke"),
        (ConfigError("a.yaml:1:2 broke", path="a.yaml:1:2"), "a.yaml:1:2 broke"),
        (ProviderError("it broke", provider="clock"), "provider clock: it broke"),
        (ProviderError("clock broke", provider="clock"), "clock broke"),
        (ProviderError("it broke", provider="p", path="f"), "provider p: f: it broke"),
        (InnkeeperError("no", expected="a"), "no (expected a)"),
        (InnkeeperError("no", actual="b"), "no (found b)"),
        (InnkeeperError("no", expected="a", actual="b"), "no (expected a, found b)"),
        (InnkeeperError("no", expected="a", hint="try c"), "no (expected a); try c"),
        (InnkeeperError("no", hint="try c"), "no; try c"),
        (InnkeeperError("no", expected="", actual=""), "no (expected , found )"),
    ],
)
def test_an_error_is_one_sentence(error: InnkeeperError, text: str) -> None:
    assert str(error) == text


def test_the_same_for_a_program_has_only_what_is_set() -> None:
    assert NotFoundError("none").to_dict() == {"code": "not-found", "message": "none"}
    error = ProviderFailedError("m", provider="p", path="f", expected="e", actual="a", hint="h")
    assert error.to_dict() == {
        "code": "provider-failed",
        "message": "m",
        "provider": "p",
        "path": "f",
        "expected": "e",
        "actual": "a",
        "hint": "h",
    }


def test_only_some_errors_end_a_command_in_a_way_of_their_own() -> None:
    assert {cls.__name__: int(cls.exit_code) for cls in CLASSES if cls.exit_code is not ExitCode.PROBLEMS} == {
        "UsageError": 2,
        "ConfigError": 3,
        "VerificationError": 4,
        "HostUnreachableError": 5,
    }


def test_a_deferral_is_neither_the_hosts_nor_a_providers_fault() -> None:
    assert not issubclass(UnavailableError, HostError | ProviderError)


def test_an_error_keeps_its_message_across_processes() -> None:
    copy = pickle.loads(pickle.dumps(WorkflowError("trapped", path="x")))  # noqa: S301 - our own bytes
    assert (type(copy), copy.message) == (WorkflowError, "trapped")
    assert copy.path == "x"
