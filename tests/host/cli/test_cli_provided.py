"""Commands that providers add."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest


def site(command) -> Path:
    return Path(command.environ["PYTHONPATH"])


def test_a_verb_gets_its_words_as_they_are_and_its_host_in_variables(command) -> None:
    done = command("--host-name", "other", "--plugins", "plugins.yaml", "workflow", "say", "a b", "--help", "-o", "x")
    words, plugins, data, name, modules = done.stdout.splitlines()
    assert words == "['a b', '--help', '-o', 'x']"
    assert plugins == f"INNKEEPER_PLUGINS {command.folder / 'plugins.yaml'}"
    assert data == f"INNKEEPER_DATA_DIR {command.folder / 'data'}"
    assert name == "INNKEEPER_NAME other"
    assert modules == "modules []"


@pytest.mark.parametrize(
    "words", [["--", "-x"], ["a", "--", "--"], ["--"], ["-x", "--", "--help"], ["--", "--name", ""]]
)
def test_two_dashes_are_passed_on_too(command, words: list[str]) -> None:
    assert command("workflow", "say", *words).stdout.splitlines()[0] == str(words)
    assert command("play", *words).stdout.splitlines()[0] == str(words)


def test_nouns_of_providers_work_with_and_without_verbs(command) -> None:
    assert command("toys", "count", "1", "2").stdout == "2\n"
    assert command("play", "seven", code=7).stdout.startswith("['seven']")
    assert "count" in command("toys", "--help").stdout


@pytest.mark.parametrize(("word", "code"), [("seven", 7), ("fail", 1), ("die", 128 + signal.SIGKILL)])
def test_its_exit_code_is_the_commands(command, word: str, code: int) -> None:
    command("workflow", "say", word, code=code)


def test_the_working_directory_brings_no_code(command) -> None:
    shutil.copytree(site(command) / "ik_toy", command.folder / "ik_toy")
    (command.folder / "ik_toy" / "commands.py").write_text("def say(arguments):\n    print('planted')\n")
    assert "planted" not in command("workflow", "say").stdout


def test_the_index_does_not_choose_the_code(command) -> None:
    command("workflow", "--help")
    (index,) = (command.folder / ".cache" / "innkeeper").rglob("providers-*.json")
    text = index.read_text()
    assert "ik_toy.commands:say" in text
    index.write_text(text.replace("ik_toy.commands:say", "os:getcwd"))
    assert command("workflow", "say", "x").stdout.startswith("['x']")


def test_two_providers_with_one_command_are_both_named(command) -> None:
    other = site(command) / "ik_other"
    other.mkdir()
    (other / "__init__.py").write_text("")
    (other / "innkeeper-provider.yaml").write_text(
        "id: other\ntitle: Other\nsdk: '>=0'\ncommands: [{noun: workflow, verb: say, run: 'ik_other:say'}]\n"
    )
    info = site(command) / "ik_other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ik_other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[innkeeper.providers]\nother = ik_other\n")
    done = command("workflow", "say", code=1)
    assert "other and toy" in done.stderr
    assert command("toys", "count").stdout == "0\n"


def test_a_faulty_manifest_takes_away_its_own_commands_alone(command) -> None:
    (site(command) / "ik_toy" / "innkeeper-provider.yaml").write_text("id: [")
    done = command("workflow", "say", code=2)
    assert "No such command 'say'" in done.stderr
    assert "toys" not in command("--help").stdout


def test_a_provider_that_is_not_installed_is_named_with_its_entry(command) -> None:
    for part in site(command).iterdir():
        shutil.rmtree(part)
    done = command("workflow", "say", code=2)
    assert "ik-toy" in done.stderr
    assert "plugins.yaml:3:7" in done.stderr


def test_broken_settings_and_plugins_take_away_no_command(command) -> None:
    command.write("innkeeper.yaml", "nme: [")
    command.write("plugins.yaml", "plugins: [")
    assert command("toys", "count").stdout == "0\n"
    assert "say" in command("workflow", "--help").stdout
    assert "No such command" in command("workflow", "nothing", code=2).stderr


def test_an_interrupted_command_is_waited_for(command) -> None:
    commands = site(command) / "ik_toy" / "commands.py"
    commands.write_text(
        "import time\n"
        "def say(arguments):\n"
        "    try:\n        print('started', flush=True)\n        time.sleep(600)\n"
        "    except KeyboardInterrupt:\n        print('cleaned', flush=True)\n        return 130\n"
    )
    process = command.start("workflow", "say", stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    # As a terminal does: to everybody in the foreground.
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "cleaned\n"
    assert process.wait(30) == 130
    process.stdout.close()


def test_a_command_that_is_told_to_stop_tells_what_it_started(command) -> None:
    commands = site(command) / "ik_toy" / "commands.py"
    commands.write_text(
        "import signal, sys, time\n"
        "def say(arguments):\n"
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "    try:\n        print('started', flush=True)\n        time.sleep(600)\n"
        "    finally:\n        print('cleaned', flush=True)\n"
    )
    process = command.start("workflow", "say", stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.terminate()
    assert process.stdout.readline() == "cleaned\n"
    assert process.wait(30) == 143
    process.stdout.close()


def test_a_command_whose_caller_is_killed_is_told_to_stop(command) -> None:
    commands = site(command) / "ik_toy" / "commands.py"
    commands.write_text(
        "import os, signal, sys, time\n"
        "def say(arguments):\n"
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "    try:\n        print(os.getpid(), flush=True)\n        time.sleep(600)\n"
        "    finally:\n        print('cleaned', flush=True)\n"
    )
    process = command.start("workflow", "say", stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    child = os.pidfd_open(int(process.stdout.readline()))
    try:
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
        ended = bool(select.select([child], [], [], 30)[0])
        if not ended:
            signal.pidfd_send_signal(child, signal.SIGKILL)
        assert ended, "it lives on"
        assert process.stdout.read() == "cleaned\n"
    finally:
        process.stdout.close()
        os.close(child)
