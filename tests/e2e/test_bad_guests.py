"""What a bad guest does to a host: one clear error, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

IMPORTS = """
(import "env" "version_v2_test" (func))
(import "env" "send_response" (func $send (param i32 i32) (result i32)))
(import "env" "switch_modes" (func $mode (param i32)))
(import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
(memory (export "memory") 1)
"""

# A subscription to a schedule of every second: an ExecutionResult, as the reference's vector spells it.
SUBSCRIPTION = bytes.fromhex(
    "1a6d0a6b0a1263726f6e2d7472696767657240312e302e30124c"
    "0a39747970652e676f6f676c65617069732e636f6d2f6361706162696c69746965732e7363686564756c65722e63726f6e2e76312e436f6e666967"
    "120f0a0d30202a2f35202a202a202a202a1a0754726967676572"
)


def wat(on_trigger: str, *, start: str = "") -> str:
    """Return a guest that subscribes to cron and, when triggered, does ``on_trigger``.

    A subscribe request is shorter than a trigger's: its arguments tell the two apart.
    """
    data = "".join(f"\\{byte:02x}" for byte in SUBSCRIPTION)
    return f"""(module {IMPORTS}
      (data (i32.const 1024) "{data}")
      (func $subscribe
        (drop (call $send (i32.const 1024) (i32.const {len(SUBSCRIPTION)}))) (call $exit (i32.const 0)))
      (func (export "_start") {start}
        (drop (call $args_sizes (i32.const 0) (i32.const 4)))
        (if (i32.lt_u (i32.load (i32.const 4)) (i32.const 40)) (then (call $subscribe)))
        {on_trigger}))"""


@pytest.fixture
def write(tmp_path: Path):
    """Return what writes a guest to a file."""

    def _write(text: str) -> Path:
        path = tmp_path / "guest.wat"
        path.write_text(text)
        return path

    return _write


def error_of(cli, path: Path, settings: str | None = None, tmp_path: Path | None = None) -> str:
    """Run a guest once and return its error."""
    extra: list[str] = []
    if settings is not None:
        assert tmp_path is not None
        (tmp_path / "innkeeper.yaml").write_text(settings)
        extra = ["--settings", str(tmp_path / "innkeeper.yaml")]
    done = cli(*extra, "workflow", "run", path, "-o", "json", check=1)
    return json.loads(done.stdout)["result"]["error"] if done.stdout else done.stderr


def test_a_guest_that_traps(cli, write) -> None:
    assert "unreachable" in error_of(cli, write(wat("unreachable")))


def test_a_guest_that_exits_without_a_response(cli, write) -> None:
    assert "could not find response for execution" in error_of(cli, write(wat("(call $exit (i32.const 0))")))


def test_a_guest_that_exits_with_a_code(cli, write) -> None:
    assert "exit status 3" in error_of(cli, write(wat("(call $exit (i32.const 3))")))


def test_a_guest_that_loops_for_ever(cli, write, tmp_path: Path) -> None:
    settings = "limits:\n  global:\n    PerWorkflow.ExecutionTimeout: 1s\n"
    assert "not over after 1 s" in error_of(cli, write(wat("(loop $l (br $l))")), settings, tmp_path)


def test_a_guest_that_loops_before_its_first_host_call(cli, write, tmp_path: Path) -> None:
    settings = "limits:\n  global:\n    PerWorkflow.WASMPrefixTimeout: 1s\n"
    error = error_of(cli, write(wat("", start="(loop $l (br $l))")), settings, tmp_path)
    assert "first host call" in error


def test_a_guest_that_wants_too_much_memory(cli, write) -> None:
    text = wat("unreachable").replace('"memory") 1)', '"memory") 30000)')
    assert "memory" in error_of(cli, write(text))


def test_a_guest_that_compiles_for_ever(cli, write, tmp_path: Path) -> None:
    settings = "limits:\n  global:\n    PerWorkflow.WASMCompileTimeout: 1ms\n"
    error = error_of(cli, write(wat("unreachable")), settings, tmp_path)
    assert "compil" in error


def test_a_legacy_binary(cli, write) -> None:
    path = write('(module (memory (export "memory") 1) (func (export "_start")))')
    assert "legacy dag" in error_of(cli, path)


def test_a_file_that_is_no_binary(cli, tmp_path: Path) -> None:
    path = tmp_path / "guest.wasm"
    path.write_bytes(b"not a binary")
    assert "decompress" in error_of(cli, path)


@pytest.mark.parametrize("attributes", ["{", "[]", "null", '{"a": 1, "a": 2}', '{"Confidential": true}', "{} x"])
def test_malformed_attributes_are_an_error_and_never_plain(cli, write, attributes: str) -> None:
    done = cli("workflow", "run", write(wat("unreachable")), "--attributes", attributes, "-o", "json", check=None)
    assert done.returncode in (1, 2)
    assert "attribute" in done.stdout + done.stderr
    assert "unreachable" not in done.stdout + done.stderr


def test_the_host_goes_on(host, write) -> None:
    """A failing workflow is deployed twice; the host stays ready, and the engine never was in its process."""
    host.start()
    path = write(wat("unreachable"))
    deployed = host.cli.json("workflow", "deploy", path, "--name", "bad")
    assert deployed["triggers"][0]["id"] == "cron-trigger@1.0.0"
    assert host.cli.json("status")["ready"]
    assert host.process is not None
    maps = Path(f"/proc/{host.process.pid}/maps").read_text()
    assert "wasmtime" not in maps
    assert "brotli" not in maps
    assert host.stop() == 0


@pytest.mark.parametrize("option", ["--attributes", "--payload"])
@pytest.mark.parametrize("given", ["", " ", "@/dev/null"])
def test_an_option_that_is_empty_is_not_taken_for_one_that_was_left_out(cli, write, option: str, given: str) -> None:
    done = cli("workflow", "run", write(wat("unreachable")), option, given, check=2)
    assert f"{option}: it is empty" in done.stderr


def test_a_deployment_that_cannot_run_is_a_problem(host, write, tmp_path: Path) -> None:
    host.start()
    path = write('(module (memory (export "memory") 1) (func (export "_start")))')
    done = host.cli("workflow", "deploy", path, "--name", "old", "-o", "json", check=1)
    assert json.loads(done.stdout)["state"] == "failed"
    assert "legacy dag" in json.loads(done.stdout)["reason"]
    assert host.cli("workflow", "activate", "old", check=1).returncode == 1
    assert host.stop() == 0
