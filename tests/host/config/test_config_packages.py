"""What ``package`` names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.config.packages import Package, normalised, parse_package

BASE = Path("/base")


@pytest.mark.parametrize(
    ("text", "name", "specifier", "path"),
    [
        ("innkeeper-probe", "innkeeper-probe", "", None),
        ("Innkeeper_Probe", "innkeeper-probe", "", None),
        ("innkeeper.probe>=1,<2", "innkeeper-probe", "<2,>=1", None),
        ("innkeeper-probe[extra]==1.0", "innkeeper-probe", "==1.0", None),
        ("innkeeper-probe @ https://example.test/x.zip", "innkeeper-probe", "", None),
        ("./probe", None, "", "/base/probe"),
        ("../probe", None, "", "/base/../probe"),
        ("/opt/probe", None, "", "/opt/probe"),
        (".", None, "", "/base"),
        ("dist/innkeeper_probe-1.2.3-py3-none-any.whl", "innkeeper-probe", "==1.2.3", None),
        ("/x/innkeeper_probe-1.2.3-py3-none-any.whl", "innkeeper-probe", "==1.2.3", None),
    ],
)
def test_a_requirement_a_directory_or_a_wheel(text: str, name: str | None, specifier: str, path: str | None) -> None:
    package = parse_package(text, base=BASE)
    assert (package.text, package.name, package.specifier) == (text, name, specifier)
    if path is not None:
        assert package.path == Path(path)


@pytest.mark.parametrize("text", ["a b", "probe>>1", "probe==", "-probe", "bad.whl", "pröbe", "probe;x", "probe\n"])
def test_what_is_none_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"a requirement|a wheel's file name"):
        parse_package(text, base=BASE)


def test_names_are_compared_as_indexes_compare_them() -> None:
    assert normalised("A.b_-c") == "a-b-c"


@given(st.text(max_size=30))
def test_any_text_is_a_package_or_a_value_error(text: str) -> None:
    try:
        package = parse_package(text, base=BASE)
    except ValueError:
        return
    assert isinstance(package, Package)


def test_a_bare_name_needs_no_parser_of_requirements() -> None:
    code = (
        "import sys; from pathlib import Path; from innkeeper.config.packages import parse_package;"
        "parse_package('innkeeper-probe', base=Path()); print('packaging' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
