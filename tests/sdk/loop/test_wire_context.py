"""What a plugin is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.errors import ProviderError
from innkeeper_sdk.loop.context import Surroundings, parse_config, read_surroundings


def test_an_empty_environment_is_the_safe_one() -> None:
    assert read_surroundings({}) == Surroundings(environment="production", helpers={})


def test_what_the_host_says_is_read() -> None:
    env = {
        "INNKEEPER_PROVIDER": "p",
        "INNKEEPER_PROCESS": "q",
        "INNKEEPER_ENVIRONMENT": "development",
        "INNKEEPER_DATA_DIR": "/d",
        "INNKEEPER_CACHE_DIR": "/c",
        "INNKEEPER_RUNTIME_DIR": "/r",
        "INNKEEPER_GUARDED": "x",
    }

    assert read_surroundings(env) == Surroundings(
        provider="p",
        process="q",
        environment="development",
        data_dir=Path("/d"),
        cache_dir=Path("/c"),
        runtime_dir=Path("/r"),
    )


@pytest.mark.parametrize("value", ["Production", "dev", " development"])
def test_another_environment_is_refused(value: str) -> None:
    with pytest.raises(ProviderError, match="production or development"):
        read_surroundings({"INNKEEPER_ENVIRONMENT": value})


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(ProviderError, match="INNKEEPER_DATA_DIR"):
        read_surroundings({"INNKEEPER_DATA_DIR": "data"})


def test_helpers_are_named_as_in_the_manifest_and_their_sockets_stay_out_of_children() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        helpers = read_surroundings({"INNKEEPER_HELPER_KEY_STORE_FD": str(fd)}).helpers
        assert helpers == {"key-store": fd}
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "99999", "9" * 30, "٣"])
def test_a_helpers_descriptor_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ProviderError, match="INNKEEPER_HELPER_LAUNCHER_FD"):
        read_surroundings({"INNKEEPER_HELPER_LAUNCHER_FD": value})


@pytest.mark.parametrize(("text", "config"), [("", {}), ("{}", {}), (' {"a": [1, null]} ', {"a": [1, None]})])
def test_a_configuration_is_an_object(text: str, config: dict[str, object]) -> None:
    assert parse_config(text) == config


DEEP, LONG = '{"a":' + "[" * 100_000, '{"a":' + "9" * 5000 + "}"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "1",
        '"hunter2"',
        "{",
        " ",
        '{"a":1}x',
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}',
        '{"a":Infinity}',
        '{"hunter2": }',
        pytest.param(DEEP, id="deep"),
        pytest.param(LONG, id="long"),
    ],
)
def test_anything_else_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ProviderError, match="the configuration of the plugin") as refused:
        parse_config(text)

    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


@given(st.text(max_size=30))
def test_whatever_comes_is_an_object_or_refused(text: str) -> None:
    try:
        config = parse_config(text)
    except ProviderError:
        return
    assert isinstance(config, dict)
