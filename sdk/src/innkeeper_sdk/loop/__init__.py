"""The wire of LOOP plugins: what a plugin needs, and what a host and a plugin share.

Three lines make a plugin::

    from innkeeper_sdk.loop import serve

    serve(lambda context: [MyCapability(context)])

The names below are imported when they are first used: a host that needs only one module of the wire does not pay for
the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innkeeper_sdk.loop.context import PluginContext
    from innkeeper_sdk.loop.plugin import serve

__all__ = ["PluginContext", "serve"]

_HOMES = {"PluginContext": "context", "serve": "plugin"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"innkeeper_sdk.loop.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
