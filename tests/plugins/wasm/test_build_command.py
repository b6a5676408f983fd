"""The command, from its arguments to its last line, on a machine whose Node.js, npm and bun are small scripts of ours.

What they do depends on the sources that they are given, so that each fault has its place and its time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import wasmtime
from attrs import frozen

from innkeeper_wasm.build.command import main

PLUGIN = """
(module
  (memory (export "memory") 4)
  (global $top (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $top) (global.set $top (i32.add (global.get $top) (local.get 3))))
  (func (export "compile-src") (param i32 i32) (result i32)
    (i32.store (i32.const 4) (local.get 0)) (i32.store (i32.const 8) (local.get 1)) (i32.const 0))
  (func (export "invoke") (param i32 i32 i32 i32 i32)))
"""

NODE = """
import os, shutil, sys
if sys.argv[1] == "--version":
    print("v22.1.0")
elif sys.argv[1] == "install.js":
    if "no-bun" in open("package.json").read():
        sys.exit("bun: unsupported machine")
    os.mkdir("bin")
    shutil.copy(os.path.join(os.path.dirname(sys.argv[0]), "bun"), "bin/bun.exe")
"""

NPM = """
import json, os, sys, time
here = os.path.dirname(sys.argv[0])
with open(os.path.join(here, "npm.log"), "a") as log:
    log.write(json.dumps({"argv": sys.argv[1:], "settings": os.path.exists(".npmrc"),
                          "lock": os.path.exists("package-lock.json")}) + "\\n")
package = json.load(open("package.json"))
dependencies = {**package.get("dependencies", {}), **package["devDependencies"]}
fault = dependencies.get("fault", "")
if fault.startswith("E"):
    print("npm warn something else")
    print("npm error code", fault)
    print("npm error request to the registry failed")
    print("npm error     at stack (frame.js:1:2)")
    print("npm error A complete log of this run can be found in: nowhere")
    sys.exit(1)
if fault == "hang":
    pipe = open(os.environ["TEST_PIPE"], "w")
    print("started", file=pipe, flush=True)
    time.sleep(600)
def put(name, text):
    path = os.path.join("node_modules", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write(text)
version = dependencies["@chainlink/cre-sdk"]
put("@chainlink/cre-sdk/package.json", json.dumps({"version": version}))
if fault != "old":
    put("@chainlink/cre-sdk/bin/cre-compile.ts", "")
put("@chainlink/cre-sdk-javy-plugin/package.json", json.dumps({"version": "1.7.0"}))
linker = "LATEST" if fault == "unknown linker" else "'v8.1.0'"
put("@chainlink/cre-sdk-javy-plugin/scripts/shared.ts", "export const JAVY_VERSION = " + linker)
put("@chainlink/cre-sdk-javy-plugin/dist/workflow.wit", "world workflow { export main: func(); }")
open("node_modules/@chainlink/cre-sdk-javy-plugin/dist/plugin.wasm", "wb").write(bytes.fromhex("PLUGIN"))
put("typescript/package.json", json.dumps({"version": dependencies["typescript"]}))
put("bun/package.json", json.dumps({"version": dependencies["bun"], "fault": fault}))
put("bun/install.js", "")
os.mkdir("node_modules/.bin")
os.symlink("../bun/bin/bun.exe", "node_modules/.bin/bun")
"""

BUN = """
import json, os, subprocess, sys, time
if sys.argv[1] == "--version":
    print("1.4.5")
    sys.exit()
assert sys.argv[1:3] == ["x", "cre-compile"], sys.argv
entry, output = sys.argv[3:5]
source = open(entry).read()
here = os.getcwd()
wrapper = os.path.join(os.path.dirname(os.path.abspath(entry)), ".workflow-temp-1795509072147-q5fjkb.ts")
open(wrapper, "w").write(source)
if "bad type" in source and "--skip-type-checks" not in sys.argv:
    print("\\n❌ TypeScript typecheck failed before workflow compilation.\\nUsing tsconfig: tsconfig.json\\n"
          "Fix TypeScript errors, or re-run compile with --skip-type-checks.\\n\\nmain.ts:3:7 Type 'string' is wrong.")
    sys.exit(1)
if "fetch" in source:
    print("❌ Unsupported API usage found in workflow source.\\nUse others.\\n")
    print("- main.ts:1:1 'fetch' is not available.")
    sys.exit(1)
if "Date" in source:
    print("⚠️  Non-determinism warnings (compilation will continue):\\nSee\\n\\n- main.ts:9:1 Date.now() varies.\\n")
print("📁 Using input file:", here + "/main.ts")
beside = os.path.isdir("../contracts") and os.path.isdir("../node_modules/typescript")
if "cannot resolve" in source or ("../contracts" in source and not beside):
    print('error: Could not resolve: "./nope"\\n    at ' + wrapper + ":1:8")
    sys.exit(1)
if "hang" in source:
    if "TEST_PIPE" in source:
        pipe = open(source.split()[1], "w")
        print("started", file=pipe, flush=True)
    time.sleep(600)
script = output[: -len("wasm")] + "js"
modules = "node_modules" if os.path.isdir("node_modules") else "../node_modules"
# As the real bundler does: where the modules are from here, in a comment.
text = "// " + os.path.relpath(os.path.realpath(modules), here) + "\\n"
text += source + (" // in " + here if "__dirname" in source else "")
text += "\\n// " + json.dumps(sorted(os.listdir("."))) + "\\n"
if "no main" not in source:
    text += "export {\\n  main\\n};\\n"
open(script, "w").write(text)
plugin = os.path.dirname(os.path.realpath(modules + "/@chainlink/cre-sdk-javy-plugin/dist/plugin.wasm"))
javy = os.path.expanduser("~/.cache/javy/v8.1.0/linux-x64/javy")
sys.exit(subprocess.call([javy, "build", "-C", f"wit={plugin}/workflow.wit", "-C", "wit-world=workflow",
                          "-C", f"plugin={plugin}/plugin.wasm", "-C", "deterministic=y", script, "-o", output]))
"""

DEPENDENCIES = {"@chainlink/cre-sdk": "1.21.1"}
TOOLS = {"bun": "1.4.5", "typescript": "5.9.3"}


@frozen
class Machine:
    """A machine of ours: its programs, a workflow, a place for the build, and the environment that they need."""

    programs: Path
    workflow: Path
    build: Path
    environment: dict[str, str]

    def source(self, text: str, **dependencies: str) -> None:
        (self.workflow / "main.ts").write_text(text)
        package = {"dependencies": {**DEPENDENCIES, **dependencies}, "devDependencies": TOOLS}
        (self.workflow / "package.json").write_text(json.dumps(package))
        lock = {"lockfileVersion": 3, "packages": {"": package}}
        (self.workflow / "package-lock.json").write_text(json.dumps(lock))

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        code = "import sys; from innkeeper_wasm.build.command import main; raise SystemExit(main(sys.argv[1:]))"
        return subprocess.Popen(
            [sys.executable, "-I", "-c", code, *map(str, arguments)],
            cwd=self.build.parent,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def npm_calls(self) -> list[dict[str, object]]:
        log = self.programs / "npm.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    programs = tmp_path / "programs"
    programs.mkdir()
    plugin = bytes(wasmtime.wat2wasm(PLUGIN)).hex()
    for name, text in {"node": NODE, "npm": NPM.replace("PLUGIN", plugin), "bun": BUN}.items():
        (programs / name).write_text(f"#!{sys.executable} -I\n{textwrap.dedent(text)}")
        (programs / name).chmod(0o755)
    (tmp_path / "tmp").mkdir()
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.defpath}",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "INNKEEPER_BUILD_DIR": str(tmp_path / "here" / "build"),
    }
    for name in [name for name in os.environ if name.lower().startswith("npm_config_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made = Machine(programs, tmp_path / "flow", tmp_path / "here" / "build", environment)
    made.workflow.mkdir()
    (made.workflow / "tsconfig.json").write_text("{}")
    made.source("export async function main() {}\n")
    return made


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_a_build_prints_the_binary_s_path_size_and_digest(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(machine.workflow), "-o", "out/flow.wasm"]) == 0
    content = Path("out/flow.wasm").read_bytes()
    out, err = capsys.readouterr()
    assert out == f"out/flow.wasm  {len(content)}  sha256:{hashlib.sha256(content).hexdigest()}\n"
    assert [line.split()[0] for line in err.splitlines()] == [
        "project", "node", "packages", "packages", "bundle", "link", "output",
    ]  # fmt: skip
    assert "Business Source License" in err
    module = wasmtime.Module(wasmtime.Engine(), content)
    assert {export.name for export in module.exports} == {"memory", "cabi_realloc", "_start", "main"}


def test_the_default_output_is_named_after_the_directory(machine: Machine) -> None:
    assert main([str(machine.workflow)]) == 0
    assert Path("flow.wasm").is_file()


def test_a_directory_given_as_a_dot_has_its_name(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(machine.workflow)
    assert main(["."]) == 0
    assert (machine.workflow / "flow.wasm").is_file()


def test_nothing_is_written_to_the_workflow_the_home_or_the_temporary_directory(
    machine: Machine, tmp_path: Path
) -> None:
    before = files(machine.workflow)
    assert main([str(machine.workflow)]) == 0
    assert files(machine.workflow) == before
    assert not (tmp_path / "home").exists()
    assert files(tmp_path / "tmp") == set()
    assert files(machine.build / "stage") == {"package.json", "tsconfig.json"}
    assert set(os.listdir()) == {"build", "flow.wasm"}
    assert (machine.build / ".gitignore").read_text() == "*\n"


def test_the_second_build_with_the_same_packages_asks_no_registry(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(machine.workflow)]) == 0
    other = tmp_path / "other"
    other.mkdir()
    for name in ("package.json", "package-lock.json", "tsconfig.json"):
        (other / name).write_bytes((machine.workflow / name).read_bytes())
    (other / "main.ts").write_text("export async function main() { return 2 }\n")
    capsys.readouterr()
    assert main([str(other)]) == 0
    assert len(machine.npm_calls()) == 1
    assert "installed before" in capsys.readouterr().err


def test_a_damaged_installation_is_made_again(machine: Machine) -> None:
    assert main([str(machine.workflow)]) == 0
    (program,) = machine.build.glob("packages/*/node_modules/bun/bin/bun.exe")
    program.unlink()
    assert main([str(machine.workflow)]) == 0
    assert len(machine.npm_calls()) == 2


def test_a_lock_that_covers_the_packages_is_taken_at_its_word(machine: Machine) -> None:
    assert main([str(machine.workflow)]) == 0
    (call,) = machine.npm_calls()
    assert call["lock"]
    arguments = call["argv"]
    assert isinstance(arguments, list)
    assert arguments[0] == "ci"
    assert "--ignore-scripts" in arguments
    assert f"--cache={machine.build}/npm" in arguments


def test_without_a_lock_versions_are_chosen_and_that_is_said(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    (machine.workflow / "package-lock.json").unlink()
    (machine.workflow / "bun.lock").touch()
    (machine.workflow / "package.json").write_text(json.dumps({"dependencies": DEPENDENCIES, "main": "dist/main.js"}))
    assert main([str(machine.workflow)]) == 0
    (call,) = machine.npm_calls()
    assert isinstance(call["argv"], list)
    assert (call["argv"][0], call["lock"]) == ("install", False)
    err = capsys.readouterr().err
    assert "bun.lock is not read" in err
    assert "bun 1.4.5, typescript 5.9.3" in err
    assert "dist/main.js" in err


def test_the_project_s_npm_settings_are_used_and_not_kept(machine: Machine) -> None:
    (machine.workflow / ".npmrc").write_text("//registry.example/:_authToken=hunter2\n")
    assert main([str(machine.workflow)]) == 0
    assert [call["settings"] for call in machine.npm_calls()] == [True]
    assert not [path for path in machine.build.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_a_cache_that_the_user_set_is_used(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_CACHE", "/somewhere")
    assert main([str(machine.workflow)]) == 0
    (call,) = machine.npm_calls()
    assert isinstance(call["argv"], list)
    assert not any(argument.startswith("--cache") for argument in call["argv"])


def test_the_same_sources_give_the_same_bytes_wherever_they_are(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(machine.workflow)]) == 0
    elsewhere = tmp_path / "elsewhere" / "deeper" / "flow"
    elsewhere.parent.mkdir(parents=True)
    machine.workflow.rename(elsewhere)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main([str(elsewhere), "-o", "again.wasm", "--build-dir", "other-build"]) == 0
    assert Path("again.wasm").read_bytes() == Path("flow.wasm").read_bytes()


def test_a_bundle_that_holds_paths_of_this_machine_is_remarked(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.source("__dirname; export async function main() {}\n")
    assert main([str(machine.workflow)]) == 0
    assert "not reproducible" in capsys.readouterr().err


def test_what_a_workflow_imports_from_its_project_is_there(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "project.yaml").touch()
    (tmp_path / "contracts").mkdir()
    machine.source("import '../contracts'; export async function main() {}\n")
    assert main([str(machine.workflow), "--root", str(machine.workflow)]) == 1
    assert main([str(machine.workflow)]) == 0


def test_remarks_on_determinism_are_passed_on(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.source("Date.now(); export async function main() {}\n")
    assert main([str(machine.workflow)]) == 0
    assert "warning     main.ts:9:1 Date.now() varies.\n" in capsys.readouterr().err


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err[err.index("innkeeper workflow build: ") :]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (
            "bad type",
            [
                "type-check: the workflow has type errors",
                "→ correct them (--skip-type-checks builds without this check)",
                "| Using tsconfig: tsconfig.json",
                "| main.ts:3:7 Type 'string' is wrong.",
            ],
        ),
        (
            "fetch",
            [
                "type-check: the workflow uses what its runtime does not have",
                "→ use the capabilities of the SDK instead",
                "| main.ts:1:1 'fetch' is not available.",
            ],
        ),
        (
            "cannot resolve",
            [
                "bundle: the workflow cannot be bundled (found exit code 1 of the official compiler)",
                "→ see what the bundler said below",
                '| error: Could not resolve: "./nope"',
                "|     at {workflow}/main.ts:1:8",
            ],
        ),
        (
            "no main",
            [
                "link: the workflow does not export main",
                "→ write `export async function main()` in the workflow's entry file",
            ],
        ),
    ],
)
def test_a_fault_of_the_source_names_its_step_and_place(
    machine: Machine, capsys: pytest.CaptureFixture[str], source: str, lines: list[str]
) -> None:
    machine.source(source)
    assert main([str(machine.workflow)]) == 1
    text = complaint(capsys).removeprefix("innkeeper workflow build: ").splitlines()
    assert [line.removeprefix("  ") for line in text] == [line.format(workflow=machine.workflow) for line in lines]
    assert not Path("flow.wasm").exists()


def test_types_are_not_checked_if_that_is_wanted(machine: Machine) -> None:
    machine.source("bad type; export async function main() {}")
    assert main([str(machine.workflow), "--skip-type-checks"]) == 0


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("ENOTFOUND", "packages: the npm registry could not be reached (ENOTFOUND)"),
        ("EAI_AGAIN", "packages: the npm registry could not be reached (EAI_AGAIN)"),
        ("EINTEGRITY", "packages: a package is not the one that package-lock.json pins (EINTEGRITY)"),
        ("EUSAGE", "packages: package.json and package-lock.json do not agree (EUSAGE)"),
        ("E404", "packages: the npm registry does not know a package (E404)"),
        ("EWHATEVER", "packages: npm could not install the packages (EWHATEVER)"),
        ("old", "packages: the installed packages lack what the official compiler needs of @chainlink/cre-sdk"),
        ("unknown linker", "link: {modules}/@chainlink/cre-sdk-javy-plugin/scripts/shared.ts: the SDK does not say"),
        ("no-bun", "packages: bun cannot be run on this machine (expected bun 1.4.5, found exit code 1)"),
    ],
)
def test_a_fault_of_the_packages_names_its_cause(
    machine: Machine, capsys: pytest.CaptureFixture[str], fault: str, problem: str
) -> None:
    machine.source("main", fault=fault)
    assert main([str(machine.workflow)]) == 1
    text = complaint(capsys)
    modules = next(machine.build.glob("packages/*/node_modules"), None)
    assert text.startswith(f"innkeeper workflow build: {problem.format(modules=modules)}")
    if fault.startswith("E"):
        assert "| npm error request to the registry failed" in text
        assert "stack" not in text
        assert "warn" not in text
        assert not [path for path in machine.build.glob("packages/*") if path.is_dir()]
    if fault == "no-bun":
        assert "| bun: unsupported machine" in text


def test_a_machine_without_node_is_told_so_even_if_the_packages_are_there(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main([str(machine.workflow)]) == 0
    capsys.readouterr()
    monkeypatch.setenv("PATH", str(tmp_path / "here"))
    assert main([str(machine.workflow)]) == 1
    assert complaint(capsys).startswith("innkeeper workflow build: node: Node.js was not found")


def test_a_tool_that_hangs_is_ended_at_its_limit(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(machine.workflow)]) == 0
    capsys.readouterr()
    machine.source("hang")
    assert main([str(machine.workflow), "--timeout", "2", "-o", "slow.wasm"]) == 1
    assert "bundle: the official compiler did not end within 2 s" in complaint(capsys)
    assert not Path("slow.wasm").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_build_and_all_that_it_started(
    machine: Machine, tmp_path: Path, number: signal.Signals
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    machine.source("main", fault="hang")
    machine.environment["TEST_PIPE"] = str(pipe)
    with machine.start(machine.workflow, "-o", "flow.wasm") as build:
        descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as started:
            assert select.select([started], [], [], 30)[0], "npm was not started"
            assert started.read(100) == b"started\n"
            build.send_signal(number)
            # The end of the pipe is the end of the last process that holds it.
            assert select.select([started], [], [], 30)[0], "npm was not ended"
            assert started.read(100) == b""
        out, err = build.communicate(timeout=30)
    assert build.returncode == 128 + number
    assert out == ""
    assert f"stopped by signal {number:d}" in err
    assert "Traceback" not in err
    assert not Path("flow.wasm").exists()
    assert not [path for path in machine.build.glob("packages/*") if path.is_dir()]
    assert files(tmp_path / "tmp") == set()


def test_a_signal_while_compiling_leaves_no_copy_of_the_sources(machine: Machine, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    machine.source(f"TEST_PIPE {pipe} hang")
    with machine.start(machine.workflow, "-o", "flow.wasm") as build:
        with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as started:
            assert select.select([started], [], [], 30)[0], "bun was not started"
            assert list(machine.build.glob("stage/*/project/main.ts"))
            build.terminate()
        build.communicate(timeout=30)
    assert build.returncode == 128 + signal.SIGTERM
    assert files(machine.build / "stage") == {"package.json", "tsconfig.json"}


def test_types_are_not_checked_without_settings_of_the_workflow(
    machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (machine.workflow / "tsconfig.json").rename(tmp_path / "tsconfig.json")
    assert main([str(machine.workflow)]) == 1
    assert "type-check: the types cannot be checked (expected a tsconfig.json in" in complaint(capsys)
    assert main([str(machine.workflow), "--skip-type-checks"]) == 0
    assert main([str(machine.workflow), "--root", str(tmp_path)]) == 0


def test_packages_above_the_build_directory_are_named(
    machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "node_modules").mkdir()
    assert main([str(machine.workflow)]) == 0
    assert f"would be taken from {tmp_path}/node_modules\n" in capsys.readouterr().err


def test_two_builds_at_once_install_once(machine: Machine, tmp_path: Path) -> None:
    builds = [machine.start(machine.workflow, "-o", f"{name}.wasm") for name in ("one", "two", "three")]
    results = [build.communicate(timeout=60) for build in builds]
    assert [build.returncode for build in builds] == [0, 0, 0], results
    assert len(machine.npm_calls()) == 1
    assert len({Path(f"{name}.wasm").read_bytes() for name in ("one", "two", "three")}) == 1


def test_a_build_waits_for_another_that_installs_the_same(machine: Machine) -> None:
    assert main([str(machine.workflow)]) == 0
    (installed,) = [path for path in machine.build.glob("packages/*") if path.is_dir()]
    hidden = installed.rename(machine.build / "hidden")
    with installed.with_suffix(".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build = machine.start(machine.workflow, "-o", "again.wasm")
        assert build.stderr is not None
        lines = iter(build.stderr.readline, "")
        assert any("waiting for another build" in line for line in lines)
        hidden.rename(installed)
    out, err = build.communicate(timeout=60)
    assert build.returncode == 0, err
    assert "installed before" in err
    assert out.startswith("again.wasm")
    assert len(machine.npm_calls()) == 1


def test_what_an_interrupted_installation_left_is_cleared_away(machine: Machine) -> None:
    assert main([str(machine.workflow)]) == 0
    (installed,) = [path for path in machine.build.glob("packages/*") if path.is_dir()]
    installed.rename(installed.with_suffix(".partial"))
    assert main([str(machine.workflow)]) == 0
    assert len(machine.npm_calls()) == 2
    assert not installed.with_suffix(".partial").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: DIR"),
        (["flow", "--fast"], "unrecognized arguments: --fast"),
        (["flow", "--timeout", "0"], "0 is no number of seconds"),
        (["flow", "--timeout", "nan"], "nan is no number of seconds"),
        (["flow", "--timeout", "soon"], "invalid"),
    ],
)
def test_wrong_usage_is_two(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: innkeeper workflow build")
    assert says in err


def test_an_output_of_no_known_form_is_wrong_usage(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(machine.workflow), "-o", "flow.exe"]) == 2
    assert "output: " in complaint(capsys)
    assert machine.npm_calls() == []


def test_an_output_that_cannot_be_written_costs_no_build(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(machine.workflow), "-o", "/proc/self/flow.wasm"]) == 1
    assert "output: /proc" in complaint(capsys)
    assert machine.npm_calls() == []


def test_a_build_directory_that_cannot_be_made_is_an_error(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    assert main([str(machine.workflow), "--build-dir", "file/build"]) == 1
    assert "choose another with --build-dir" in complaint(capsys)


def test_a_directory_that_is_no_workflow_is_an_error(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(machine.programs)]) == 1
    assert "is no TypeScript workflow" in complaint(capsys)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_help(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    out, err = capsys.readouterr()
    assert "Business Source License" in out.replace("\n", " ")
    assert err == ""


def test_a_link_fault_in_the_compiler_s_home_is_an_error(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.build.mkdir()
    (machine.build / "home").touch()
    assert main([str(machine.workflow)]) == 1
    assert "link: " in complaint(capsys)
