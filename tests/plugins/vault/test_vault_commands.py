"""``innkeeper secrets set``, ``list`` and ``delete``."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import define

from innkeeper_confidential_workflows.protocol import SecretName
from innkeeper_sdk.errors import ConfigError, UsageError, VerificationError
from innkeeper_vault.commands import delete
from innkeeper_vault.commands import list as list_command
from innkeeper_vault.commands import set as set_command
from innkeeper_vault.commands.common import DIRECTORY_VARIABLE, OWNER_VARIABLE
from innkeeper_vault.errors import SecretInvalidError, SecretNotFoundError
from innkeeper_vault.store import SecretStore

INNKEEPER = Path(sys.executable).parent / "innkeeper"
OWNER = "ab" * 20
OTHER = "0f" * 20
CANARY = "canary-33d0"


Main = Callable[[Sequence[str]], int]


class _Stdin(io.TextIOWrapper):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))


@define
class Secrets:
    """The commands, run in this process, on the vault of a directory."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def set(self, *words: str, value: bytes = b"value") -> tuple[str, str]:
        self.monkeypatch.setattr("sys.stdin", _Stdin(value))
        assert set_command.main(list(words)) == 0
        return self._said()

    def list(self, *words: str) -> str:
        assert list_command.main(list(words)) == 0
        return self._said()[0]

    def delete(self, *words: str) -> tuple[str, str]:
        assert delete.main(list(words)) == 0
        return self._said()

    def value(self, key: str, namespace: str = "main", owner: str = OWNER) -> str | None:
        with SecretStore(self.folder) as store:
            (found,) = store.get(owner, [SecretName(namespace, key)])
        return None if found is None else found.value

    def _said(self) -> tuple[str, str]:
        said = self.capsys.readouterr()
        return said.out, said.err


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Secrets:
    folder = tmp_path / "providers" / "vault"
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(folder))
    monkeypatch.setenv(OWNER_VARIABLE, OWNER)
    return Secrets(folder, monkeypatch, capsys)


@pytest.mark.parametrize("value", [b"plain", b"with a line end\n", b"\n", b" \t x \r\n\r\n", "ü✓".encode(), b"a\x00b"])
def test_a_value_from_standard_input_is_kept_byte_for_byte(secrets: Secrets, value: bytes) -> None:
    secrets.set("KEY", value=value)
    found = secrets.value("KEY")
    assert found is not None
    assert found.encode() == value


def test_a_value_from_a_file_is_kept_byte_for_byte(secrets: Secrets, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"from a file\n")
    secrets.set("KEY", "--file", str(tmp_path / "value"), value=b"not this")
    assert secrets.value("KEY") == "from a file\n"


def test_what_was_set_is_said_without_the_value(secrets: Secrets) -> None:
    out, err = secrets.set("KEY", value=CANARY.encode())
    assert out == ""
    assert "KEY in namespace main" in err
    out, _ = secrets.set("KEY", "-o", "json", value=CANARY.encode())
    assert json.loads(out)["version"] == 2
    shown = f"{out}{err}{secrets.list()}{secrets.list('-o', 'json')}{secrets.list('-o', 'plain')}"
    assert CANARY not in shown


@pytest.mark.parametrize("owner", [OTHER, f"0x{OTHER}", f"0X{OTHER.upper()}", OTHER.upper()])
def test_an_owner_may_be_written_in_any_way(secrets: Secrets, owner: str) -> None:
    secrets.set("KEY", "--owner", owner)
    assert secrets.value("KEY", owner=OTHER) == "value"
    assert secrets.value("KEY") is None
    assert json.loads(secrets.list("--owner", owner, "-o", "json"))[0]["owner"] == OTHER
    secrets.delete("KEY", "--owner", owner)
    assert secrets.value("KEY", owner=OTHER) is None


def test_without_an_owner_it_is_the_hosts_default(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OWNER_VARIABLE, OTHER)
    secrets.set("KEY")
    assert secrets.value("KEY", owner=OTHER) == "value"


@pytest.mark.parametrize("owner", ["", "x", "0f" * 19, "0x", f"0x0x{OTHER}", f"{OTHER}\n"])
def test_what_is_no_owner_is_refused(secrets: Secrets, owner: str) -> None:
    with pytest.raises(SecretInvalidError, match="not an owner"):
        secrets.set("KEY", "--owner", owner)
    with pytest.raises(SecretInvalidError, match="not an owner"):
        secrets.list("--owner", owner)


def test_an_empty_namespace_is_main_everywhere(secrets: Secrets) -> None:
    secrets.set("KEY", "--namespace", "")
    assert secrets.value("KEY") == "value"
    secrets.set("KEY", "--namespace", "main")
    assert json.loads(secrets.list("-o", "json"))[0]["version"] == 2
    secrets.delete("KEY", "--namespace", "")
    assert secrets.list("-o", "plain") == ""


def test_a_name_is_composed_before_it_is_compared(secrets: Secrets) -> None:
    secrets.set("e\u0301")
    assert secrets.value("\u00e9") == "value"
    secrets.delete("\u00e9")


def test_the_list_shows_names_namespaces_versions_and_times(secrets: Secrets) -> None:
    secrets.set("B", "--namespace", "other")
    secrets.set("A")
    secrets.set("A")
    rows = json.loads(secrets.list("-o", "json"))
    assert [list(row) for row in rows] == [["name", "namespace", "owner", "version", "updated"]] * 2
    assert [(row["name"], row["namespace"], row["version"]) for row in rows] == [("A", "main", 2), ("B", "other", 1)]
    assert yaml.safe_load(secrets.list("-o", "yaml")) == rows
    assert [line.split("\t")[:2] for line in secrets.list("-o", "plain").splitlines()] == [
        ["A", "main"],
        ["B", "other"],
    ]
    table = secrets.list().splitlines()
    assert table[0].split() == ["NAME", "NAMESPACE", "OWNER", "VERSION", "UPDATED"]
    assert len(table) == 3


def test_without_a_vault_the_list_is_empty_and_nothing_is_made(secrets: Secrets) -> None:
    assert json.loads(secrets.list("-o", "json")) == []
    assert secrets.list() == ""
    assert not secrets.folder.exists()


def test_deleting_what_there_is_not_is_an_error(secrets: Secrets) -> None:
    with pytest.raises(SecretNotFoundError):
        secrets.delete("KEY")
    secrets.set("KEY")
    with pytest.raises(SecretNotFoundError):
        secrets.delete("KEY", "--namespace", "other")
    assert json.loads(secrets.delete("KEY", "-o", "json")[0]) == {"name": "KEY", "namespace": "main", "owner": OWNER}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["KEY"], b""),
        (["KEY"], CANARY.encode() + b"\xff"),
        (["KEY"], CANARY.encode() + b"x" * 27_000),
        (["a" * 65], CANARY.encode()),
        ([""], CANARY.encode()),
        (["a\nb"], CANARY.encode()),
        (["KEY", "--namespace", "x" * 65], CANARY.encode()),
    ],
)
def test_what_cannot_be_stored_is_refused_without_showing_it(secrets: Secrets, words: list[str], value: bytes) -> None:
    with pytest.raises(SecretInvalidError) as caught:
        secrets.set(*words, value=value)
    error = caught.value
    assert CANARY not in f"{error} {error!r} {error.__context__!r} {error.to_dict()}"


def test_a_file_that_cannot_be_read_is_a_usage_error(secrets: Secrets, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            secrets.set("KEY", "--file", str(path))


@pytest.mark.parametrize("words", [[], ["KEY", "value"], ["KEY", "--value", "x"], ["KEY", "-o", "xml"]])
def test_there_is_no_way_to_give_a_value_on_the_command_line(secrets: Secrets, words: list[str]) -> None:
    assert set_command.main(words) == 2
    assert not secrets.folder.exists()


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("main", [set_command.main, list_command.main, delete.main])
def test_each_command_explains_itself(main: Main, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Usage: innkeeper secrets" in out
    assert "40 hexadecimal digits in upper or lower case, with or without 0x" in out
    assert f"Default: {'everybody' if main is list_command.main else 'the host'}'s" in out


def test_a_list_may_be_of_one_namespace(secrets: Secrets) -> None:
    secrets.set("A")
    secrets.set("B", "--namespace", "e\u0301")
    secrets.set("C", "--namespace", "e\u0301", "--owner", OTHER)

    def names(*words: str) -> list[str]:
        return [row["name"] for row in json.loads(secrets.list(*words, "-o", "json"))]

    assert names("--namespace", "\u00e9") == names("--namespace", "e\u0301") == ["C", "B"]
    assert names("--namespace", "\u00e9", "--owner", OTHER) == ["C"]
    assert names("--namespace", "main") == names("--namespace", "") == ["A"]
    assert names("--namespace", "none") == []
    with pytest.raises(SecretInvalidError, match="the namespace has control characters"):
        secrets.list("--namespace", "a\nb")


def test_a_list_that_leaves_out_secrets_does_not_say_that_there_are_none(
    secrets: Secrets, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets.set("A")
    for words in (["--namespace", "none"], ["--owner", OTHER]):
        assert list_command.main(words) == 0
        assert "no such secrets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "the name is empty"),
        (" ", "the name is blank"),
        ("   ", "the name is blank"),
        (" KEY", "the name begins or ends with a blank"),
        ("KEY ", "the name begins or ends with a blank"),
        ("KEY\n", "the name has control characters"),
        ("\t", "the name has control characters"),
        ("a\x1b[2Jb", "the name has control characters"),
        ("a\u202eb", "the name has control characters or others that cannot be printed"),
        ("\u00a0KEY", "the name has control characters or others that cannot be printed"),
        ("\udcff", "the name has control characters or others that cannot be printed"),
        ("ü" * 33, r"the name is too long \(expected at most 64 bytes in UTF-8, found 66\)"),
    ],
    ids=ascii,
)
def test_a_name_that_is_none_is_refused_with_the_reason_before_the_value_is_read(
    secrets: Secrets, name: str, sentence: str, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(SecretInvalidError, match=sentence) as caught:
        secrets.set(name, "--file", missing)
    assert "\x1b" not in str(caught.value)
    if name:
        with pytest.raises(SecretInvalidError, match=sentence.replace("name", "namespace")):
            secrets.set("KEY", "--namespace", name, "--file", missing)
    assert not secrets.folder.exists()


@pytest.mark.parametrize("name", ["a b", "a.b/c", "-", "ключ", "'", "x" * 64])
def test_what_can_be_seen_may_be_a_name(secrets: Secrets, name: str) -> None:
    secrets.set("--", name)
    assert secrets.value(name) == "value"


def test_a_name_with_a_blank_that_is_there_already_can_be_listed_and_deleted(secrets: Secrets) -> None:
    with SecretStore(secrets.folder) as store:
        store.set(OWNER, SecretName(" ns", "KEY "), "value")
    assert len(json.loads(secrets.list("--namespace", " ns", "-o", "json"))) == 1
    secrets.delete("KEY ", "--namespace", " ns")
    assert secrets.value("KEY ", " ns") is None


def test_a_secret_that_was_deleted_begins_at_version_1_again(secrets: Secrets) -> None:
    versions = [json.loads(secrets.set("KEY", "-o", "json")[0])["version"] for _ in range(2)]
    secrets.delete("KEY")
    versions.append(json.loads(secrets.set("KEY", "-o", "json")[0])["version"])
    assert versions == [1, 2, 1]


@pytest.mark.parametrize("directory", [None, "", "relative/path"])
def test_without_a_directory_of_the_host_nothing_is_guessed(
    secrets: Secrets, monkeypatch: pytest.MonkeyPatch, directory: str | None
) -> None:
    if directory is None:
        monkeypatch.delenv(DIRECTORY_VARIABLE)
    else:
        monkeypatch.setenv(DIRECTORY_VARIABLE, directory)
    for act in (lambda: secrets.set("KEY"), secrets.list, lambda: secrets.delete("KEY")):
        with pytest.raises(ConfigError):
            act()


def test_without_a_default_owner_one_must_be_given(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OWNER_VARIABLE)
    with pytest.raises(ConfigError, match="give --owner"):
        secrets.set("KEY")
    secrets.set("KEY", "--owner", OTHER)


def test_a_vault_that_is_open_to_others_is_refused(secrets: Secrets) -> None:
    secrets.set("KEY")
    secrets.folder.chmod(0o750)
    with pytest.raises(VerificationError, match="open to others"):
        secrets.list()


def innkeeper(folder: Path, *words: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command in an environment that holds nothing of the machine's user."""
    environ = {"HOME": str(folder), "PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run(
        [INNKEEPER, *words],
        cwd=folder,
        env=environ | options.pop("env", {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def host_folder(tmp_path: Path) -> Path:
    (tmp_path / "plugins.yaml").write_text("plugins: {}\n")
    (tmp_path / "innkeeper.yaml").write_text(f"data_dir: data\ndefault_owner: '0x{OWNER.upper()}'\n")
    return tmp_path


def test_the_settings_of_the_host_say_where_and_whose(host_folder: Path) -> None:
    done = innkeeper(host_folder, "secrets", "set", "KEY", "--namespace", "ns", input=CANARY)
    assert CANARY not in done.stdout + done.stderr
    with SecretStore(host_folder / "data" / "providers" / "vault") as store:
        (found,) = store.get(OWNER, [SecretName("ns", "KEY")])
    assert found is not None
    assert found.value == CANARY
    rows = json.loads(innkeeper(host_folder, "secrets", "list", "-o", "json").stdout)
    assert [(row["name"], row["owner"]) for row in rows] == [("KEY", OWNER)]
    innkeeper(host_folder, "secrets", "delete", "KEY", "--namespace", "ns")
    done = innkeeper(host_folder, "secrets", "delete", "KEY", code=1)
    assert "no secret KEY" in done.stderr


def test_a_flag_goes_before_the_settings_and_a_variable_for_the_child_is_no_back_door(host_folder: Path) -> None:
    planted = {DIRECTORY_VARIABLE: str(host_folder / "planted"), OWNER_VARIABLE: OTHER}
    innkeeper(host_folder, "--data-dir", "other", "secrets", "set", "KEY", input="x", env=planted)
    with SecretStore(host_folder / "other" / "providers" / "vault") as store:
        assert [(entry.owner, entry.key) for entry in store.entries()] == [(OWNER, "KEY")]
    assert not (host_folder / "planted").exists()
    assert not (host_folder / "data").exists()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"\x80\xff" * 16, "the secret is not UTF-8 text, which it must be because guests get secrets as text"),
        (b"x" * 27_001, "the secret is too long (expected at most 27000 bytes"),
        (b"", "the secret is empty"),
    ],
    ids=["no text", "too long", "empty"],
)
def test_a_value_that_cannot_be_stored_ends_with_a_sentence_and_exit_code_2(
    host_folder: Path, value: bytes, sentence: str
) -> None:
    (host_folder / "value").write_bytes(value)
    done = innkeeper(host_folder, "secrets", "set", "KEY", "--file", "value", code=2)
    assert done.stderr.startswith(f"error: {sentence}")
    assert done.stderr.count("\n") == 1
    assert not (host_folder / "data" / "providers" / "vault" / "store").exists()


def test_broken_settings_are_told_and_nothing_is_guessed(host_folder: Path) -> None:
    (host_folder / "innkeeper.yaml").write_text("data_dir: [\n")
    done = innkeeper(host_folder, "secrets", "list", code=3)
    assert "where the vault is, is not known" in done.stderr


# Takes its standard input for its terminal, and becomes the command.
AT_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_value_is_asked_for_at_a_terminal_without_showing_it(host_folder: Path) -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, INNKEEPER, "secrets", "set", "KEY"],
        cwd=host_folder,
        env={"HOME": str(host_folder), "PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(host_folder)},
        stdin=end,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    seen = b""
    try:
        for prompt in (b"Value: ", b"confirmation: "):
            while prompt not in seen:
                chunk = _read(terminal)
                assert chunk, seen
                seen += chunk
            os.write(terminal, CANARY.encode() + b"\n")
        while chunk := _read(terminal):
            seen += chunk
    finally:
        os.close(terminal)
        code = process.wait(30)
    assert code == 0, seen
    assert CANARY.encode() not in seen
    with SecretStore(host_folder / "data" / "providers" / "vault") as store:
        (found,) = store.get(OWNER, [SecretName("main", "KEY")])
    assert found is not None
    assert found.value == CANARY


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1024)
    except OSError:
        # The last process of the terminal is gone.
        return b""


def test_they_work_while_another_process_has_the_vault_open(secrets: Secrets) -> None:
    with SecretStore(secrets.folder) as store:
        store.open()
        secrets.set("KEY")
        assert [entry.key for entry in store.entries()] == ["KEY"]
