"""What is told of exceptions."""

from __future__ import annotations

import logging

import pytest

from innkeeper_sdk.capability import CapabilityError, ErrorCode, ErrorVisibility
from innkeeper_sdk.errors import NotFoundError
from innkeeper_sdk.loop.faults import describe, hidden


def fail() -> None:
    raise ValueError("hunter2")


def caught() -> ValueError:
    with pytest.raises(ValueError, match="hunter2") as failed:
        fail()
    return failed.value


def test_an_error_of_ours_is_told_as_it_is() -> None:
    assert describe(NotFoundError("no such thing", hint="look elsewhere")) == "no such thing; look elsewhere"
    assert describe(CapabilityError("no")) == "[2]Unknown: no"


def test_of_any_other_only_its_type_and_place_are_told() -> None:
    line = fail.__code__.co_firstlineno + 1

    assert describe(caught()) == f"ValueError at test_wire_faults.py:{line}"
    assert describe(KeyError("hunter2")) == "KeyError"


def test_what_is_hidden_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        error = hidden(caught(), "probe@1.0.0, method Echo")

    assert (error.error_code, error.visibility) == (ErrorCode.Internal, ErrorVisibility.PRIVATE)
    assert "probe@1.0.0, method Echo: ValueError at" in caplog.text
    assert "hunter2" not in caplog.text + str(error)
