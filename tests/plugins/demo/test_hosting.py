"""The host that is shown is real, apart, and leaves nothing: not even when whoever shows it is interrupted."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from innkeeper_demo.errors import StepError
from innkeeper_demo.hosting import DemoHost, plain_environment
from innkeeper_sdk.control import ControlClient
from innkeeper_sdk.errors import InnkeeperError


@pytest.fixture
def plugins(tmp_path: Path) -> list[Path]:
    path = tmp_path / "plugins.yaml"
    path.write_text("version: 1\nplugins:\n  cron: [{package: innkeeper-cron}]\n")
    return [path]


def environ() -> dict[str, str]:
    return plain_environment(os.environ)


def test_it_starts_answers_stops_and_leaves_nothing(plugins: list[Path]) -> None:
    with DemoHost(plugins, environ()) as host:
        host.start()
        with ControlClient(host.socket) as client:
            assert client.host().environment == "development"
            assert [provider.id for provider in client.providers()] == ["cron"]
        host.run("status")
        assert host.family.living() != []  # its guard
        assert host.left()[0] == ["demo/control.sock"]
        assert host.stop() == 0
        assert host.family.await_end(5) == []
        assert host.left() == ([], [])
        folder = host.data_dir.parent
    assert not folder.exists()


def test_what_is_left_is_found(plugins: list[Path]) -> None:
    with DemoHost(plugins, environ()) as host:
        (host.runtime_dir / "demo").mkdir(parents=True)
        (host.runtime_dir / "demo" / "host.lock").touch()
        (host.runtime_dir / "demo" / "a-file").touch()
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(host.runtime_dir / "demo" / "a-socket"))
        assert host.left() == (["demo/a-socket"], ["demo/a-file"])


def test_a_secret_is_found_wherever_it_was_written(plugins: list[Path]) -> None:
    with DemoHost(plugins, environ()) as host:
        host.data_dir.mkdir()
        (host.data_dir / "innkeeper.db").write_bytes(b"\0 the key \0")
        (host.data_dir / "vault.age").write_bytes(b"\0 sealed \0")
        assert host.holding(b"the key") == ["data/innkeeper.db"]


def test_a_host_that_does_not_start_says_why(plugins: list[Path]) -> None:
    plugins[0].write_text("version: 1\nplugins:\n  cron: [{package: innkeeper-cron, enabeld: true}]\n")
    with DemoHost(plugins, environ()) as host, pytest.raises(InnkeeperError, match="enabeld"):
        host.start()


def test_a_command_that_fails_is_told_with_its_own_words(plugins: list[Path]) -> None:
    with (
        DemoHost(plugins, environ()) as host,
        pytest.raises(StepError, match=r"(?s)workflow show nothing` ended with 5"),
    ):
        host.run("workflow", "show", "nothing")


def test_an_interruption_ends_it_all(plugins: list[Path]) -> None:
    host = DemoHost(plugins, environ())

    def interrupted() -> None:
        with host:
            host.start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert host.family.living() == []
    assert not host.data_dir.parent.exists()


def test_nothing_of_the_users_environment_speaks_to_it() -> None:
    assert plain_environment({"PATH": "/bin", "INNKEEPER_DATABASE_URL": "postgresql://"}) == {"PATH": "/bin"}
