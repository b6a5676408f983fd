"""What of a provider's capability the host binds."""

from __future__ import annotations

import pytest

from innkeeper.capabilities.declarations import bind, described, effective, read_info
from innkeeper_sdk.capability import Capability, CapabilityInfo, CapabilityType, MethodInfo, Visibility
from innkeeper_sdk.errors import ConfigError, ProviderFailedError
from innkeeper_sdk.manifest import CapabilityDeclaration, Method

DECLARATION = CapabilityDeclaration(
    id="x@1.0.0",
    type=CapabilityType.TRIGGER,
    methods={"": Method(), "Go": Method(input="a.In", output="a.Out", idempotent=True)},
)


class Says(Capability):
    """A capability whose info is, or does, what a test says."""

    def __init__(self, info: object) -> None:
        self._info = info

    @property
    def info(self) -> CapabilityInfo:
        if isinstance(self._info, BaseException):
            raise self._info
        return self._info  # type: ignore[return-value] # providers may return anything


@pytest.mark.parametrize("info", [None, "x@1.0.0", CapabilityInfo(id=None, type=CapabilityType.ACTION)])  # type: ignore[arg-type] # providers may return anything
def test_an_info_that_is_none_is_the_providers_failure(info: object) -> None:
    with pytest.raises(ProviderFailedError) as caught:
        read_info("p", Says(info))
    assert caught.value.provider == "p"
    assert "Says" in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("private"), SystemExit(3)])
def test_an_info_that_raises_is_the_providers_failure_and_names_the_place(error: BaseException) -> None:
    with pytest.raises(ProviderFailedError, match=r"test_declarations\.py:\d+") as caught:
        read_info("p", Says(error))
    assert "private" not in str(caught.value)
    assert type(error).__name__ in str(caught.value)


def test_a_users_interrupt_is_not_the_providers_failure() -> None:
    with pytest.raises(KeyboardInterrupt):
        read_info("p", Says(KeyboardInterrupt()))


def test_the_declaration_decides() -> None:
    said = CapabilityInfo(
        id="x@1.0.0",
        type=CapabilityType.TRIGGER,
        description="said",
        methods={"Go": MethodInfo(name="Stop", input="b.In", idempotent=False)},
    )
    bound = bind("p", said, DECLARATION)
    assert bound == described(DECLARATION, "said")
    assert bound.methods["Go"] == MethodInfo(name="Go", input="a.In", output="a.Out", idempotent=True)
    assert set(bound.methods) == {"", "Go"}


@pytest.mark.parametrize("said", [CapabilityType.ACTION, "trigger", None])
def test_another_type_than_declared_is_refused(said: CapabilityType) -> None:
    with pytest.raises(ProviderFailedError, match="expected trigger"):
        bind("p", CapabilityInfo(id="x@1.0.0", type=said), DECLARATION)


def test_methods_that_are_not_declared_are_refused_and_named() -> None:
    said = {name: MethodInfo(name=name) for name in ("Go", "Steal")}
    with pytest.raises(ProviderFailedError, match="Steal"):
        bind("p", CapabilityInfo(id="x@1.0.0", type=CapabilityType.TRIGGER, methods=said), DECLARATION)


def test_what_plugins_yaml_does_not_name_stays_as_declared() -> None:
    assert effective("p", [DECLARATION], {}) == {"x@1.0.0": Visibility.INTERNAL}
    assert effective("p", [DECLARATION], {"x@1.0.0": Visibility.INTERNAL}) == {"x@1.0.0": Visibility.INTERNAL}


def test_a_visibility_for_what_is_not_declared_is_a_fault_also_without_any_declaration() -> None:
    with pytest.raises(ConfigError, match="none"):
        effective("p", [], {"x@1.0.0": Visibility.INTERNAL})
    assert effective("p", [], {"*": Visibility.INTERNAL}) == {}
