"""The host's settings."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper.config.settings import DEVELOPMENT, PRODUCTION, Settings, find_settings_file, load_settings, prepare
from innkeeper.config.yaml import FaultyConfigError
from innkeeper_sdk.errors import ConfigError, ExitCode

OWNER = "ab" * 20
WORKFLOW = "cd" * 32
FALLBACK = Path(f"/tmp/innkeeper-{os.geteuid()}")  # noqa: S108 - the default; nothing is made there


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Return a directory whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="ik-") as folder:
        yield Path(folder)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "innkeeper.yaml"
    path.write_text(text)
    return path


def faults_of(path: Path | None = None, *, environ: dict[str, str] | None = None, **flags: str) -> list[str]:
    with pytest.raises(FaultyConfigError) as caught:
        load_settings(file=path, flags=flags, environ=environ or {})
    assert caught.value.exit_code is ExitCode.CONFIG
    return [str(fault) for fault in caught.value.faults]


def test_without_anything_a_host_is_in_production_with_private_places(home: Path) -> None:
    settings = load_settings(environ={})
    assert settings.name == "default"
    assert settings.environment == PRODUCTION
    assert settings.data_dir == home / ".local/share/innkeeper/default"
    assert settings.cache_dir == home / ".cache/innkeeper/default"
    assert settings.runtime_dir == FALLBACK
    assert settings.database_url == f"sqlite+aiosqlite:///{settings.data_dir}/innkeeper.db"
    assert settings.default_owner == "0" * 40
    assert settings.limits == {}
    assert settings.origins == {}
    assert settings.warnings == ()


def test_hosts_of_two_names_share_no_data(home: Path) -> None:
    one, two = (load_settings(environ={}, flags={"name": name}) for name in ("one", "two"))
    assert one.data_dir != two.data_dir
    assert one.control_socket != two.control_socket
    assert one.control_socket.name == "control.sock"
    assert one.control_socket.parent == one.socket_dir == one.runtime_dir / "one"


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "name: file\nenvironment: development\ndefault_owner: '0x" + OWNER.upper() + "'\n")
    settings = load_settings(
        file=path, flags={"name": "flag", "data_dir": None}, environ={"INNKEEPER_NAME": "variable"}
    )
    assert (settings.name, settings.environment, settings.default_owner) == ("flag", DEVELOPMENT, OWNER)
    assert {key: str(origin) for key, origin in settings.origins.items()} == {
        "name": "--host-name",
        "environment": f"{path}:2:14",
        "default_owner": f"{path}:3:16",
    }
    assert load_settings(file=path, environ={"INNKEEPER_NAME": "variable"}).name == "variable"
    assert load_settings(file=path, environ={"INNKEEPER_NAME": ""}).name == "file"


def test_paths_in_the_file_are_relative_to_it_and_others_to_the_working_directory(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    path = write(folder, "data_dir: data\ncache_dir: ~/cache\n")
    monkeypatch.chdir(tmp_path)
    settings = load_settings(file=path, flags={"runtime_dir": "run"}, environ={})
    assert (settings.data_dir, settings.cache_dir) == (folder / "data", home / "cache")
    assert settings.runtime_dir == tmp_path / "run"
    assert load_settings(environ={"INNKEEPER_DATA_DIR": "d"}).data_dir == tmp_path / "d"


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert load_settings(file=write(tmp_path, "# nothing\n"), environ={}).name == "default"
    assert load_settings(file=write(tmp_path, "name:\nlimits: {global: , owner: }\n"), environ={}).name == "default"


def test_limits_are_nested_as_the_references_are(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "limits:\n"
        "  global:\n    PerWorkflow: {LogLineLimit: 2kb, Consensus: {CallLimit: 30}}\n    WorkflowLimit: 10\n"
        f"  owner:\n    '0x{OWNER.upper()}': {{PerWorkflow.UserMetricEnabled: true}}\n"
        f"  workflow:\n    {WORKFLOW}: {{PerWorkflow.ExecutionTimeout: 1m}}\n",
    )
    settings = load_settings(file=path, environ={})
    assert settings.limits == {
        "global": {"PerWorkflow.LogLineLimit": "2kb", "PerWorkflow.Consensus.CallLimit": 30, "WorkflowLimit": 10},
        f"owner.{OWNER}": {"PerWorkflow.UserMetricEnabled": True},
        f"workflow.{WORKFLOW}": {"PerWorkflow.ExecutionTimeout": "1m"},
    }
    assert str(settings.origins["limits.global.PerWorkflow.LogLineLimit"]) == f"{path}:3:19"


def test_limits_of_a_variable_go_before_those_of_the_file_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path, "limits: {global: {A: 1, B: 2}}")
    settings = load_settings(file=path, environ={"INNKEEPER_LIMITS": '{"global": {"B": 3}}'})
    assert settings.limits == {"global": {"A": 1, "B": 3}}


def test_every_fault_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "nam: x\nname: 'A/b'\nenvironment: staging\ndefault_owner: abc\ndatabase_url: hunter2\ndata_dir: [x]\n"
        "limits: {globl: {}, owner: {xyz: {A: 1}}, workflow: {abc: {A: 1}}, global: [1]}\n",
    )
    found = faults_of(
        path, environ={"INNKEEPER_CACHE_DIR": "~nobody-of-this-name/x", "INNKEEPER_LIMITS": "["}, name=".."
    )
    for said in (
        f"{path}:1:1: nam: unknown key; did you mean name?",
        f"{path}:2:7: name: not what belongs here (expected lower-case letters, digits, _ and -, at most 32",
        f"{path}:3:14: environment: not what belongs here (expected production or development, found 'staging')",
        f"{path}:4:16: default_owner: not what belongs here (expected 40 hexadecimal digits",
        f"{path}:5:15: database_url: no database's URL (expected one such as sqlite+aiosqlite:///FILE)",
        f"{path}:6:11: data_dir: not what belongs here (expected a directory, found a list)",
        f"{path}:7:10: limits.globl: unknown key; did you mean global?",
        f"{path}:7:29: limits.owner.xyz: no owner (expected 40 hexadecimal digits)",
        f"{path}:7:54: limits.workflow.abc: no workflow (expected 64 hexadecimal digits)",
        f"{path}:7:76: limits.global: not what belongs here (expected a mapping, found a list)",
        "INNKEEPER_CACHE_DIR: cache_dir: not what belongs here (expected a directory; there is no such user",
        "INNKEEPER_LIMITS:2:1: this is not YAML",
        "--host-name: name: not what belongs here",
    ):
        assert any(fault.startswith(said) for fault in found), said
    assert "hunter2" not in "".join(found)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(file=tmp_path / "missing.yaml", environ={})


def test_a_password_is_not_in_the_repr() -> None:
    settings = load_settings(environ={"INNKEEPER_DATABASE_URL": "postgresql+psycopg://me:hunter2@db/x"})
    assert settings.database_url == "postgresql+psycopg://me:hunter2@db/x"
    assert "hunter2" not in repr(settings)


def test_a_mistyped_variable_is_told() -> None:
    environ = {"INNKEEPER_ENVIROMENT": "development", "INNKEEPER_DEBUG": "1", "INNKEEPER_PLUGINS": "x"}
    settings = load_settings(environ=environ)
    assert settings.environment == PRODUCTION
    assert settings.warnings == ("the variable INNKEEPER_ENVIROMENT sets nothing; did you mean INNKEEPER_ENVIRONMENT?",)


def test_sockets_are_in_the_sessions_directory_if_it_is_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert load_settings(environ={"XDG_RUNTIME_DIR": str(tmp_path)}).runtime_dir == tmp_path / "innkeeper"


@pytest.mark.parametrize("mode", [None, 0o777])
def test_a_session_directory_that_is_not_ours_alone_is_not_used_and_that_is_told(
    tmp_path: Path, mode: int | None
) -> None:
    session = tmp_path / "session"
    if mode is not None:
        session.mkdir()
        session.chmod(mode)
    settings = load_settings(environ={"XDG_RUNTIME_DIR": str(session)})
    assert settings.runtime_dir == FALLBACK
    assert settings.warnings[0].startswith(f"XDG_RUNTIME_DIR is not used: {session} ")


def test_the_file_is_the_one_given_or_the_one_beside_plugins_yaml(tmp_path: Path) -> None:
    plugins = [tmp_path / "plugins.yaml", Path("/elsewhere/plugins.yaml")]
    assert find_settings_file(Path("given"), plugins) == Path("given")
    assert find_settings_file(None, plugins) is None
    assert find_settings_file(None, []) is None
    beside = write(tmp_path, "")
    assert find_settings_file(None, plugins) == beside


def settings_in(folder: Path, **flags: str) -> Settings:
    places = {key: str(folder / key[0]) for key in ("data_dir", "cache_dir", "runtime_dir")}
    return load_settings(environ={}, flags={**places, **flags})


def test_preparing_makes_every_directory_private(short_dir: Path) -> None:
    settings = settings_in(short_dir)
    prepare(settings)
    for path in (settings.data_dir, settings.cache_dir, settings.runtime_dir, settings.socket_dir):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    prepare(settings)


@pytest.mark.parametrize("which", ["data_dir", "cache_dir", "runtime_dir", "socket_dir"])
def test_a_directory_that_others_can_write_is_refused(short_dir: Path, which: str) -> None:
    settings = settings_in(short_dir)
    prepare(settings)
    getattr(settings, which).chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by others"):
        prepare(settings)


def test_a_link_does_not_stand_in_for_the_runtime_directory(short_dir: Path) -> None:
    settings = settings_in(short_dir)
    (short_dir / "elsewhere").mkdir(mode=0o700)
    settings.runtime_dir.symlink_to(short_dir / "elsewhere")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        prepare(settings)


def test_a_runtime_directory_too_deep_for_sockets_is_refused(short_dir: Path) -> None:
    settings = settings_in(short_dir, runtime_dir=str(short_dir / ("x" * 90)))
    with pytest.raises(ConfigError, match="the path of the control socket is too long"):
        prepare(settings)
    assert not settings.runtime_dir.exists()
