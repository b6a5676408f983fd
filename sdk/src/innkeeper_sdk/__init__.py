"""All that a provider of Innkeeper needs, and nothing that runs a host.

The names below are imported when they are first used: a command that needs only ``innkeeper_sdk.errors`` does not
pay for protobuf and pluggy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innkeeper_sdk.hooks import ProviderContext, hookimpl

__all__ = ["ProviderContext", "__version__", "hookimpl"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("ProviderContext", "hookimpl"):
        return getattr(import_module("innkeeper_sdk.hooks"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
