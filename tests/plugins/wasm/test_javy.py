"""Compiling and linking scripts: with a small plugin of our own, whose compiler returns the script itself."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_wasm.build.errors import LinkError
from innkeeper_wasm.build.javy_cli import main
from innkeeper_wasm.build.javy_compile import compile_script
from innkeeper_wasm.build.javy_link import EntryPoint, link
from innkeeper_wasm.build.report import REPORT_VARIABLE, read_report
from innkeeper_wasm.build.wasm_binary import WasmFormatError

COMPILE = """
  (func (export "compile-src") (param $at i32) (param $size i32) (result i32)
    (i32.store (i32.const 0) (i32.const {refused}))
    (i32.store (i32.const 4) {at})
    (i32.store (i32.const 8) {size})
    (i32.const 0))
"""
TAKES = COMPILE.format(refused=0, at="(local.get $at)", size="(local.get $size)")
REFUSES = COMPILE.format(refused=1, at="(local.get $at)", size="(local.get $size)")
LIES = COMPILE.format(refused=0, at="(i32.const -16)", size="(i32.const 17)")


def plugin(compiler: str = TAKES, *, more: str = "", invoke: str = "i32 i32 i32 i32 i32") -> bytes:
    """Return a plugin with the exports that the SDK's has; ``invoke`` passes its arguments to ``env.record``."""
    arguments = " ".join(f"(local.get {index})" for index in range(5))
    text = f"""
    (module
      (import "env" "record" (func $record (param i32 i32 i32 i32 i32)))
      (import "env" "now" (func $now))
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
      (memory (export "memory") 4)
      (data (i32.const 64) "out of cheese\\n")
      (global $top (mut i32) (i32.const 1024))
      (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (global.get $top)
        (global.set $top (i32.add (global.get $top) (local.get 3))))
      {compiler}
      (func (export "invoke") (param {invoke}) {"(call $record " + arguments + ")" if invoke.count("i32") == 5 else ""})
      (func (export "initialize-runtime"))
      {more}
    )
    """
    return bytes(wasmtime.wat2wasm(text))


def run(binary: bytes, export: str) -> list[tuple[bytes, int, bytes]]:
    """Run an export of a linked binary; return what was given to ``invoke``: bytecode, whether named, name."""
    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, binary)
    store = wasmtime.Store(engine)
    linker = wasmtime.Linker(engine)
    calls: list[tuple[bytes, int, bytes]] = []

    def record(at: int, size: int, named: int, name_at: int, name_size: int) -> None:
        memory = instance.exports(store)["memory"]
        assert isinstance(memory, wasmtime.Memory)
        name = bytes(memory.read(store, name_at, name_at + name_size)) if named else b""
        calls.append((bytes(memory.read(store, at, at + size)), named, name))

    for item in module.imports:
        assert isinstance(item.type, wasmtime.FuncType)
        linker.define_func(
            item.module, item.name or "", item.type, record if item.name == "record" else lambda *_: None
        )
    instance = linker.instantiate(store, module)
    function = instance.exports(store)[export]
    assert isinstance(function, wasmtime.Func)
    function(store)
    return calls


@given(st.binary(max_size=3000), st.lists(st.from_regex(r"[a-z]{1,12}", fullmatch=True), max_size=4, unique=True))
def test_a_linked_binary_runs_its_bytecode(bytecode: bytes, names: list[str]) -> None:
    names = [name for name in names if name not in {"memory", "invoke"}]
    binary = link(plugin(), bytecode, [EntryPoint(f"export-{name}", name) for name in names])
    assert run(binary, "_start") == [(bytecode, 0, b"")]
    for name in names:
        assert run(binary, f"export-{name}") == [(bytecode, 1, name.encode())]


def test_a_linked_binary_offers_no_compiler() -> None:
    module = wasmtime.Module(wasmtime.Engine(), link(plugin(), b"code", [EntryPoint("main", "main")]))
    assert [export.name for export in module.exports] == ["memory", "cabi_realloc", "_start", "main"]


@pytest.mark.parametrize(
    "more",
    [
        "",
        '(data "passive")',
        '(data "passive") (func (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 1)))',
        '(func $s) (table 1 funcref) (elem (i32.const 0) $s) (start $s) (@custom "note" "text")',
    ],
)
def test_linking_keeps_what_the_plugin_has(more: str) -> None:
    assert run(link(plugin(more=more), b"code", []), "_start") == [(b"code", 0, b"")]


def test_linking_twice_gives_the_same_bytes() -> None:
    made = plugin()
    assert link(made, b"code", [EntryPoint("main", "main")]) == link(made, b"code", [EntryPoint("main", "main")])


@pytest.mark.parametrize("name", ["memory", "cabi_realloc", "_start"])
def test_an_entry_point_cannot_take_the_place_of_another_export(name: str) -> None:
    with pytest.raises(WasmFormatError, match=f"two exports would be called {name}"):
        link(plugin(), b"", [EntryPoint(name, "main")])


@pytest.mark.parametrize("name", ["cabi_realloc", "compile-src", "invoke", "memory"])
def test_a_module_that_is_no_plugin_is_not_linked(name: str) -> None:
    missing = plugin().replace(name.encode(), name.upper().encode())
    with pytest.raises(WasmFormatError, match="no Javy plugin"):
        link(missing, b"", [])


@given(st.data())
def test_a_damaged_plugin_is_linked_or_refused_and_nothing_else(draw: st.DataObject) -> None:
    damaged = bytearray(plugin())
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(WasmFormatError):
        # Every other exception fails this test.
        assert link(bytes(damaged), b"code", [EntryPoint("main", "main")]).startswith(b"\0asm")


@given(st.binary(max_size=2000))
def test_a_script_is_compiled_by_the_plugin(script: bytes) -> None:
    assert compile_script(plugin(), script) == script


def test_what_the_compiler_says_of_a_script_is_the_error() -> None:
    with pytest.raises(LinkError, match="QuickJS does not take the bundled script: unexpected token"):
        compile_script(plugin(REFUSES), b"unexpected token")


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (b"not a module", "is not a WebAssembly module"),
        (b"\0asm\x01\0\0\0", "an exported memory"),
        (bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1))')), "expected the function cabi_realloc"),
        (plugin(invoke="i32 i64"), r"speaks another interface .*invoke\(i32, i32, i32, i32, i32\)"),
    ],
)
def test_a_module_that_is_no_plugin_compiles_nothing(made: bytes, problem: str) -> None:
    with pytest.raises(LinkError, match=problem):
        compile_script(made, b"")


def test_a_plugin_that_imports_a_memory_is_refused() -> None:
    text = """(module (import "env" "other" (global i32)) (memory (export "memory") 1)
      (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
      (func (export "compile-src") (param i32 i32) (result i32) i32.const 0)
      (func (export "invoke") (param i32 i32 i32 i32 i32)))"""
    with pytest.raises(LinkError, match=r"imports env\.other, which is not a function"):
        compile_script(bytes(wasmtime.wat2wasm(text)), b"")


def test_an_address_outside_the_memory_is_refused() -> None:
    with pytest.raises(LinkError, match="named memory that it does not have"):
        compile_script(plugin(LIES), b"script")


def compiler(body: str) -> str:
    return f'(func (export "compile-src") (param $at i32) (param $size i32) (result i32) {body})'


def test_a_compiler_that_traps_gives_the_reason_and_what_it_printed() -> None:
    printing = compiler(
        """(i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const 14))
        (drop (call $fd_write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 32)))
        (if (i32.ne (i32.load (i32.const 32)) (i32.const 14)) (then (return (i32.const 0))))
        unreachable"""
    )
    with pytest.raises(LinkError, match="unreachable") as caught:
        compile_script(plugin(printing), b"script")
    assert caught.value.detail == "out of cheese\n"


def test_a_compiler_gets_no_time_from_its_host() -> None:
    with pytest.raises(LinkError, match=r"called env\.now while it compiled"):
        compile_script(plugin(compiler("(call $now) (i32.const 0)")), b"script")


def test_a_compiler_sees_an_empty_environment_and_may_write_nothing_but_errors() -> None:
    curious = compiler(
        """(i32.store (i32.const 40) (i32.const 9)) (i32.store (i32.const 44) (i32.const 9))
        (drop (call $environ (i32.const 40) (i32.const 44)))
        (i32.store8 (local.get $at) (i32.add (i32.load (i32.const 40)) (i32.load (i32.const 44))))
        (i32.store8 offset=1 (local.get $at) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
        (i32.store8 offset=2 (local.get $at) (call $fd_write (i32.const 2) (i32.const 0) (i32.const -1) (i32.const 0)))
        (i32.store (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) (local.get $at))
        (i32.store (i32.const 8) (local.get $size)) (i32.const 0)"""
    )
    assert compile_script(plugin(curious), b"???") == bytes([0, 8, 28])


def test_a_compiler_cannot_take_all_memory() -> None:
    greedy = compiler("(i32.store (i32.const 0) (memory.grow (i32.const 65000))) (i32.const 0)")
    # memory.grow returns -1, which is no success.
    with pytest.raises(LinkError, match="QuickJS does not take"):
        compile_script(plugin(greedy), b"script")


WIT = "world workflow { export main: func(); }"
SCRIPT = "function main() {}\nexport {\n  main\n};\n"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, dict[str, object]]]:
    """Return a function that calls the stand-in as the official compiler does, and returns code and report."""
    report = tmp_path / "report.json"
    monkeypatch.setenv(REPORT_VARIABLE, str(report))

    def call(*more: str, script: str = SCRIPT, made: bytes | None = None) -> tuple[int, dict[str, object]]:
        (tmp_path / "in.js").write_text(script)
        (tmp_path / "workflow.wit").write_text(WIT)
        (tmp_path / "plugin.wasm").write_bytes(made or plugin())
        options = [f"wit={tmp_path}/workflow.wit", "wit-world=workflow", f"plugin={tmp_path}/plugin.wasm"]
        arguments = [part for option in [*options, "deterministic=y", *more] for part in ("-C", option)]
        code = main(["build", *arguments, str(tmp_path / "in.js"), "-o", str(tmp_path / "out.wasm")])
        return code, json.loads(report.read_text())

    return call


def test_the_stand_in_links_and_reports(call: Callable[..., tuple[int, dict[str, object]]], tmp_path: Path) -> None:
    code, report = call()
    binary = (tmp_path / "out.wasm").read_bytes()
    assert (code, report["error"]) == (0, "")
    assert (report["script"], report["bytecode"]) == (len(SCRIPT), len(SCRIPT))
    assert run(binary, "main") == [(SCRIPT.encode(), 1, b"main")]


def test_the_stand_in_reports_a_script_that_exports_no_entry_point(
    call: Callable[..., tuple[int, dict[str, object]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = call(script="main();\n")
    assert code == 1
    assert report["error"] == "the workflow does not export main"
    assert "export async function main()" in str(report["hint"])
    assert "does not export main" in capsys.readouterr().err
    assert not (tmp_path / "out.wasm").exists()


@pytest.mark.parametrize("option", ["dynamic=y", "source=omitted"])
def test_the_stand_in_refuses_options_that_it_does_not_know(
    call: Callable[..., tuple[int, dict[str, object]]], option: str
) -> None:
    code, report = call(option)
    assert code == 1
    assert option.partition("=")[0] in str(report["error"])


def test_the_stand_in_reports_a_file_that_is_not_there(
    call: Callable[..., tuple[int, dict[str, object]]], tmp_path: Path
) -> None:
    code, report = call(f"plugin={tmp_path}/none.wasm")
    assert code == 1
    assert "none.wasm" in str(report["error"])


def test_the_stand_in_never_writes_a_binary_that_is_not_valid(
    call: Callable[..., tuple[int, dict[str, object]]], tmp_path: Path
) -> None:
    code, report = call(made=plugin(more='(func (export "main"))'))
    assert code == 1
    assert "two exports would be called main" in str(report["error"])
    assert not (tmp_path / "out.wasm").exists()


@pytest.mark.parametrize("arguments", [[], ["compile"], ["build", "-C", "novalue", "a", "-o", "b"], ["build", "in.js"]])
def test_the_stand_in_takes_no_other_command_lines(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_the_stand_in_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "innkeeper_wasm.build.javy_cli", "build", "none.js", "-o", "out.wasm"],
        cwd=tmp_path,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no wit" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_report_is_told_from_a_report_that_cannot_be_read(tmp_path: Path) -> None:
    assert read_report(tmp_path / "none.json") is None
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(LinkError, match="report cannot be read"):
        read_report(tmp_path / "report.json")
