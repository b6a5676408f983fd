"""``innkeeper explain``."""

from __future__ import annotations

import importlib
import pkgutil

import innkeeper
import innkeeper_sdk
from innkeeper.cli.codes import CODES
from innkeeper_sdk.control_errors import RemoteError
from innkeeper_sdk.errors import InnkeeperError


def descendants(cls: type[InnkeeperError]) -> set[type[InnkeeperError]]:
    return {cls}.union(*(descendants(child) for child in cls.__subclasses__()))


def test_every_code_of_the_host_and_the_sdk_is_explained_and_no_other() -> None:
    for package in (innkeeper, innkeeper_sdk):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", "env")) and "migrations" not in module.name:
                importlib.import_module(module.name)
    own = {
        cls for cls in descendants(InnkeeperError) if cls.__module__.partition(".")[0] in ("innkeeper", "innkeeper_sdk")
    }
    assert {cls.code for cls in own if not issubclass(cls, RemoteError)} == set(CODES)


def test_a_code_is_explained_and_so_are_those_of_providers(command) -> None:
    shown = command.json("explain", "config-invalid")
    assert shown["code"] == "config-invalid"
    assert "--keep-going" in shown["explanation"]
    assert command.json("explain", "toy-broken") == {
        "code": "toy-broken",
        "title": "The toy is broken",
        "provider": "toy",
        "explanation": "Glue it.",
    }


def test_without_a_code_all_are_listed(command) -> None:
    codes = [row["code"] for row in command.json("explain")]
    assert codes == sorted(codes)
    assert {*CODES, "toy-broken"} <= set(codes)


def test_a_code_that_is_none_has_near_ones_suggested(command) -> None:
    assert "did you mean conflict?" in command("explain", "conflit", code=1).stderr
    assert "innkeeper explain" in command("explain", "zzz", code=1).stderr
