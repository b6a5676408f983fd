"""The command line as a whole: words, exit codes, streams, and what it does not import."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from innkeeper.cli.app import COMMANDS, GROUPS

INNKEEPER = Path(sys.executable).parent / "innkeeper"

# What costs more than a command that does not need it may cost (measured: 50 to 500 ms each).
HEAVY = ("alembic", "cattrs", "grpc", "jsonschema", "rich", "sqlalchemy", "structlog", "google.protobuf", "asyncio")


def modules_after(command, *args: str) -> set[str]:
    """Return what a command has imported when it ends."""
    code = (
        "import sys, json\n"
        f"sys.path[0] = {str(INNKEEPER.parent)!r}\n"  # as it is for the script
        "from innkeeper.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=command.environ,
        cwd=command.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    code, names = json.loads(done.stderr.splitlines()[-1])
    return set(names)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["plugins", "list"],
        ["plugins", "list", "-o", "json"],
        ["status"],
        ["explain", "conflict"],
        ["workflow", "--help"],
        ["executions", "--help"],
    ],
)
def test_listing_and_help_import_nothing_heavy_and_no_provider(command, words: list[str]) -> None:
    command("plugins", "list")  # writes the index
    names = modules_after(command, *words)
    assert [name for name in HEAVY if name in names] == []
    assert not [name for name in names if name.startswith("ik_toy")]


def test_every_command_says_the_same_in_lists_and_in_its_own_help() -> None:
    for verbs in [COMMANDS, *(verbs for _, verbs in GROUPS.values())]:
        for name, lazy in verbs.items():
            loaded = lazy.load()
            assert loaded.name == name
            assert (loaded.help or "").splitlines()[0] == lazy.text


def test_help_lists_the_hosts_commands_and_those_of_providers(command) -> None:
    shown = command("--help").stdout
    for word in ("run", "status", "explain", "plugins", "capabilities", "workflow", "executions", "toys", "play"):
        assert f"\n  {word} " in shown
    shown = command("workflow", "--help").stdout
    for word in ("deploy", "run", "list", "show", "activate", "pause", "delete", "logs", "say"):
        assert f"\n  {word} " in shown
    assert "Say the arguments." in shown


def test_the_version_is_on_stdout(command) -> None:
    assert command("--version").stdout == "innkeeper 0.1.0\n"


@pytest.mark.parametrize(
    ("words", "near"),
    [(["workflw"], "workflow"), (["workflow", "depoly"], "deploy"), (["workflow", "sya"], "say"), (["toy"], "toys")],
)
def test_a_word_that_is_no_command_has_near_ones_suggested(command, words: list[str], near: str) -> None:
    done = command(*words, code=2)
    assert done.stdout == ""
    assert f"'{near}'" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["workflow", "deploy"], 2),
        (["workflow", "deploy", "missing.toy", "--name", "x"], 2),
        (["executions", "list", "--limit", "0"], 2),
        (["plugins", "list", "-o", "xml"], 2),
        (["status"], 5),
        (["workflow", "list"], 5),
        (["--settings", "missing.yaml", "status"], 3),
        (["--plugins", "missing.yaml", "plugins", "list"], 3),
        (["--host-name", "Not A Name", "status"], 3),
        (["--runtime-dir", "x" * 120, "status"], 3),
        (["explain", "no-such-code"], 1),
    ],
)
def test_exit_codes_say_whose_fault_it_is(command, words: list[str], code: int) -> None:
    done = command(*words, code=code)
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_json_where_the_data_would_be(command) -> None:
    done = command("status", "-o", "json", code=5)
    error = json.loads(done.stderr)
    assert error["code"] == "host-unreachable"
    assert error["path"] == str(command.runtime / "default" / "control.sock")


def test_an_error_that_can_be_explained_says_how(command) -> None:
    assert "innkeeper explain host-unreachable" in command("status", code=5).stderr
    assert "No host answers" in command("explain", "host-unreachable").stdout


def test_options_of_the_host_stand_before_or_after_the_words(command) -> None:
    for words in (["--host-name", "other", "status"], ["status", "--host-name", "other"]):
        assert "/other/control.sock" in command(*words, code=5).stderr
    twice = command("--host-name", "one", "status", "--host-name", "two", code=5)
    assert "/two/control.sock" in twice.stderr


def test_the_same_plugins_file_twice_is_one_file(command) -> None:
    path = command.folder / "plugins.yaml"
    rows = command.json("--plugins", path, "plugins", "list", "--plugins", path)
    assert [row["id"] for row in rows] == ["toy"]


def test_settings_are_found_beside_plugins_yaml_or_named(command) -> None:
    command.write("innkeeper.yaml", "name: beside\n")
    assert "/beside/control.sock" in command("status", code=5).stderr
    named = command.write("named.yaml", "name: named\n")
    assert "/named/control.sock" in command("status", "--settings", named, code=5).stderr
    assert "/named/control.sock" in command("status", code=5, env={"INNKEEPER_SETTINGS": str(named)}).stderr


def test_a_reader_that_is_gone_is_no_error_of_ours(command) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [INNKEEPER, "explain"],
        env=command.environ,
        cwd=command.folder,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == ""


def test_no_colour_is_sent_into_a_pipe(command) -> None:
    for words in (["plugins", "list"], ["status"], ["--help"]):
        done = command(*words, code=None, env={"TERM": "xterm-256color", "FORCE_COLOR": "1"})
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_unless_no_color_is_set(command, no_color: str, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    process = command.start("status", stderr=theirs, env={**command.environ, "NO_COLOR": no_color, "TERM": "xterm"})
    os.close(theirs)
    assert process.wait(30) == 5
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "no host is running" in shown
    assert ("\x1b[31m" in shown) == coloured


def test_texts_that_the_terminal_cannot_show_are_escaped(command) -> None:
    command.write(
        "plugins.yaml", "plugins:\n  toys: [{package: ik-toy, enabled: false}]\n  é: [{package: nothing-é}]\n"
    )
    done = command("plugins", "list", code=None, env={"LANG": "C", "PYTHONIOENCODING": "ascii"})
    assert "Traceback" not in done.stderr
    assert "UnicodeEncodeError" not in done.stderr


def test_it_can_be_run_as_a_module(command) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "innkeeper", "--version"],
        env=command.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "innkeeper 0.1.0\n"
