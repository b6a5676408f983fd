"""Providers' commands, in the child process that they run in."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from innkeeper_sdk.command import command_line, main
from innkeeper_sdk.errors import ExitCode

CODE = """
import os, sys
from innkeeper_sdk.errors import ConfigError, VerificationError


def echo(arguments):
    print(arguments)


def code(arguments):
    return int(arguments[0])


def wrong(arguments):
    return "fine"


def refuse(arguments):
    raise ConfigError("it is not valid", expected="this", actual="that", hint="mend it")


def unverified(arguments):
    raise VerificationError("it is not what it says")


def crash(arguments):
    raise ValueError("something broke")


def leave(arguments):
    sys.exit(7)


def complain(arguments):
    sys.exit("the last word")


def interrupted(arguments):
    raise KeyboardInterrupt


def parse(arguments):
    import argparse
    argparse.ArgumentParser().parse_args(arguments)


def where(arguments):
    print(sys.path[0] or os.getcwd(), sys.flags.isolated, "shadowed" in sys.modules)


def flood(arguments):
    for _ in range(100_000):
        print("x" * 100)


class Tool:
    @staticmethod
    def main(arguments):
        print("tool")


VALUE = 5
"""


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("location")
    package = folder / "probe_commands"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text(CODE)
    (package / "broken.py").write_text("import no_such_module_anywhere\n")
    return folder


def run(
    location: Path, function: str, *arguments: str, prog: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    module = function if ":" in function else f"probe_commands.cli:{function}"
    command = command_line(module, arguments, locations=[str(location)], prog=prog)
    env = {**{k: v for k, v in os.environ.items() if k != "INNKEEPER_DEBUG"}, **environ}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=60)


@pytest.fixture
def here(location: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the location for commands in this process, which is left as it was."""
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("INNKEEPER_DEBUG", raising=False)
    return location


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["probe_commands.cli:echo", "--", "a"], 0, "['a']\n", ""),
        (["probe_commands.cli:code", "--", "9"], 9, "", ""),
        (["probe_commands.cli:refuse", "--"], 3, "", "error: it is not valid (expected this, found that); mend it\n"),
        (
            ["probe_commands.cli:crash", "--"],
            1,
            "",
            "error: probe_commands.cli:crash failed: ValueError: something broke\n",
        ),
        (
            ["probe_commands.cli:missing", "--"],
            1,
            "",
            "error: probe_commands.cli has no missing, which the manifest names\n",
        ),
        (["probe_commands.cli:interrupted", "--"], 130, "", "interrupted\n"),
    ],
)
def test_a_command_line_becomes_an_exit_code(
    *, here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, out: str, err: str
) -> None:
    assert main(["--path", str(here), "--prog", "innkeeper probe", *words]) == code
    assert capsys.readouterr() == (out, err)
    assert sys.argv[0] == "innkeeper probe"
    assert sys.path[-1] == str(here)


def test_a_traceback_goes_before_the_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNKEEPER_DEBUG", "1")
    assert main(["--path", str(here), "probe_commands.cli:wrong", "--"]) == ExitCode.PROBLEMS
    assert capsys.readouterr().err.startswith("Traceback")


@pytest.mark.parametrize("words", [[], ["--path"], ["os", "--"], ["a:b"], ["--parent", "0", "a:b", "--"]])
def test_words_that_are_no_command_line_are_a_usage_error(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(words) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("error: ")


def test_the_function_gets_the_arguments_as_they_are(location: Path) -> None:
    done = run(location, "echo", "--help", "-x", "--", "a b", "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "['--help', '-x', '--', 'a b', '']\n", "")


@pytest.mark.parametrize("code", [0, 1, 3, 99])
def test_what_it_returns_is_the_exit_code(location: Path, code: int) -> None:
    assert run(location, "code", str(code)).returncode == code


def test_a_function_in_a_class_can_be_named(location: Path) -> None:
    assert run(location, "Tool.main").stdout == "tool\n"


def test_an_error_of_ours_is_one_sentence_and_its_exit_code(location: Path) -> None:
    done = run(location, "refuse")
    assert done.returncode == ExitCode.CONFIG
    assert done.stderr == "error: it is not valid (expected this, found that); mend it\n"
    assert run(location, "unverified").returncode == ExitCode.VERIFICATION


def test_any_other_exception_is_one_line_and_1(location: Path) -> None:
    done = run(location, "crash")
    assert done.returncode == ExitCode.PROBLEMS
    assert done.stderr == "error: probe_commands.cli:crash failed: ValueError: something broke\n"


@pytest.mark.parametrize("function", ["crash", "refuse"])
def test_a_traceback_is_shown_on_demand(location: Path, function: str) -> None:
    done = run(location, function, INNKEEPER_DEBUG="1")
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_what_it_exits_with_by_itself_stays(location: Path) -> None:
    assert run(location, "leave").returncode == 7
    done = run(location, "complain")
    assert (done.returncode, done.stderr) == (1, "the last word\n")


def test_argparse_keeps_its_exit_codes_and_names_the_command(location: Path) -> None:
    assert run(location, "parse", "--help", prog="innkeeper probe").stdout.startswith("usage: innkeeper probe ")
    assert run(location, "parse", "--nonsense").returncode == ExitCode.USAGE


def test_an_interrupt_is_130(location: Path) -> None:
    done = run(location, "interrupted")
    assert (done.returncode, done.stderr) == (ExitCode.INTERRUPTED, "interrupted\n")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("probe_commands.cli:missing", "probe_commands.cli has no missing, which the manifest names"),
        ("probe_commands.cli:VALUE", "is no function (found int)"),
        ("probe_commands.cli:wrong", "returned no exit code (expected a number, found str)"),
        ("probe_commands.missing:main", "ModuleNotFoundError: No module named 'probe_commands.missing'"),
        ("probe_commands.broken:main", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    ],
)
def test_a_function_that_is_not_there_is_said(location: Path, function: str, said: str) -> None:
    done = run(location, function)
    assert done.returncode == ExitCode.PROBLEMS
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a:b"],
        ["a:b", "x"],
        ["--path"],
        ["--prog"],
        ["--parent"],
        *(["--parent", text, "a:b", "--"] for text in ("", "0", "-1", "x", "1.5")),
        ["--other", "a:b", "--"],
        ["os;system", "--"],
        ["a", "--"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(words: list[str]) -> None:
    command = [sys.executable, "-I", "-m", "innkeeper_sdk.command", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("error: ")


def test_nothing_of_the_working_directory_or_of_pythonpath_is_found(location: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "probe_commands").mkdir()
    command = command_line("probe_commands.cli:where", [], locations=[str(location)])
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=env, timeout=60)
    assert str(tmp_path) not in done.stdout
    assert done.stdout.split()[-2:] == ["1", "False"]


def test_a_location_cannot_stand_in_for_what_is_installed(location: Path, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    (shadow / "innkeeper_sdk").mkdir(parents=True)
    (shadow / "innkeeper_sdk" / "__init__.py").write_text("raise SystemExit('shadowed')")
    (shadow / "json.py").write_text("raise SystemExit('shadowed')")
    command = command_line("probe_commands.cli:echo", ["x"], locations=[str(shadow), str(location)])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "['x']\n")


def test_a_reader_that_goes_away_is_no_traceback(location: Path) -> None:
    command = command_line("probe_commands.cli:flood", [], locations=[str(location)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(timeout=60) == 128 + signal.SIGPIPE


def test_a_signal_ends_it_as_a_signal_does(location: Path) -> None:
    (location / "probe_commands" / "wait.py").write_text(
        "import signal\ndef main(arguments):\n    print('up', flush=True)\n    signal.pause()\n"
    )
    command = command_line("probe_commands.wait:main", [], locations=[str(location)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == -signal.SIGTERM


def waiting(location: Path) -> str:
    """Return the function of a command that says its id, waits, and says that it was told to stop."""
    (location / "probe_commands" / "linger.py").write_text(
        "import os, signal, sys\n"
        "def main(arguments):\n"
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit('told to stop'))\n"
        "    print(os.getpid(), flush=True)\n"
        "    signal.pause()\n"
    )
    return "probe_commands.linger:main"


@pytest.mark.parametrize("bound", [True, False])
def test_a_command_ends_with_its_parent_if_it_was_told_of_one(location: Path, *, bound: bool) -> None:
    # In between is a parent that can be killed.
    program = (
        "import os, subprocess\n"
        "from innkeeper_sdk.command import command_line\n"
        f"parent = os.getpid() if {bound} else None\n"
        f"subprocess.run(command_line({waiting(location)!r}, [], locations=[{str(location)!r}], parent=parent))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            parent.wait(60)
            if bound:
                assert select.select([child], [], [], 60)[0], "it lives on"
                assert parent.stderr.read() == b"told to stop\n"
            else:
                # The signal would have been there before the end of the parent could be noticed.
                assert not select.select([child], [], [], 0)[0]
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
            os.close(child)


def test_a_command_whose_parent_has_ended_already_runs_nothing(location: Path) -> None:
    other = os.getppid()
    command = command_line("probe_commands.cli:echo", ["x"], locations=[str(location)], parent=other)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


def test_a_command_that_ends_before_its_parent_notices_nothing(location: Path) -> None:
    command = command_line("probe_commands.cli:echo", ["x"], locations=[str(location)], parent=os.getpid())
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "['x']\n", "")
