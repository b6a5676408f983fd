"""Names in the linker's interface file and in bundled scripts."""

from __future__ import annotations

import pytest

from innkeeper_wasm.build.errors import LinkError
from innkeeper_wasm.build.javy_link import EntryPoint
from innkeeper_wasm.build.script import entry_points, exported_names

WIT = """
package local:main;

// world workflow { export commented: func(); }
world other { export nothing: func(); }
world workflow {
  /* export this-neither: func(); */
  export main: func();
  export on-new-block : func ( ) ;
}
"""


def test_the_functions_of_the_world_that_was_asked_for_are_found() -> None:
    assert entry_points(WIT, "workflow") == [EntryPoint("main", "main"), EntryPoint("on-new-block", "onNewBlock")]


def test_a_world_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LinkError, match="a world missing"):
        entry_points(WIT, "missing")


@pytest.mark.parametrize("kind", ["func(a: u32)", "func() -> string", "the-interface"])
def test_an_export_that_cannot_be_linked_is_an_error(kind: str) -> None:
    with pytest.raises(LinkError, match="cannot be linked"):
        entry_points(f"world workflow {{ export main: {kind}; }}", "workflow")


def test_the_names_that_a_script_exports_are_found() -> None:
    script = "\n".join(
        [
            "// export { commented };",
            "async function main() {}",
            "export {",
            "  main,",
            "  helper as onTick",
            "};",
            "export async function run() {}",
            "export function* walk() {}",
            "export const limit = 3;",
            "export class Thing {}",
            'const text = "export { quoted }";',
        ]
    )
    assert exported_names(script) == {"main", "onTick", "run", "walk", "limit", "Thing"}


def test_a_script_without_exports_has_none() -> None:
    assert exported_names("main();\n") == set()
