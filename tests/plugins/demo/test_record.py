"""The object that ``-o json`` prints has exactly the keys that it promises, whatever was reached."""

from __future__ import annotations

import json

from innkeeper_demo.record import DemoRecord, ExecutionRecord, InternalCall, LeftProcess, ProviderRow


def test_its_keys_are_always_there() -> None:
    shown = DemoRecord().to_dict()
    assert list(shown) == [
        "ok",
        "seconds",
        "providers",
        "plain",
        "confidential",
        "internal_calls",
        "unknown_call",
        "leftovers",
    ]
    assert shown["plain"].keys() == {"workflow_id", "executions"}
    assert shown["confidential"].keys() == {"workflow_id", "executions", "binary_sha256", "enclave_pids"}
    assert shown["unknown_call"].keys() == {"error"}
    assert shown["leftovers"].keys() == {"processes", "sockets", "files"}
    assert shown["ok"] is False


def test_its_rows_are_objects() -> None:
    record = DemoRecord()
    record.providers.append(ProviderRow("wasm", "host", "ready", 7, None))
    record.plain.executions.append(ExecutionRecord("ab", "success", {"value": [1]}))
    record.internal_calls.append(InternalCall("vault@1.0.0", refused=True, error="capability vault@1.0.0 not found"))
    record.leftovers.processes.append(LeftProcess(9, "python"))
    shown = json.loads(json.dumps(record.to_dict()))
    assert shown["providers"] == [{"id": "wasm", "mode": "host", "state": "ready", "pid": 7, "generation": None}]
    assert shown["plain"]["executions"] == [{"execution_id": "ab", "status": "success", "result": {"value": [1]}}]
    assert shown["internal_calls"] == [
        {"id": "vault@1.0.0", "refused": True, "error": "capability vault@1.0.0 not found"}
    ]
    assert shown["leftovers"]["processes"] == [{"pid": 9, "name": "python"}]
