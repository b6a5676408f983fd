"""Reading an entry's ``restart``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.loop.plans import HelperPlan, ProcessPlan, RestartPolicy, read_restart
from innkeeper_sdk.errors import ConfigError


def read(entry: dict[str, Any]) -> RestartPolicy:
    return read_restart(entry, provider="vault", path="plugins.yaml:3:5")


def test_nothing_said_is_the_default() -> None:
    assert read({}) == RestartPolicy(
        start_seconds=30,
        ping_seconds=2,
        ping_interval_seconds=5,
        ping_failures=3,
        stop_seconds=10,
        backoff_first_seconds=0.1,
        backoff_most_seconds=30,
        budget=5,
        window_seconds=60,
    )


def test_what_is_said_is_taken() -> None:
    policy = read({"start_seconds": 5, "budget": 0, "backoff_most_seconds": 0.5})
    assert (policy.start_seconds, policy.budget, policy.backoff_most_seconds) == (5, 0, 0.5)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"start_second": 5}, "did you mean start_seconds"),
        ({"nonsense": 5}, "no key 'nonsense'"),
        ({5: 5}, "no key 5"),
        ({"start_seconds": "5"}, "start_seconds that cannot be used"),
        ({"start_seconds": True}, "start_seconds that cannot be used"),
        ({"start_seconds": None}, "start_seconds that cannot be used"),
        ({"start_seconds": 0}, "start_seconds that cannot be used"),
        ({"start_seconds": float("nan")}, "start_seconds that cannot be used"),
        ({"start_seconds": 4000}, "start_seconds that cannot be used"),
        ({"budget": 1.5}, "budget that cannot be used"),
        ({"budget": -1}, "budget that cannot be used"),
        ({"ping_failures": 0}, "ping_failures that cannot be used"),
        ({"backoff_first_seconds": 2, "backoff_most_seconds": 1}, "shorter than the first"),
    ],
)
def test_what_cannot_be_used_is_an_error_that_names_the_key_and_the_place(entry: dict[Any, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        read(entry)
    assert caught.value.path == "plugins.yaml:3:5"
    assert caught.value.provider == "vault"


@given(st.dictionaries(st.sampled_from([f for f in dir(RestartPolicy) if f.endswith("s")]) | st.text(), st.floats()))
def test_whatever_is_said_is_a_policy_or_an_error(entry: dict[str, float]) -> None:
    try:
        policy = read(entry)
    except ConfigError:
        return
    assert policy.backoff_first_seconds <= policy.backoff_most_seconds


def test_no_plan_shows_what_may_be_secret() -> None:
    plan = ProcessPlan(
        provider_id="vault",
        name="vault",
        executable=Path("/bin/vault"),
        environ={"TOKEN": "hidden"},
        capabilities=(),
        config='{"key": "hidden"}',
        helpers=(HelperPlan("aide", Path("/bin/aide"), {"TOKEN": "hidden"}),),
        restart=RestartPolicy(),
        socket_dir=Path("/run/s"),
    )
    assert "hidden" not in repr(plan)
