"""The real tools: official workflows built with npm, bun and the official compiler.

The packages are kept in ``.build`` at the root of the repository, where the end-to-end tests keep theirs, so that only
the first run needs the registry.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

from innkeeper_wasm.build.errors import LinkError
from innkeeper_wasm.build.javy_compile import compile_script
from innkeeper_wasm.build.javy_link import EntryPoint, link

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
BUILD = ROOT / ".build" / "tests" / "build"
COMMAND = "import sys; from innkeeper_wasm.build.command import main; raise SystemExit(main(sys.argv[1:]))"

guests = pytest.mark.guests


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed: official guests cannot be built")
    return subprocess.Popen(
        [sys.executable, "-I", "-c", COMMAND, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(build: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for a build, check its exit code, and return what it said on standard error."""
    _, err = build.communicate(timeout=110)
    assert build.returncode == code, err
    assert "Traceback" not in err
    return err


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return both examples, built at the same time with one build directory."""
    folder = tmp_path_factory.mktemp("guests")
    names = ("clock", "median")
    builds = [start(EXAMPLES / name, "-o", folder / f"{name}.wasm", "--build-dir", BUILD) for name in names]
    for build in builds:
        finish(build)
    return {name: folder / f"{name}.wasm" for name in names}


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port of this machine that refuses connections: it is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def plugin() -> bytes:
    """Return the plugin that the built examples were linked with."""
    pattern = "packages/*/node_modules/@chainlink/cre-sdk-javy-plugin/dist/javy-chainlink-sdk.plugin.wasm"
    return next(BUILD.glob(pattern)).read_bytes()


@pytest.mark.parametrize("name", ["clock", "median"])
def test_an_example_s_lock_pins_digests_and_names_no_registry(name: str) -> None:
    text = (EXAMPLES / name / "package-lock.json").read_text()
    assert "http" not in text
    assert "@chainlink/cre-sdk" in text
    assert text.count('"integrity": "sha512-') > 40


@guests
@pytest.mark.parametrize("name", ["clock", "median"])
def test_an_example_becomes_a_workflow_binary(built: dict[str, Path], name: str) -> None:
    module = wasmtime.Module(wasmtime.Engine(), built[name].read_bytes())
    assert [export.name for export in module.exports] == ["memory", "cabi_realloc", "_start", "main"]
    imports = {f"{item.module}.{item.name}" for item in module.imports}
    assert {"env.send_response", "env.call_capability", "env.version_v2_typescript"} <= imports
    assert {item.module for item in module.imports} == {"env", "wasi_snapshot_preview1"}


@guests
def test_the_same_workflow_elsewhere_without_a_network_is_the_same_binary(
    built: dict[str, Path], tmp_path: Path, closed_port: int
) -> None:
    source = tmp_path / "somewhere" / "else"
    shutil.copytree(EXAMPLES / "clock", source)
    # The same packages at another place: linked, not copied, for they are large.
    build = tmp_path / "build"
    shutil.copytree(BUILD / "packages", build / "packages", symlinks=True, copy_function=os.link)
    err = finish(
        start(
            *(source, "-o", tmp_path / "again.wasm", "--build-dir", build),
            npm_config_registry=f"http://127.0.0.1:{closed_port}",
        )
    )
    assert "installed before" in err
    assert (tmp_path / "again.wasm").read_bytes() == built["clock"].read_bytes()


@guests
@pytest.mark.usefixtures("built")
def test_a_type_error_is_shown_with_its_place(tmp_path: Path) -> None:
    source = tmp_path / "flow"
    shutil.copytree(EXAMPLES / "clock", source)
    text = (source / "main.ts").read_text()
    (source / "main.ts").write_text(text + "\nexport const wrong: number = 'text'\n")
    err = finish(start(source, "-o", tmp_path / "flow.wasm", "--build-dir", BUILD), 1)
    assert "type-check: the workflow has type errors" in err
    line = len(text.splitlines()) + 2
    assert f"main.ts:{line}:14 Type 'string' is not assignable to type 'number'." in err
    assert not (tmp_path / "flow.wasm").exists()


@guests
@pytest.mark.usefixtures("built")
def test_a_workflow_that_exports_no_main_is_refused_by_the_linker(tmp_path: Path) -> None:
    source = tmp_path / "flow"
    shutil.copytree(EXAMPLES / "clock", source)
    text = (source / "main.ts").read_text().replace("export async function main", "async function main")
    (source / "main.ts").write_text(text + "\nmain()\n")
    err = finish(start(source, "-o", tmp_path / "flow.wasm", "--build-dir", BUILD, "--skip-type-checks"), 1)
    assert "link: the workflow does not export main" in err


@guests
def test_a_registry_that_cannot_be_reached_is_named_as_the_cause(tmp_path: Path, closed_port: int) -> None:
    err = finish(
        start(
            *(EXAMPLES / "clock", "-o", tmp_path / "flow.wasm", "--build-dir", tmp_path / "build"),
            npm_config_registry=f"http://127.0.0.1:{closed_port}",
            npm_config_cache=str(tmp_path / "cache"),
        ),
        1,
    )
    assert "packages: the npm registry could not be reached (ECONNREFUSED)" in err
    assert "check the network, the proxy and `npm config get registry`" in err
    assert list((tmp_path / "build" / "packages").glob("*/")) == []


@guests
@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (b"let a = ;", r"unexpected token in expression: ';'\n    at function\.mjs:1:1"),
        (b"export function main() {}\nfoo bar", "expecting ';'"),
        (b"import x from 'elsewhere'", "could not load module 'elsewhere'"),
        (b"\xff\xfe", "unexpected character"),
    ],
)
def test_what_quickjs_says_of_a_script_is_passed_on(script: bytes, problem: str) -> None:
    with pytest.raises(LinkError, match=problem):
        compile_script(plugin(), script)


@guests
@pytest.mark.usefixtures("built")
def test_a_script_nested_too_deep_is_an_error_of_the_linker() -> None:
    with pytest.raises(LinkError, match="failed while it compiled the script"):
        compile_script(plugin(), b"(" * 200_000)


@guests
@pytest.mark.usefixtures("built")
def test_a_small_script_is_linked_with_the_real_plugin() -> None:
    made = plugin()
    binary = link(made, compile_script(made, b"export function main() {}"), [EntryPoint("main", "main")])
    wasmtime.Module.validate(wasmtime.Engine(), binary)
