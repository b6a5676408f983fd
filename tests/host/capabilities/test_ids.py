"""The grammar of capability ids, and which registered id answers an asked one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper.capabilities.ids import CapabilityId, choose, parse


def ids(*texts: str) -> list[CapabilityId]:
    """Parse ids that must be valid."""
    parsed = [parse(text) for text in texts]
    assert None not in parsed
    return [one for one in parsed if one is not None]


def answer(asked: str, *registered: str) -> str | None:
    """Return the text of what answers."""
    chosen = choose(parse(asked), ids(*registered))
    return None if chosen is None else chosen.text


@pytest.mark.parametrize(
    "text",
    [
        "a@0.0.0",
        "chain:ChainSelector_123:x@1.2.3-alpha.1+build.5",
        "A-b_C:d@10.20.30",
        "x@1.0.0--",
        "x@1.0.0+001",
        "x" * 122 + "@1.0.0",
    ],
)
def test_an_id_is_a_name_with_labels_and_a_semantic_version(text: str) -> None:
    parsed = parse(text)
    assert parsed is not None
    assert (parsed.text, f"{parsed.name}@{parsed.version}") == (text, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "x@",
        "@1.0.0",
        "x@1",
        "x@1.0",
        "x@01.0.0",
        "x@1.0.0-01",
        "x@1.0.0-",
        "x@1.0.0+",
        "x@v1.0.0",
        "x@1.0.0\n",
        "\nx@1.0.0",
        "x@1.0.0\0",
        "x\0@1.0.0",
        " x@1.0.0",
        "x@1.0.0 ",
        "x@1.0.0@1.0.0",
        "x/y@1.0.0",
        "é@1.0.0",
        "х@1.0.0",  # noqa: RUF001 - a Cyrillic letter is the point
        "x@１.0.0",  # noqa: RUF001 - a full-width digit is the point
        "x@1.0.٣",
        "x" * 123 + "@1.0.0",
        "x@1.0.0-" + "a" * 1_000_000,
        "x@" + "9" * 200 + ".0.0",
        None,
        b"x@1.0.0",
        7,
    ],
)
def test_anything_else_is_no_id(text: object) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("asked", "registered", "expected"),
    [
        ("x@1.0.0", ["x@1.0.0", "x@1.1.0"], "x@1.0.0"),
        ("x@1.0.0", ["x@1.2.0", "x@1.1.0", "x@1.10.0"], "x@1.1.0"),
        ("x@1.9.0", ["x@1.10.0", "x@1.8.0"], "x@1.10.0"),
        ("x@1.0.0", ["x@2.0.0"], None),
        ("x@1.1.0", ["x@1.0.9"], None),
        ("x@1.0.0", ["y@1.0.0"], None),
        ("x:a_1@1.0.0", ["x@1.0.0", "x:a_2@1.0.0", "x:a@1.0.0"], None),
        ("x:a_1@1.0.0", ["x:a_1@1.0.5"], "x:a_1@1.0.5"),
        # A stable request skips pre-releases, a pre-release one may get anything greater.
        ("x@1.0.0", ["x@1.1.0-alpha", "x@1.2.0"], "x@1.2.0"),
        ("x@1.0.0", ["x@1.1.0-alpha"], None),
        ("x@1.0.0-0", ["x@1.0.0-alpha"], "x@1.0.0-alpha"),
        ("x@1.0.0-alpha", ["x@1.0.0-alpha.1", "x@1.0.0"], "x@1.0.0-alpha.1"),
        ("x@1.0.0-rc", ["x@1.0.0-alpha", "x@1.0.0"], "x@1.0.0"),
        ("x@1.0.0-alpha.2", ["x@1.0.0-alpha.10"], "x@1.0.0-alpha.10"),
        ("x@1.0.0-alpha.10", ["x@1.0.0-alpha.2"], None),
        # Build metadata has no precedence: another build of the same version is not greater.
        ("x@1.0.0+build", ["x@1.0.0"], None),
        ("x@1.0.0", ["x@1.0.0+build"], None),
        ("x@1.0.0+b", ["x@1.0.1+b", "x@1.0.1+a"], "x@1.0.1+a"),
        ("x@1.0.0+b", ["x@1.0.1+a", "x@1.0.1+b"], "x@1.0.1+a"),
        ("x", ["x@1.0.0"], None),
    ],
)
def test_which_version_answers(asked: str, registered: list[str], expected: str | None) -> None:
    assert answer(asked, *registered) == expected
    assert answer(asked, *reversed(registered)) == expected


NUMBERS = st.integers(0, 3)
PRERELEASES = st.sampled_from(["", "-0", "-1", "-alpha", "-alpha.1", "-beta"])
IDS = st.builds(
    lambda name, major, minor, patch, pre, build: f"{name}@{major}.{minor}.{patch}{pre}{build}",
    st.sampled_from(["x", "x:l_1", "y"]),
    st.integers(0, 2),
    NUMBERS,
    NUMBERS,
    PRERELEASES,
    st.sampled_from(["", "+b"]),
)


@settings(deadline=None)
@given(IDS, st.lists(IDS, unique=True))
def test_the_answer_is_exact_or_the_least_compatible_greater_one(asked: str, registered: list[str]) -> None:
    chosen = choose(parse(asked), ids(*registered))
    (want,) = ids(asked)
    greater = [
        one
        for one in ids(*registered)
        if one.name == want.name
        and one.version.major == want.version.major
        and one.version.compare(want.version) > 0
        and (bool(want.version.prerelease) or not one.version.prerelease)
    ]
    if asked in registered:
        assert chosen is not None
        assert chosen.text == asked
    elif not greater:
        assert chosen is None
    else:
        assert chosen in greater
        assert all(chosen is not None and chosen.version.compare(one.version) <= 0 for one in greater)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_an_id_or_none(text: str) -> None:
    parsed = parse(text)
    assert parsed is None or parsed.text == text
