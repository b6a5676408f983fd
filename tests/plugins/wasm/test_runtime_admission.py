"""Admitting binaries: sizes, brotli, and what imports and exports say."""

from __future__ import annotations

import contextlib
import json

import brotli
import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_wasm.runtime.admission import decompress, inspect
from innkeeper_wasm.runtime.facts import BinaryFacts, ModuleShape
from innkeeper_wasm.runtime.limits import CompileLimits
from innkeeper_wasm.runtime.refusals import BinaryKind, Refusal, stored

LIMITS = CompileLimits(compressed_bytes=200, binary_bytes=1000)


def facts(text: str) -> ModuleShape:
    module = wasmtime.Module(wasmtime.Engine(), text)
    return inspect(module)


@pytest.mark.parametrize(
    ("data", "text", "kind"),
    [
        (b"\0asm\1\0\0\0", False, BinaryKind.WASM),
        (b"(module)", False, BinaryKind.BROTLI),
        (b"(module)", True, BinaryKind.WAT),
        (b"\0asm", True, BinaryKind.WAT),
        (b"", False, BinaryKind.BROTLI),
    ],
)
def test_text_is_only_what_is_said_to_be_text(data: bytes, text: bool, kind: BinaryKind) -> None:
    assert stored(data, text=text) is kind


@given(st.binary(max_size=1000).filter(lambda data: len(brotli.compress(data)) <= 200))
def test_what_was_compressed_comes_out_again(data: bytes) -> None:
    assert decompress(brotli.compress(data), BinaryKind.BROTLI, LIMITS) == data


def test_sizes_equal_to_their_limits_are_allowed() -> None:
    compressed = brotli.compress(bytes(1000))
    limits = CompileLimits(compressed_bytes=len(compressed), binary_bytes=1000)
    assert decompress(compressed, BinaryKind.BROTLI, limits) == bytes(1000)
    assert decompress(bytes(1000), BinaryKind.WASM, limits) == bytes(1000)


def test_a_compressed_binary_that_is_too_large_is_not_decompressed() -> None:
    with pytest.raises(Refusal) as caught:
        decompress(b"x" * 201, BinaryKind.BROTLI, LIMITS)
    assert caught.value.code == "wasm-compressed-too-large"
    assert caught.value.text == (
        "compressed binary size exceeds the maximum allowed size: limited: cannot use 201, limit is 200"
    )


@pytest.mark.parametrize("kind", [BinaryKind.WASM, BinaryKind.WAT])
def test_the_compressed_limit_is_not_for_what_is_not_compressed(kind: BinaryKind) -> None:
    assert decompress(b"x" * 201, kind, LIMITS) == b"x" * 201


@pytest.mark.parametrize("kind", [BinaryKind.WASM, BinaryKind.WAT, BinaryKind.BROTLI])
def test_a_binary_that_is_too_large_is_refused(kind: BinaryKind) -> None:
    data = bytes(1001)
    with pytest.raises(Refusal) as caught:
        decompress(brotli.compress(data) if kind is BinaryKind.BROTLI else data, kind, LIMITS)
    assert caught.value.code == "wasm-binary-too-large"
    assert caught.value.text == (
        "decompressed binary size reached the maximum allowed size: limited: cannot use 1001, limit is 1000"
    )


def test_a_bomb_is_cut_one_byte_behind_the_limit() -> None:
    bomb = brotli.compress(bytes(10_000_000), quality=5)
    assert len(bomb) < 200
    with pytest.raises(Refusal, match="cannot use 1001, limit is 1000"):
        decompress(bomb, BinaryKind.BROTLI, LIMITS)


@pytest.mark.parametrize("data", [b"", b"not brotli at all", brotli.compress(bytes(range(200)))[:-9]])
def test_what_is_not_whole_brotli_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal, match="failed to decompress binary: ") as caught:
        decompress(data, BinaryKind.BROTLI, LIMITS)
    assert caught.value.code == "wasm-not-brotli"


@given(st.binary(max_size=200))
def test_any_bytes_are_decompressed_within_the_limit_or_refused(data: bytes) -> None:
    found = None
    with contextlib.suppress(Refusal):
        found = decompress(data, BinaryKind.BROTLI, LIMITS)
    assert found is None or len(found) <= 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(module)", 'module does not export "memory"'),
        ('(module (memory 1) (export "mem" (memory 0)))', 'module does not export "memory"'),
        ('(module (global (export "memory") i32 (i32.const 0)))', 'module export "memory" is not a memory'),
        ('(module (func (export "memory")))', 'module export "memory" is not a memory'),
    ],
)
def test_a_module_must_export_its_memory(text: str, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        facts(text)
    assert caught.value.text == message
    assert caught.value.code == "wasm-no-memory"


@pytest.mark.parametrize("name", ["version_v2", "version_v2_go", "version_v2_typescript"])
def test_an_import_that_begins_with_the_marker_makes_a_v2_binary(name: str) -> None:
    assert facts(f'(module (import "env" "{name}" (func)) (memory (export "memory") 1))').version_import == name


@pytest.mark.parametrize(("module", "name"), [("env", "version_v1"), ("other", "version_v2"), ("env", "Version_v2")])
def test_without_the_marker_a_binary_is_a_legacy_dag(module: str, name: str) -> None:
    assert facts(f'(module (import "{module}" "{name}" (func)) (memory (export "memory") 1))').version_import == ""


def test_of_two_markers_the_last_one_counts_and_the_other_is_unknown() -> None:
    found = facts(
        '(module (import "env" "version_v2_b" (func)) (import "env" "version_v2_a" (func))'
        ' (memory (export "memory") 1))'
    )
    assert found.version_import == "version_v2_a"
    assert found.unknown_imports == ("env::version_v2_b",)


def test_a_marker_whose_name_is_too_long_is_refused() -> None:
    name = "version_v2" + "x" * 190
    assert facts(f'(module (import "env" "{name}" (func)) {MEMORY})').version_import == name
    with pytest.raises(Refusal, match="the version import has 201 characters, at most 200 fit"):
        facts(f'(module (import "env" "{name}x" (func)) {MEMORY})')


@pytest.mark.parametrize("count", [0, 2, 4, 5])
def test_the_parameters_of_call_capability_are_counted(count: int) -> None:
    parameters = " ".join(["i32"] * count)
    text = f'(module (import "env" "call_capability" (func (param {parameters}) (result i64))) {MEMORY})'
    assert facts(text).call_capability_parameters == count


MEMORY = '(memory (export "memory") 1)'


def test_unknown_imports_are_listed_and_known_ones_are_not() -> None:
    found = facts(
        '(module (import "env" "version_v2" (func)) (import "env" "fetch" (func)) (import "env" "log" (func))'
        f' (import "wasi_snapshot_preview1" "fd_write" (func)) (import "wasi_unstable" "fd_write" (func)) {MEMORY})'
    )
    assert found.unknown_imports == ("env::fetch", "wasi_unstable::fd_write")


def test_the_list_of_unknown_imports_is_bounded() -> None:
    imports = " ".join(f'(import "env" "{"x" * 300}{number}" (func))' for number in range(50))
    found = facts(f"(module {imports} {MEMORY})")
    assert len(found.unknown_imports) == 1  # All are the same when cut.
    imports = " ".join(f'(import "env" "x{number}" (func))' for number in range(50))
    assert len(facts(f"(module {imports} {MEMORY})").unknown_imports) == 16


@pytest.mark.parametrize(
    ("export", "found"), [('(func (export "_start"))', True), ('(global (export "_start") i32 (i32.const 0))', False)]
)
def test_a_start_function_is_seen(export: str, found: bool) -> None:
    assert facts(f"(module {MEMORY} {export})").has_start is found


GOOD = BinaryFacts(
    version_import="version_v2",
    call_capability_parameters=2,
    unknown_imports=("env::x",),
    has_start=True,
    kind=BinaryKind.BROTLI,
    stored_bytes=1,
    binary_bytes=2,
    compiled_bytes=3,
    compiled_sha256="0" * 64,
)


def test_facts_survive_json() -> None:
    assert BinaryFacts.from_json(json.loads(json.dumps(GOOD.to_json()))) == GOOD


@pytest.mark.parametrize(
    "change",
    [
        {"version_import": None},
        {"call_capability_parameters": -1},
        {"unknown_imports": [1]},
        {"unknown_imports": ["x"] * 17},
        {"unknown_imports": None},
        {"has_start": 1},
        {"kind": "elf"},
        {"stored_bytes": "1"},
        {"compiled_sha256": "../../etc/passwd"},
        {"compiled_sha256": "0" * 65},
        {"more": 1},
    ],
)
def test_facts_with_a_wrong_value_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        BinaryFacts.from_json(GOOD.to_json() | change)


@pytest.mark.parametrize("data", [None, [], {}, "x"])
def test_what_is_no_object_of_facts_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="need exactly"):
        BinaryFacts.from_json(data)
