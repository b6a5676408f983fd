"""A tampered binary is a valid guest with another digest; exactly one row is written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import wasmtime

from innkeeper_demo.errors import StepError
from innkeeper_demo.tampering import replace_binary, with_section

BINARY = bytes(wasmtime.wat2wasm('(module (func (export "answer") (result i32) i32.const 42))'))


def test_a_section_more_changes_the_bytes_and_nothing_else() -> None:
    engine = wasmtime.Engine()
    changed = [BINARY, with_section(BINARY, "deployed"), with_section(BINARY, "replaced")]
    assert len(set(changed)) == 3
    for binary in changed:
        store = wasmtime.Store(engine)
        instance = wasmtime.Instance(store, wasmtime.Module(engine, binary), [])
        answer = instance.exports(store)["answer"]
        assert isinstance(answer, wasmtime.Func)
        assert answer(store) == 42


@pytest.mark.parametrize(("binary", "name"), [(b"no", "x"), (BINARY, "x" * 101)])
def test_what_cannot_get_one_is_refused(binary: bytes, name: str) -> None:
    with pytest.raises(ValueError, match="not WebAssembly"):
        with_section(binary, name)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "host.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE workflow_specs_v2 (workflow_id TEXT, workflow TEXT)")
        connection.executemany("INSERT INTO workflow_specs_v2 VALUES (?, ?)", [("a", "00"), ("b", "00")])
    return path


def test_one_workflows_binary_is_replaced(database: Path) -> None:
    replace_binary(database, "b", b"\1\2")
    with closing(sqlite3.connect(database)) as connection:
        rows = dict(connection.execute("SELECT workflow_id, workflow FROM workflow_specs_v2").fetchall())
    assert rows == {"a": "00", "b": "0102"}


def test_a_workflow_that_is_not_there_is_an_error(database: Path) -> None:
    with pytest.raises(StepError, match="0 rows"):
        replace_binary(database, "c", b"\1")
