"""What is measured: all that an enclave can load, the same on every start, and another thing when anything changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from innkeeper_confidential_workflows.launcher import measure as measuring
from innkeeper_confidential_workflows.launcher.bundle import Bundle, Member, find_bundle
from innkeeper_confidential_workflows.launcher.errors import LaunchError
from innkeeper_confidential_workflows.launcher.measure import measure
from innkeeper_confidential_workflows.nsm.pcrs import simulated_pcr

LOADED = """
import json, sys
import innkeeper_confidential_workflows.enclave.monitor
import innkeeper_confidential_workflows.enclave.child
import innkeeper_wasm.runtime.root
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""


@pytest.fixture
def small(tmp_path: Path) -> Bundle:
    """A bundle of a few files that a test may change."""
    for name, content in (("ours/__init__.py", "1"), ("ours/a.py", "2"), ("lib/b.py", "3"), ("std/c.py", "4")):
        path = tmp_path / "installed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "installed" / "python").write_text("5")
    return bundle_of(tmp_path / "installed")


def bundle_of(root: Path) -> Bundle:
    return Bundle(
        application=(Member("ours", root / "ours"),),
        libraries=(Member("lib", root / "lib"),),
        interpreter=root / "python",
        runtime=(Member("interpreter/lib", root / "std"),),
    )


def test_this_installation_measures_the_same_twice_and_in_another_process() -> None:
    registers = measure(find_bundle(), "x")
    assert measure(find_bundle(), "x") == registers
    code = (
        "from innkeeper_confidential_workflows.launcher.bundle import find_bundle\n"
        "from innkeeper_confidential_workflows.launcher.measure import measure\n"
        "print({index: value.hex() for index, value in measure(find_bundle(), 'x').items()})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str({index: value.hex() for index, value in registers.items()})


def test_a_copy_elsewhere_measures_the_same(small: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "installed", tmp_path / "copy")
    assert measure(bundle_of(tmp_path / "copy"), "x") == measure(small, "x")


def changed_content(root: Path, name: str) -> None:
    path = root / name
    stat = path.stat()
    path.write_text("X")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def changed_mode(root: Path, name: str) -> None:
    (root / name).chmod(0o777)


def removed(root: Path, name: str) -> None:
    (root / name).unlink()


def renamed(root: Path, name: str) -> None:
    (root / name).rename((root / name).with_suffix(".txt"))


def added(root: Path, name: str) -> None:
    (root / name).with_name("new.pyc").write_text("")


@pytest.mark.parametrize("change", [changed_content, changed_mode, removed, renamed, added])
@pytest.mark.parametrize(
    ("name", "indexes"), [("ours/a.py", {0, 2}), ("lib/b.py", {0}), ("std/c.py", {0})], ids=["ours", "library", "std"]
)
def test_whatever_changes_in_a_file_changes_the_registers_it_belongs_to(
    small: Bundle, tmp_path: Path, change: Callable[[Path, str], None], name: str, indexes: set[int]
) -> None:
    before = measure(small, "x")
    change(tmp_path / "installed", name)
    after = measure(bundle_of(tmp_path / "installed"), "x")
    assert {index for index in before if before[index] != after[index]} == indexes


def test_another_interpreter_is_another_measurement(small: Bundle, tmp_path: Path) -> None:
    before = measure(small, "x")
    changed_content(tmp_path / "installed", "python")
    assert measure(small, "x")[0] != before[0]


def test_two_files_that_swap_their_names_are_another_measurement(small: Bundle, tmp_path: Path) -> None:
    before = measure(small, "x")
    (tmp_path / "installed/ours/a.py").write_text("1")
    (tmp_path / "installed/ours/__init__.py").write_text("2")
    assert measure(small, "x")[2] != before[2]


def test_compiled_files_in_their_own_directories_are_no_part_of_it(small: Bundle, tmp_path: Path) -> None:
    before = measure(small, "x")
    cache = tmp_path / "installed/ours/__pycache__"
    cache.mkdir()
    (cache / "a.cpython-311.pyc").write_bytes(b"planted")
    assert measure(small, "x") == before


def test_what_a_link_leads_to_is_measured_too(small: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "d.py").write_text("6")
    (tmp_path / "installed/ours/linked").symlink_to(outside)
    (tmp_path / "installed/ours/up").symlink_to(tmp_path / "installed/ours")
    before = measure(small, "x")
    (outside / "d.py").write_text("7")
    assert measure(small, "x")[2] != before[2]


def test_a_file_that_cannot_be_read_is_an_error(small: Bundle, tmp_path: Path) -> None:
    (tmp_path / "installed/ours/broken.py").symlink_to("nowhere")
    with pytest.raises(LaunchError, match="cannot be measured"):
        measure(small, "x")
    with pytest.raises(LaunchError):
        measure(evolve(small, interpreter=tmp_path / "absent"), "x")


def test_each_enclave_has_its_own_register_4_and_there_is_no_role_and_no_signer(small: Bundle) -> None:
    one, other = measure(small, "one"), measure(small, "other")
    assert one.keys() == {0, 1, 2, 4}
    assert {index for index in one if one[index] != other[index]} == {4}
    assert len(set(one.values())) == 4
    assert all(len(value) == 48 for value in one.values())


def test_how_an_enclave_is_started_is_register_1(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    before = measure(small, "x")
    assert before[1] == simulated_pcr(1, measuring.policy())
    monkeypatch.setattr(measuring, "_POLICY", {**measuring._POLICY, "launcher": measuring.LAUNCHER_VERSION + 1})
    after = measure(small, "x")
    assert {index for index in before if before[index] != after[index]} == {1}


def test_a_bundle_can_load_what_the_enclave_needs_and_nothing_else_is_found(tmp_path: Path) -> None:
    bundle = find_bundle()
    bundle.link(tmp_path / "bundle")
    (tmp_path / "probe").mkdir()
    (tmp_path / "bundle" / "probe.py").write_text(LOADED)
    command = bundle.command(tmp_path / "bundle", tmp_path / "no-cache")
    done = subprocess.run([*command, "probe"], capture_output=True, text=True, check=True, cwd="/", env={})
    import json

    found: dict[str, str | None] = json.loads(done.stdout)
    allowed = [os.path.realpath(member.path) for member in (*bundle.application, *bundle.libraries, *bundle.runtime)]
    # What the interpreter was built with says that it is part of the standard library, and has no file.
    outside = {
        name: path
        for name, path in found.items()
        if path is not None
        and name not in ("probe", "__main__")
        and not any(
            os.path.realpath(path) == place or os.path.realpath(path).startswith(place + "/") for place in allowed
        )
    }
    assert outside == {}
    assert {"wasmtime", "brotli", "cryptography", "google.protobuf", "cbor2"} <= found.keys()
    assert not found.keys() & {"site", "grpc", "pluggy", "innkeeper"}
    assert not (tmp_path / "no-cache").exists()


def test_a_planted_compiled_file_is_not_run(tmp_path: Path) -> None:
    installed = tmp_path / "ours"
    (installed / "__pycache__").mkdir(parents=True)
    (installed / "__init__.py").write_text("print('source')")
    planted = tmp_path / "planted.py"
    planted.write_text("print('planted')")
    import importlib.util
    import py_compile

    cached = importlib.util.cache_from_source(str(installed / "__init__.py"))
    py_compile.compile(str(planted), cached, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    bundle = evolve(find_bundle(), application=(Member("ours", installed),))
    bundle.link(tmp_path / "bundle")
    command = bundle.command(tmp_path / "bundle", tmp_path / "no-cache")
    done = subprocess.run([*command, "ours"], capture_output=True, text=True, check=False, cwd="/", env={})
    assert done.stdout.splitlines()[0] == "source"
    assert "planted" not in done.stdout


def test_a_missing_part_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from innkeeper_confidential_workflows.launcher import bundle as bundling

    monkeypatch.setattr(bundling, "_LIBRARIES", ("attrs", "there_is_no_such_library"))
    with pytest.raises(LaunchError, match="there_is_no_such_library"):
        find_bundle()
