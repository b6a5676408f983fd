"""What is to be run of a provider's process parts.

Rules of this module:

1. A process gets nothing of the host's environment: whose it is, where it runs, its provider's directories, and the
   ``env`` of its entry. Only a helper, which the guard starts, is given the two variables by which programs and
   libraries are found.
2. An executable is a command of one directory, that of this environment, and is looked for nowhere else.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from innkeeper.loop.plans import HelperPlan, ProcessPlan, read_restart
from innkeeper.providers.catalog import CatalogEntry
from innkeeper.providers.checks import runs_in_host
from innkeeper_sdk.errors import ProviderFailedError
from innkeeper_sdk.hooks import ProviderContext
from innkeeper_sdk.manifest import Manifest, Process

__all__ = ["process_plans"]

_FOUND_BY: Final = ("LD_LIBRARY_PATH", "PATH")


def process_plans(
    item: CatalogEntry,
    manifest: Manifest,
    context: ProviderContext,
    *,
    env: Mapping[str, str],
    socket_dir: Path,
    commands: Path,
) -> list[ProcessPlan]:
    """Return what is to be run, in the order of the manifest.

    Args:
        item: The provider's entry.
        manifest: Its manifest.
        context: What its host part is given: the configuration and directories are the same.
        env: The entry's ``env``, references resolved.
        socket_dir: Where processes make their sockets; short.
        commands: Where executables are.

    Raises:
        ProviderFailedError: An executable is not there.
        ConfigError: The entry's ``restart`` is not valid.
    """
    restart = read_restart(item.entry.restart, provider=item.id, path=f"{item.entry.origin}: {item.entry.path}.restart")
    in_host = {one.id for one in manifest.capabilities if runs_in_host(one, item.entry.mode)}
    plans = []
    for part in item.parts:
        if part.mode != "loop":
            continue
        process = manifest.processes[part.name]
        helpers = [
            HelperPlan(
                name=helper.name,
                executable=_executable(item, helper.name, manifest.processes[helper.name], commands),
                environ=_found_by() | _environ(context, helper.name, env),
            )
            for helper in item.parts
            if helper.process == part.name
        ]
        plan = ProcessPlan(
            provider_id=item.id,
            name=part.name,
            executable=_executable(item, part.name, process, commands),
            environ=_environ(context, part.name, env),
            capabilities=tuple(id_ for id_ in process.capabilities if id_ not in in_host),
            config=json.dumps(dict(context.config), ensure_ascii=False, sort_keys=True),
            helpers=tuple(helpers),
            restart=restart,
            socket_dir=socket_dir,
        )
        plans.append(plan)
    return plans


def _environ(context: ProviderContext, name: str, env: Mapping[str, str]) -> dict[str, str]:
    return {
        "LANG": "C.UTF-8",
        **env,
        "INNKEEPER_PROVIDER": context.provider,
        "INNKEEPER_PROCESS": name,
        "INNKEEPER_ENVIRONMENT": context.environment,
        "INNKEEPER_DATA_DIR": str(context.data_dir),
        "INNKEEPER_CACHE_DIR": str(context.cache_dir),
        "INNKEEPER_RUNTIME_DIR": str(context.runtime_dir),
    }


def _found_by() -> dict[str, str]:
    return {name: os.environ[name] for name in _FOUND_BY if name in os.environ}


def _executable(item: CatalogEntry, name: str, process: Process, commands: Path) -> Path:
    path = commands / process.executable
    if path.is_file() and os.access(path, os.X_OK):
        return path
    extra = "" if process.extra is None else f"[{process.extra}]"
    raise ProviderFailedError(
        f"the command {process.executable} of its process {name} is not installed in {commands}",
        hint=f"install it with: pip install {shlex.quote(item.package + extra)}",
    )
