"""The host part of the provider ``wasm``: registers the module type. What is heavy runs in processes of its own."""

from __future__ import annotations

from innkeeper_sdk import ProviderContext, hookimpl
from innkeeper_sdk.module import ModuleType

__all__ = ["plugin"]


class _Plugin:
    @hookimpl
    def innkeeper_modules(self, context: ProviderContext) -> list[ModuleType]:
        from innkeeper_wasm.driver import Runtime  # noqa: PLC0415 - not before it is enabled
        from innkeeper_wasm.module import WasmModuleType  # noqa: PLC0415 - the same

        runtime = Runtime(context.cache_dir / "modules", logger=context.logger)
        return [WasmModuleType(runtime, context.limits)]


plugin = _Plugin()
