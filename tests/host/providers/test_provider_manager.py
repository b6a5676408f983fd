"""Providers of a running host: real packages, good and bad, behind the real registry."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from innkeeper.capabilities.callers import Operator, ProviderCaller, Right, WorkflowCaller
from innkeeper.capabilities.limits import LimitTable
from innkeeper.capabilities.registry import Registry
from innkeeper.config.plugins import load_plugins
from innkeeper.config.settings import Settings, load_settings, prepare
from innkeeper.keys import SigningKey
from innkeeper.providers.catalog import build_catalog
from innkeeper.providers.discovery import discover
from innkeeper.providers.manager import Providers
from innkeeper.providers.ports import Deadlines
from innkeeper.providers.states import ProviderState, ProviderStatusRow
from innkeeper_sdk.errors import NotFoundError, ProviderFailedError

KEY = SigningKey(Ed25519PrivateKey.generate())
SECRET = "hunter2"  # noqa: S105 - what must not be seen
WORKFLOW = WorkflowCaller(owner="ab" * 20, workflow_id="cd" * 32)

# A whole provider; EVENTS is what happened, in its module.
WHOLE = """
from innkeeper_sdk import hookimpl
from innkeeper_sdk.capability import Capability, CapabilityInfo, CapabilityType
from innkeeper_sdk.module import ModuleType

EVENTS = []
CONTEXTS = []


class Part:
    def __init__(self, name):
        self.part = name

    async def start(self):
        EVENTS.append(f"start {self.part}")

    async def close(self):
        EVENTS.append(f"close {self.part}")


class Plain(Part, ModuleType):
    @property
    def name(self):
        return "plain"

    async def load(self, spec, binary):
        raise NotImplementedError


class Action(Part, Capability):
    @property
    def info(self):
        return CapabilityInfo("probe@1.0.0", CapabilityType.ACTION)


class Plugin:
    @hookimpl
    def innkeeper_modules(self, context):
        CONTEXTS.append(context)
        return [Plain("module")]

    @hookimpl
    def innkeeper_capabilities(self, context):
        return [Action("capability")]

    @hookimpl
    def innkeeper_services(self, context):
        return [Part("service")]


plugin = Plugin()
"""
PARTS = {
    "modules": [{"name": "plain"}],
    "capabilities": [{"id": "probe@1.0.0", "type": "action", "visibility": "public"}],
    "services": ["beat"],
}
ACTION = {"capabilities": [{"id": "probe@1.0.0", "type": "action", "visibility": "public"}]}
MODULE = {"modules": [{"name": "plain"}]}
SERVICE = {"services": ["beat"]}

GOOD = """
from innkeeper_sdk import hookimpl


class Service:
    async def start(self):
        pass

    async def close(self):
        pass


@hookimpl
def innkeeper_services(context):
    return [Service()]
"""

Start = Callable[..., Awaitable[Providers]]


def unsupervised(plan: object, registrar: object, changed: object) -> NoReturn:
    raise AssertionError("a process is started")


@pytest.fixture
def settings() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="ik-") as folder:
        places = {key: f"{folder}/{key[0]}" for key in ("data_dir", "cache_dir", "runtime_dir")}
        made = load_settings(environ={}, flags=places)
        prepare(made)
        yield made


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def make(
    site: Any, settings: Settings, registry: Registry, tmp_path: Path
) -> AsyncIterator[Callable[..., Providers]]:
    """Return what makes the providers of the site's packages; they are closed at the end."""
    made: list[Providers] = []

    def build(entries: str, *, environ: dict[str, str] | None = None, seconds: float = 30.0) -> Providers:
        file = tmp_path / "plugins.yaml"
        file.write_text(f"plugins: {{any: [{entries}]}}" if not entries.startswith("plugins:") else entries)
        catalog = build_catalog(load_plugins([file]), discover([str(site.path)]))
        providers = Providers(
            catalog,
            settings=settings,
            registry=registry,
            limits=LimitTable(catalog.limits),
            host_key=KEY,
            supervise=unsupervised,
            logger=logging.getLogger("innkeeper.test.providers"),
            deadlines=Deadlines(seconds, seconds, seconds, seconds),
            environ=environ or {},
        )
        made.append(providers)
        return providers

    yield build
    for providers in made:
        await providers.close()


def row(providers: Providers, id_: str = "probe") -> ProviderStatusRow:
    return next(row for row in providers.statuses() if row.id == id_)


def module_of(id_: str = "probe") -> Any:
    return sys.modules[f"ik_{id_}.plugin"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, 60 seconds at most."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads and in providers
            await asyncio.sleep(0.001)


async def failed(make: Callable[..., Providers], site: Any, entry: str = "{package: ik-probe}", **options: Any) -> str:
    """Start the provider under test beside a good one; return why it failed."""
    site.install("good", GOOD, value="ik_good.plugin", services=["beat"])
    providers = make(f"{entry}, {{package: ik-good}}", **options)
    await providers.start()
    assert row(providers, "good").status.state is ProviderState.READY
    status = row(providers).status
    assert status.state is ProviderState.FAILED
    return status.reason


async def test_a_provider_is_started_registered_and_stopped_in_order(
    make: Callable[..., Providers], site: Any, registry: Registry
) -> None:
    site.install("probe", WHOLE, title="A probe", **PARTS)
    providers = make("{package: ik-probe}")
    seen: list[str] = []
    providers.subscribe(lambda row: seen.append(row.status.state.value))
    assert row(providers).status.state is ProviderState.STARTING
    await providers.start()

    shown = row(providers)
    assert (shown.status.state, shown.status.reason) == (ProviderState.READY, "")
    assert (shown.title, shown.package, shown.version, shown.mode, shown.required) == (
        "A probe", "ik-probe", "1.0", "host", False,
    )  # fmt: skip
    assert shown.origin.endswith("plugins.yaml:1:17")
    loaded = providers.module_types()["plain"]
    assert (loaded.provider_id, loaded.module_type.name, loaded.manifest.id) == ("probe", "plain", "probe")
    assert registry.resolve(WORKFLOW, "probe@1.0.0").info.id == "probe@1.0.0"

    await providers.close()
    assert module_of().EVENTS == [
        "start module", "start capability", "start service", "close service", "close capability", "close module",
    ]  # fmt: skip
    assert providers.module_types() == {}
    assert row(providers).status.state is ProviderState.STOPPED
    assert seen == ["ready", "stopping", "stopped"]
    await providers.close()
    assert len(module_of().EVENTS) == 6


async def test_a_provider_is_given_its_own_view_of_the_host(
    make: Callable[..., Providers], site: Any, settings: Settings
) -> None:
    site.install("probe", WHOLE, **PARTS, config={"type": "object"})
    stale = settings.socket_dir / "providers" / "probe" / "stale.sock"
    stale.parent.mkdir(parents=True)
    stale.touch()
    providers = make("{package: ik-probe, config: {key: {$env: KEY}, depth: 3}}", environ={"KEY": SECRET})
    await providers.start()
    (context,) = module_of().CONTEXTS
    assert (context.provider, context.environment) == ("probe", "production")
    assert context.config == {"key": SECRET, "depth": 3}
    assert context.logger.name == "innkeeper.test.providers.probe"
    assert [info.id for info in await context.registry.list()] == ["probe@1.0.0"]
    assert context.limits.get("WorkflowLimit") == 1000
    assert context.host_key is KEY
    assert SECRET not in repr(context)
    for folder in (context.data_dir, context.cache_dir, context.runtime_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(folder.iterdir()) == []
    (context.data_dir / "kept").touch()
    (context.runtime_dir / "x.sock").touch()
    await providers.close()
    assert (context.data_dir / "kept").exists()
    assert not context.runtime_dir.exists()


IMPORTS = [
    ("raise ValueError('broken')\n", "its import failed: ValueError: broken (ik_probe/plugin.py:1)"),
    ("import no_such_module_anywhere\n", "its import failed: ModuleNotFoundError: No module named 'no_such_module_any"),
    ("def (:\n", "its import failed: SyntaxError: "),
    ("import sys\nsys.exit(3)\n", "its import ended with sys.exit(3) (ik_probe/plugin.py:2)"),
    ("raise KeyboardInterrupt\n", "its import failed: KeyboardInterrupt (ik_probe/plugin.py:1)"),
    ("plugin = None\n", "its import failed: its entry point names ik_probe.plugin:plugin, which is None"),
    ("other = 1\n", "its import failed: its entry point names ik_probe.plugin:plugin, and the module has no such obj"),
]


@pytest.mark.parametrize(("code", "said"), IMPORTS)
async def test_an_import_that_fails_is_the_providers_own_failure(
    make: Callable[..., Providers], site: Any, code: str, said: str
) -> None:
    site.install("probe", code, **MODULE)
    assert (await failed(make, site)).startswith(said)


async def test_a_package_whose_init_fails_is_the_providers_own_failure(
    make: Callable[..., Providers], site: Any
) -> None:
    site.install("probe", WHOLE, init="raise OSError('no disk')\n", **PARTS)
    assert await failed(make, site) == "its import failed: OSError: no disk (ik_probe/__init__.py:1)"


async def test_an_import_that_hangs_is_left_behind_and_its_place_is_told(
    make: Callable[..., Providers], site: Any
) -> None:
    site.install("probe", "import threading\n\nRELEASE = threading.Event()\nRELEASE.wait(60)\n", **MODULE)
    site.install("good", GOOD, value="ik_good.plugin", services=["beat"])
    providers = make("{package: ik-probe}, {package: ik-good}", seconds=3)
    await providers.start()
    module_of().RELEASE.set()
    assert row(providers, "good").status.state is ProviderState.READY
    assert row(providers).status.reason == "its import did not end in 3 s, it is at ik_probe/plugin.py:4"


async def test_another_package_of_the_same_name_is_not_run(
    make: Callable[..., Providers], site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "ik_probe"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    (other / "plugin.py").write_text("plugin = object()\n")
    site.install("probe", WHOLE, **PARTS)
    providers = make("{package: ik-probe}")
    monkeypatch.syspath_prepend(str(other.parent))
    await providers.start()
    assert "is not in the package that its manifest is in" in row(providers).status.reason


def hook(body: str, name: str = "innkeeper_capabilities", before: str = "") -> str:
    """Return a provider whose one hook has this body; ``Action`` is a good capability."""
    base = WHOLE[: WHOLE.index("class Plugin")]
    return f"{base}\n{before}\n\n@hookimpl\ndef {name}(context):\n{textwrap.indent(body, '    ')}\n"


HOOKS = [
    (hook("raise RuntimeError('no')"), ACTION, "its hooks failed: RuntimeError: no (ik_probe/plugin.py:"),
    (hook("raise SystemExit(4)"), ACTION, "its hooks ended with sys.exit(4)"),
    (hook("return 5"), ACTION, "innkeeper_capabilities returned no list (expected a list, found int)"),
    (hook("return None"), ACTION, "its manifest declares the capability probe@1.0.0, which its hook did not return"),
    (hook("return ['x']"), ACTION, "innkeeper_capabilities returned a wrong thing (expected Capability, found str)"),
    (hook("return [Action]"), ACTION, "returned a wrong thing (expected Capability, found ABCMeta)"),
    (hook("return [Action('a'), Action('b')]"), ACTION, "its hook returned the capability probe@1.0.0 more than once"),
    (
        hook("return [Action('a')]"),
        {"capabilities": [{"id": "other@1.0.0", "type": "action"}]},
        "its hook returned the capability probe@1.0.0, which its manifest does not declare for this host",
    ),
    (hook("return [Plain('a')]"), ACTION, "returned a wrong thing (expected Capability, found Plain)"),
    (
        hook("return [Plain('a')]", "innkeeper_modules"),
        {"modules": [{"name": "other"}]},
        "its hook returned the module type plain, which its manifest does not declare for this host",
    ),
    (
        hook("return [Odd('a')]", "innkeeper_modules", "class Odd(Plain):\n    name = 5"),
        MODULE,
        "the name of a module type is no text",
    ),
    (
        hook("return [Odd('a')]", before="class Odd(Action):\n    info = 'me'"),
        ACTION,
        "info",
    ),
    (
        hook("return [Odd('a')]", before="class Odd(Action):\n    @property\n    def info(self): raise KeyError('x')"),
        ACTION,
        "failed with KeyError",
    ),
    (
        hook("return [Other('a')]", before="class Other(Action):\n    info = CapabilityInfo('other@1.0.0', 'action')"),
        ACTION,
        "its hook returned the capability other@1.0.0, which its manifest does not declare for this host",
    ),
    (hook("return [Part('a')]", "innkeeper_services"), ACTION, "the number of services is wrong"),
    (hook("return []", "innkeeper_services"), SERVICE, "(expected 1 as its manifest declares, found 0)"),
    (hook("return [object()]", "innkeeper_services"), SERVICE, "a service has no coroutine function start"),
    (
        hook("return [Sync()]", "innkeeper_services", "class Sync(Part):\n    def __init__(self): pass\n"
             "    def close(self): pass"),
        SERVICE,
        "a service has no coroutine function close",
    ),
    (hook("return []").replace("def innkeeper_cap", "async def innkeeper_cap"), ACTION, "is a coroutine function"),
    (hook("return []", "innkeeper_unknown"), ACTION, "its hooks failed: they are not valid: unknown hook"),
    (hook("return []").replace("(context)", "(context, more)"), ACTION, "its hooks failed: they are not valid: "),
    ("pass\n", ACTION, "its manifest declares the capability probe@1.0.0, which its hook did not return"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "parts", "said"), HOOKS)
async def test_a_hook_that_returns_anything_but_what_was_declared_fails(
    *, make: Callable[..., Providers], site: Any, registry: Registry, code: str, parts: dict[str, Any], said: str
) -> None:
    site.install("probe", code, value="ik_probe.plugin", **parts)
    assert said in await failed(make, site)
    assert all(resolved.provider_id != "probe" or not _callable(registry) for resolved in registry.list(Operator()))


def _callable(registry: Registry) -> bool:
    try:
        registry.resolve(WORKFLOW, "probe@1.0.0")
    except Exception:  # noqa: BLE001 - any refusal will do
        return False
    return True


async def test_a_hook_that_hangs_is_left_behind(make: Callable[..., Providers], site: Any) -> None:
    code = hook("RELEASE.wait(60)", before="import threading\nRELEASE = threading.Event()")
    site.install("probe", code, value="ik_probe.plugin", **ACTION)
    reason = await failed(make, site, seconds=3)
    module_of().RELEASE.set()
    assert reason.startswith("its hooks did not end in 3 s, it is at ik_probe/plugin.py:")


def part(start: str = "pass", close: str = "pass") -> str:
    """Return a whole provider whose capability starts and closes like this."""
    body = f"""
class Action(Part, Capability):
    @property
    def info(self):
        return CapabilityInfo("probe@1.0.0", CapabilityType.ACTION)

    async def start(self):
        EVENTS.append("start capability")
        {start}

    async def close(self):
        EVENTS.append("close capability")
        {close}
"""
    head, _, rest = WHOLE.partition("class Action")
    return f"import asyncio\nRELEASE = asyncio.Event()\n{head}{body}\n\nclass Plugin{rest.partition('class Plugin')[2]}"


STARTS = [
    ("raise ConnectionError('nobody there')", "failed: ConnectionError: nobody there (ik_probe/plugin.py:"),
    ("raise SystemExit(5)", "ended with sys.exit(5) (ik_probe/plugin.py:"),
    ("raise asyncio.CancelledError", "was cancelled by the provider itself"),
    ("await asyncio.wait_for(asyncio.Event().wait(), 0.01)", "failed: TimeoutError"),
]


@pytest.mark.parametrize(("start", "said"), STARTS)
async def test_a_start_that_fails_undoes_what_was_started(
    make: Callable[..., Providers], site: Any, registry: Registry, start: str, said: str
) -> None:
    site.install("probe", part(start), **PARTS)
    reason = await failed(make, site)
    assert reason.startswith(f"the start of the capability probe@1.0.0 {said}")
    assert module_of().EVENTS == ["start module", "start capability", "close capability", "close module"]
    assert not _callable(registry)


async def test_a_service_that_fails_takes_the_capability_away_again(
    make: Callable[..., Providers], site: Any, registry: Registry
) -> None:
    code = WHOLE.replace('return [Part("service")]', 'return [Bad("service")]').replace(
        "plugin = Plugin()",
        "class Bad(Part):\n    async def start(self):\n        raise ValueError('no')\n\n\nplugin = Plugin()",
    )
    site.install("probe", code, **PARTS)
    assert "the start of the service Bad failed: ValueError: no" in await failed(make, site)
    assert module_of().EVENTS[-3:] == ["close service", "close capability", "close module"]
    assert not _callable(registry)


async def test_a_start_that_hangs_is_cancelled(make: Callable[..., Providers], site: Any) -> None:
    site.install("probe", part("await RELEASE.wait()"), **PARTS)
    reason = await failed(make, site, seconds=1)
    assert reason.startswith("the start of the capability probe@1.0.0 did not end in 1 s, it is at ik_probe/plugin.py:")


CLOSES = [
    ("raise OSError('no')", "the end of the capability probe@1.0.0 failed: OSError: no"),
    ("await asyncio.Event().wait()", "the end of the capability probe@1.0.0 did not end in 1 s"),
    ("raise SystemExit(1)", "the end of the capability probe@1.0.0 ended with sys.exit(1)"),
]


@pytest.mark.parametrize(("close", "said"), CLOSES)
async def test_an_end_that_fails_or_hangs_stops_nobody_else(
    make: Callable[..., Providers], site: Any, registry: Registry, close: str, said: str
) -> None:
    site.install("probe", part(close=close), **PARTS)
    providers = make("{package: ik-probe}", seconds=1)
    await providers.start()
    assert row(providers).status.state is ProviderState.READY
    await providers.close()
    assert row(providers).status.state is ProviderState.STOPPED
    assert row(providers).status.reason.startswith(said)
    assert module_of().EVENTS[-1] == "close module"
    assert not _callable(registry)


async def test_what_does_not_let_itself_be_cancelled_is_named(
    make: Callable[..., Providers], site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper.providers.containment._GRACE_SECONDS", 0.05)
    stubborn = (
        "while not RELEASE.is_set():\n            try:\n                await RELEASE.wait()\n"
        "            except asyncio.CancelledError:\n                continue"
    )
    site.install("probe", part(close=stubborn), **PARTS)
    providers = make("{package: ik-probe}", seconds=0.5)
    await providers.start()
    await providers.close()
    assert providers.abandoned() == ["innkeeper probe: the end of the capability probe@1.0.0"]
    module_of().RELEASE.set()
    await until(lambda: not providers.abandoned())


async def test_a_required_provider_that_fails_stops_the_host_and_is_named(
    make: Callable[..., Providers], site: Any
) -> None:
    site.install("probe", "raise ValueError('broken')\n", **MODULE)
    site.install("good", GOOD, value="ik_good.plugin", services=["beat"])
    providers = make("{package: ik-good}, {package: ik-probe, required: true}")
    with pytest.raises(ProviderFailedError) as caught:
        await providers.start()
    assert caught.value.provider == "probe"
    assert "the required provider probe is failed: its import failed: ValueError: broken" in str(caught.value)
    assert "take `required: true` from its entry at " in str(caught.value)
    await providers.close()
    assert row(providers, "good").status.state in (ProviderState.STOPPED, ProviderState.STARTING)


@pytest.mark.parametrize("entry", ["{package: ik-missing, required: true}", "{package: ik-probe, required: true}"])
async def test_a_required_provider_that_cannot_be_started_stops_the_host_before_anything_runs(
    make: Callable[..., Providers], site: Any, entry: str
) -> None:
    site.install("probe", manifest={"sources": ["git"]})
    site.install("good", "raise SystemExit('imported')\n", value="ik_good.plugin", services=["beat"])
    providers = make(f"{{package: ik-good}}, {entry}")
    with pytest.raises(ProviderFailedError, match="the required provider"):
        await providers.start()
    assert "ik_good.plugin" not in sys.modules


async def test_a_required_provider_does_not_wait_for_one_that_hangs(make: Callable[..., Providers], site: Any) -> None:
    site.install("slow", "import threading\nRELEASE = threading.Event()\nRELEASE.wait(60)\n", **MODULE)
    site.install("probe", "raise ValueError('broken')\n", **SERVICE)
    providers = make("{package: ik-slow}, {package: ik-probe, required: true}", seconds=50)
    with pytest.raises(ProviderFailedError, match="the required provider probe"):
        await asyncio.wait_for(providers.start(), 40)
    await until(lambda: hasattr(sys.modules.get("ik_slow.plugin"), "RELEASE"))
    module_of("slow").RELEASE.set()


async def test_a_start_that_is_cut_off_can_be_closed(make: Callable[..., Providers], site: Any) -> None:
    site.install("probe", part("await RELEASE.wait()"), **PARTS)
    providers = make("{package: ik-probe}")
    starting = asyncio.create_task(providers.start())
    await until(lambda: "start capability" in getattr(sys.modules.get("ik_probe.plugin"), "EVENTS", ()))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await providers.close()
    assert module_of().EVENTS[-2:] == ["close capability", "close module"]
    assert row(providers).status.state is ProviderState.STOPPED


async def test_a_config_that_does_not_fit_once_it_is_known_fails_and_shows_no_secret(
    make: Callable[..., Providers], site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    schema = {"type": "object", "properties": {"key": {"type": "string", "maxLength": 3}}}
    site.install("probe", WHOLE, **PARTS, config=schema)
    reason = await failed(make, site, "{package: ik-probe, config: {key: {$env: KEY}}}", environ={"KEY": SECRET})
    assert "config.key: <secret> is too long" in reason
    assert SECRET not in reason + caplog.text


async def test_a_secret_that_a_provider_shouts_is_not_repeated(
    make: Callable[..., Providers], site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site.install("probe", hook("raise ValueError(context.config['key'])"), value="ik_probe.plugin", **ACTION,
                 config={"type": "object"})  # fmt: skip
    reason = await failed(make, site, "{package: ik-probe, config: {key: {$env: KEY}}}", environ={"KEY": SECRET})
    assert reason.startswith("its hooks failed: ValueError: <secret> (")
    assert "Traceback" in caplog.text
    assert SECRET not in caplog.text


async def test_a_reference_that_cannot_be_resolved_fails_before_the_import(
    make: Callable[..., Providers], site: Any
) -> None:
    site.install("probe", WHOLE, **PARTS, config={"type": "object"})
    reason = await failed(make, site, "{package: ik-probe, config: {key: {$env: KEY}}}")
    assert reason == "the variable KEY is not set; set KEY, or change the reference"
    assert "ik_probe.plugin" not in sys.modules


async def test_providers_start_after_what_they_need_and_stop_before_it(
    make: Callable[..., Providers], site: Any
) -> None:
    for id_, needs in (("last", ["middle"]), ("middle", ["first"]), ("first", [])):
        site.install(id_, GOOD, value=f"ik_{id_}.plugin", services=["beat"], needs=needs)
    providers = make("{package: ik-last}, {package: ik-middle}, {package: ik-first}")
    seen: list[tuple[str, str]] = []
    providers.subscribe(lambda row: seen.append((row.id, row.status.state.value)))
    await providers.start()
    await providers.close()
    assert [id_ for id_, state in seen if state == "ready"] == ["first", "middle", "last"]
    assert [id_ for id_, state in seen if state == "stopped"] == ["last", "middle", "first"]


async def test_what_needs_a_provider_that_failed_fails_and_says_so(make: Callable[..., Providers], site: Any) -> None:
    site.install("needed", "raise ValueError('broken')\n", **MODULE)
    site.install("probe", WHOLE, needs=["needed"], **{**PARTS, "modules": []})
    assert await failed(make, site, "{package: ik-needed}, {package: ik-probe}") == "it needs needed, which is failed"
    assert "ik_probe.plugin" not in sys.modules


async def test_grants_and_visibilities_reach_the_registry(
    make: Callable[..., Providers], site: Any, registry: Registry
) -> None:
    site.install("probe", WHOLE, **PARTS)
    site.install("friend", GOOD, value="ik_friend.plugin", services=["beat"])
    entries = "{package: ik-probe, visibility: internal}, {package: ik-friend, grants: [probe@1.0.0]}"
    providers = make(entries)
    await providers.start()
    with pytest.raises(NotFoundError):
        registry.resolve(WORKFLOW, "probe@1.0.0")
    assert registry.resolve(ProviderCaller("friend"), "probe@1.0.0").info.id == "probe@1.0.0"
    assert registry.resolve(Operator(), "probe@1.0.0", Right.SEE).provider_id == "probe"


async def test_a_provider_that_is_not_started_declares_and_imports_nothing(
    make: Callable[..., Providers], site: Any, registry: Registry
) -> None:
    loud = "raise SystemExit('imported')\n"
    site.install("off", loud, init=loud, capabilities=[{"id": "off@1.0.0", "type": "action"}])
    site.install("process", loud, init=loud, sources=["git"])
    providers = make(
        "{package: ik-off, enabled: false}, {package: ik-process}, {package: ik-missing},"
        " {moduleURI: x, installPath: .}, {moduleURI: y, installPath: .}"
    )
    await providers.start()
    assert [(row.id, row.status.state.value) for row in providers.statuses()] == [
        ("off", "disabled"),
        ("process", "unsupported"),
        ("any", "failed"),
        ("plugins.any[3]", "stopped"),
        ("plugins.any[4]", "stopped"),
    ]
    assert registry.list(Operator()) == []


async def test_a_provider_with_commands_only_is_ready_and_never_imported(
    make: Callable[..., Providers], site: Any
) -> None:
    loud = "raise SystemExit('imported')\n"
    site.install("probe", loud, init=loud, commands=[{"noun": "probe", "run": "ik_probe.cli:main"}])
    providers = make("{package: ik-probe}")
    await providers.start()
    assert row(providers).status.state is ProviderState.READY


async def test_a_provider_of_which_something_is_not_started_is_degraded_and_serves(
    make: Callable[..., Providers], site: Any
) -> None:
    site.install("probe", WHOLE, **PARTS, sources=["git"])
    providers = make("{package: ik-probe}")
    await providers.start()
    assert row(providers).status.state is ProviderState.DEGRADED
    assert row(providers).status.reason == "this version of the host does not start the workflow source git"
    assert "plain" in providers.module_types()


async def test_module_types_are_in_the_order_of_plugins_yaml(make: Callable[..., Providers], site: Any) -> None:
    for id_ in ("one", "two", "three"):
        code = hook("return [Plain('m')]", "innkeeper_modules").replace('return "plain"', f'return "{id_}"')
        site.install(id_, code, value=f"ik_{id_}.plugin", modules=[{"name": id_}])
    providers = make("{package: ik-three}, {package: ik-one}, {package: ik-two}")
    await providers.start()
    assert list(providers.module_types()) == ["three", "one", "two"]


async def test_a_subscription_can_be_ended(make: Callable[..., Providers], site: Any) -> None:
    site.install("probe", GOOD, value="ik_probe.plugin", services=["beat"])
    providers = make("{package: ik-probe}")
    seen: list[ProviderStatusRow] = []
    unsubscribe = providers.subscribe(seen.append)
    unsubscribe()
    unsubscribe()
    await providers.start()
    assert seen == []


async def test_a_group_named_like_a_path_reaches_no_file(make: Callable[..., Providers], settings: Settings) -> None:
    victim = settings.runtime_dir / "victim"
    victim.mkdir()
    entry = "{moduleURI: x, installPath: .}"
    providers = make(f"plugins: {{'../../victim': [{entry}], '{victim}': [{entry}]}}")
    await providers.start()
    await providers.close()
    assert victim.exists()


async def test_directories_that_others_could_write_fail_the_provider(
    make: Callable[..., Providers], site: Any, settings: Settings
) -> None:
    site.install("probe", WHOLE, **PARTS)
    folder = settings.data_dir / "providers" / "probe"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert "can be written by others" in await failed(make, site)


async def test_whose_code_a_stack_is_in_can_be_told(make: Callable[..., Providers], site: Any) -> None:
    folder = site.install("probe", WHOLE, **PARTS)
    providers = make("{package: ik-probe}, {package: ik-missing}")
    assert dict(providers.package_dirs()) == {folder: "probe"}


def test_the_default_set_starts_and_keeps_the_engine_of_guests_out_of_the_host(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    code = f"""
import asyncio, json, logging, sys, tempfile
from pathlib import Path
from innkeeper.capabilities.limits import LimitTable
from innkeeper.capabilities.registry import Registry
from innkeeper.config.plugins import load_plugins
from innkeeper.config.settings import load_settings, prepare
from innkeeper.keys import load_or_create
from innkeeper.providers.catalog import build_catalog
from innkeeper.providers.discovery import discover
from innkeeper.providers.manager import Providers
from innkeeper_sdk.errors import ProviderFailedError

def unsupervised(plan, registrar, changed):
    raise ProviderFailedError("no process is started here")

async def main(folder):
    places = {{key: folder + "/" + key[0] for key in ("data_dir", "cache_dir", "runtime_dir")}}
    settings = load_settings(environ={{}}, flags=places)
    prepare(settings)
    catalog = build_catalog(load_plugins([Path({str(root / "plugins.yaml")!r})]), discover())
    providers = Providers(catalog, settings=settings, registry=Registry(), limits=LimitTable(catalog.limits),
                          host_key=load_or_create(settings.data_dir), supervise=unsupervised,
                          logger=logging.getLogger("x"))
    await providers.start()
    states = {{row.id: [row.status.state.value, row.status.reason] for row in providers.statuses()}}
    await providers.close()
    print(json.dumps([states, sorted({{"wasmtime", "brotli"}} & set(sys.modules))]))

with tempfile.TemporaryDirectory(prefix="ik-") as folder:
    asyncio.run(main(folder))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path,
        env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    states, heavy = json.loads(done.stdout)
    assert [states[id_] for id_ in ("wasm", "cron", "consensus")] == [["ready", ""]] * 3
    assert heavy == []


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("sys.exit(Weird())", "the start of the service Service ended with sys.exit(Weird) (ik_probe/plugin.py:"),
        ("raise Masked", "the start of the service Service failed: Masked (ik_probe/plugin.py:"),
        ("raise KeyboardInterrupt", "the start of the service Service failed: KeyboardInterrupt (ik_probe/plugin.py:"),
        ("raise nested()", "the start of the service Service failed: ExceptionGroup"),
    ],
)
async def test_a_start_that_fails_in_a_way_that_cannot_be_told_harms_nobody(
    make: Callable[..., Providers], site: Any, start: str, reason: str
) -> None:
    code = f"""
import sys

from innkeeper_sdk import hookimpl


class Weird:
    def __repr__(self):
        raise RuntimeError("no words")


class Masked(Exception):
    @property
    def __class__(self):
        raise RuntimeError("no class")


def nested():
    error = ValueError("x")
    for _ in range(3000):
        error = ExceptionGroup("g", [error])
    return error


class Service:
    async def start(self):
        {start}

    async def close(self):
        pass


@hookimpl
def innkeeper_services(context):
    return [Service()]
"""
    site.install("probe", code, value="ik_probe.plugin", **SERVICE)
    assert (await failed(make, site)).startswith(reason)


async def test_what_gets_through_the_wall_is_that_providers_failure(
    make: Callable[..., Providers], site: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("not for a log")

    monkeypatch.setattr(registry, "register", broken)
    site.install("probe", WHOLE, **PARTS)
    reason = await failed(make, site)
    assert reason.startswith("it cannot be started: ZeroDivisionError ")
    assert "not for a log" not in reason
    assert "close capability" in module_of().EVENTS


async def test_a_part_whose_method_cannot_be_looked_up_harms_nobody(make: Callable[..., Providers], site: Any) -> None:
    code = WHOLE.replace(
        "class Plain(Part, ModuleType):",
        "class Plain(Part, ModuleType):\n    @property\n    def start(self):\n        raise KeyboardInterrupt\n",
    )
    site.install("probe", code, **PARTS)
    reason = await failed(make, site)
    assert reason.startswith("the start of the module type plain failed: KeyboardInterrupt")


async def test_what_a_former_host_has_left_of_its_launches_is_removed(
    make: Callable[..., Providers], settings: Settings, tmp_path: Path
) -> None:
    sockets = settings.socket_dir / "loop"
    (sockets / "0a1b2c3d" / "plugin-1").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(sockets / "0a1b2c3d" / "plugin-1" / "1.sock"))
    (sockets / "file").touch()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (sockets / "link").symlink_to(kept)
    await make("").start()
    assert list(sockets.iterdir()) == []
    assert (kept / "file").exists()


async def test_what_a_former_host_has_left_and_cannot_be_removed_is_told_and_stops_nobody(
    make: Callable[..., Providers], site: Any, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.socket_dir / "loop").touch()
    site.install("good", GOOD, value="ik_good.plugin", services=["beat"])
    providers = make("{package: ik-good}")
    await providers.start()
    assert row(providers, "good").status.state is ProviderState.READY
    assert f"something of a former host is left: {settings.socket_dir / 'loop'}: Not a directory" in caplog.messages
