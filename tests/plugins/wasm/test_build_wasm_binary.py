"""The reader and writer of modules: numbers, sections, exports, and bytes that are none of these."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_wasm.build.wasm_binary import (
    FUNCTION,
    MEMORY,
    Export,
    Module,
    Reader,
    Section,
    SectionId,
    WasmFormatError,
    append_to_vector,
    encode_exports,
    encode_name,
    encode_s32,
    encode_u32,
    imported_functions,
    parse_exports,
    sized,
    vector_length,
)

WHOLE = """
(module
  (type (func (param i32) (result i32)))
  (import "env" "a" (func (param i32) (result i32)))
  (import "env" "b" (func))
  (table 2 funcref)
  (memory (export "memory") 1)
  (global (mut i32) (i32.const 7))
  (func (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (func $start)
  (start $start)
  (elem (i32.const 0) $start)
  (data (i32.const 0) "hello")
)
"""


def assemble(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def decode_s32(data: bytes) -> int:
    value = sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(data))
    return value - (1 << 7 * len(data)) if data[-1] & 0x40 else value


@given(st.integers(0, 0xFFFF_FFFF))
def test_an_unsigned_number_is_read_as_it_was_written(value: int) -> None:
    encoded = encode_u32(value)
    reader = Reader(encoded, "number")
    assert reader.u32() == value
    assert reader.at_end
    assert len(encoded) == max(1, -(-value.bit_length() // 7))


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_signed_number_has_the_shortest_form_that_means_it(value: int) -> None:
    encoded = encode_s32(value)
    assert decode_s32(encoded) == value
    assert len(encoded) == 1 or not (-(1 << 7 * len(encoded) - 8) <= value < 1 << 7 * len(encoded) - 8)


@given(st.integers(0, 0xFFFF_FFFF), st.integers(0, 4))
def test_a_number_with_needless_zeros_is_read_up_to_five_bytes(value: int, zeros: int) -> None:
    padded = bytearray(encode_u32(value))
    for _ in range(min(zeros, 5 - len(padded))):
        padded[-1] |= 0x80
        padded.append(0)
    assert Reader(bytes(padded), "number").u32() == value


@pytest.mark.parametrize("data", [b"\x80\x80\x80\x80\x10", b"\xff\xff\xff\xff\x8f\x00", b"\x80\x80\x80\x80\x80\x00"])
def test_a_number_longer_than_its_type_is_refused(data: bytes) -> None:
    with pytest.raises(WasmFormatError, match="longer than 32 bits"):
        Reader(data, "number").u32()


@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_a_number_that_does_not_fit_is_not_written_unsigned(value: int) -> None:
    with pytest.raises(WasmFormatError, match="does not fit"):
        encode_u32(value)


@pytest.mark.parametrize("value", [-(1 << 31) - 1, 1 << 31])
def test_a_number_that_does_not_fit_is_not_written_signed(value: int) -> None:
    with pytest.raises(WasmFormatError, match="does not fit"):
        encode_s32(value)


@given(st.text(max_size=40))
def test_a_name_is_read_as_it_was_written(name: str) -> None:
    assert Reader(encode_name(name), "name").name() == name


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(WasmFormatError, match="not UTF-8"):
        Reader(sized(b"\xff"), "name").name()


def test_a_read_past_the_end_names_the_place() -> None:
    reader = Reader(b"abc", "thing")
    reader.take(2)
    with pytest.raises(WasmFormatError, match="thing, offset 2: 5 bytes expected, 1 left"):
        reader.take(5)


def test_a_module_written_again_has_the_same_bytes() -> None:
    data = assemble(WHOLE)
    assert Module.parse(data).encode() == data


@given(st.binary(max_size=60))
def test_any_bytes_are_a_module_or_a_format_error(data: bytes) -> None:
    for candidate in (data, b"\0asm\x01\0\0\0" + data):
        try:
            module = Module.parse(candidate)
        except WasmFormatError:
            continue
        assert Module.parse(module.encode()) == module


@given(st.data())
def test_a_cut_module_is_never_read_past_its_end(draw: st.DataObject) -> None:
    data = assemble(WHOLE)
    length = draw.draw(st.integers(0, len(data) - 1))
    try:
        module = Module.parse(data[:length])
    except WasmFormatError:
        return
    # Cut between two sections it is still a module, of fewer sections.
    assert module.encode() == data[:length]


def test_bytes_without_the_header_are_named() -> None:
    with pytest.raises(WasmFormatError, match="starts with"):
        Module.parse(b"#!/bin/sh\n")


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (b"\x01\x01\x00\x01\x01\x00", "doubled or out of order"),
        (b"\x03\x01\x00\x01\x01\x00", "doubled or out of order"),
        (b"\x0a\x01\x00\x0c\x01\x00", "doubled or out of order"),
        (b"\x20\x01\x00", "unknown"),
        (b"\x01\x7f\x00", "127 bytes expected"),
    ],
)
def test_sections_that_no_module_has_are_refused(sections: bytes, problem: str) -> None:
    with pytest.raises(WasmFormatError, match=problem):
        Module.parse(b"\0asm\x01\0\0\0" + sections)


@given(st.permutations([1, 3, 7, 10, 11, 12]), st.lists(st.sampled_from([0, 1, 5, 9, 11]), max_size=6))
def test_a_section_that_was_missing_is_put_at_its_place(added: list[int], present: list[int]) -> None:
    order = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11]
    there = sorted({number for number in present if number}, key=order.index)
    sections = [Section(number, b"\0") for number in there]
    for index in range(present.count(0)):
        sections.insert(min(len(sections), 2 * index), Section(SectionId.CUSTOM, b"\x01x"))
    module = Module(tuple(sections))
    for number in added:
        module = module.replace(number, b"\x01\x02")
    again = Module.parse(module.encode())
    assert again == module
    assert {s.id for s in again.sections if s.id} == {*there, *added}
    assert [s for s in again.sections if not s.id] == [s for s in sections if not s.id]
    assert all(again.payload(number) == b"\x01\x02" for number in added)


def test_a_replaced_section_leaves_the_others_as_they_are() -> None:
    module = Module.parse(assemble(WHOLE))
    changed = module.replace(SectionId.EXPORT, encode_exports([]))
    assert wasmtime.Module(wasmtime.Engine(), changed.encode()).exports == []
    assert [s for s in changed.sections if s.id != 7] == [s for s in module.sections if s.id != 7]


def test_imports_and_exports_are_read() -> None:
    module = Module.parse(assemble(WHOLE))
    assert imported_functions(module.payload(SectionId.IMPORT)) == 2
    assert parse_exports(module.payload(SectionId.EXPORT)) == [
        Export("memory", MEMORY, 0),
        Export("twice", FUNCTION, 2),
    ]


@given(st.lists(st.builds(Export, st.text(max_size=9), st.integers(0, 4), st.integers(0, 1 << 20)), max_size=9))
def test_exports_are_read_as_they_were_written(exports: list[Export]) -> None:
    assert parse_exports(encode_exports(exports)) == exports


def test_a_module_without_these_sections_has_none() -> None:
    assert imported_functions(None) == 0
    assert parse_exports(None) == []
    assert vector_length(None, "data section") == 0


def test_an_import_that_is_no_function_is_named() -> None:
    module = Module.parse(assemble('(module (import "env" "memory" (memory 1)))'))
    with pytest.raises(WasmFormatError, match=r"env\.memory is not a function"):
        imported_functions(module.payload(SectionId.IMPORT))


@pytest.mark.parametrize("read", [imported_functions, parse_exports])
def test_bytes_behind_the_last_item_are_refused(read: object) -> None:
    assert callable(read)
    with pytest.raises(WasmFormatError, match="bytes follow"):
        read(b"\0\0")


@given(st.lists(st.binary(max_size=5), max_size=200), st.lists(st.binary(max_size=5), max_size=200))
def test_items_are_put_behind_those_that_a_vector_has(first: list[bytes], second: list[bytes]) -> None:
    vector = append_to_vector(append_to_vector(None, first, "x"), second, "x")
    assert vector_length(vector, "x") == len(first) + len(second)
    assert vector.endswith(b"".join(first + second))
