"""`make proto` gives the same code everywhere, and `make check-proto` sees every difference.

It is tried on copies of a few packages; only the check runs on the tree itself, which it does not write.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

ROOT = Path(__file__).parents[2]
CRON = ROOT / "plugins/cron/src/innkeeper_cron"


def make(target: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "-f", str(ROOT / "proto.mk"), f"BIN={Path(sys.executable).parent}"]
    return subprocess.run([*command, target], cwd=root, capture_output=True, text=True, check=False, timeout=60)


def compiled(path: Path) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with one package of messages of the SDK, and one provider."""
    values = "sdk/src/innkeeper_sdk/proto/values"
    for source, target in ((ROOT / values, values), (CRON, "plugins/cron/src/innkeeper_cron")):
        shutil.copytree(source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_the_generated_code_is_that_of_the_proto_files() -> None:
    done = make("check-proto", ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_generation_gives_the_same_bytes_in_another_directory(workspace: Path) -> None:
    before = files(workspace)
    for path in (*workspace.rglob("*_pb2*"), *workspace.rglob("messages.binpb")):
        path.unlink()
    assert make("proto", workspace).returncode == 0
    assert files(workspace) == before


@pytest.mark.parametrize("name", ["values_pb2.py", "values_pb2.pyi"])
def test_the_check_names_an_edited_file_and_the_remedy(workspace: Path, name: str) -> None:
    path = workspace / "sdk/src/innkeeper_sdk/proto/values/v1" / name
    path.write_text(path.read_text() + "\n")
    done = make("check-proto", workspace)
    assert done.returncode != 0
    assert done.stdout.splitlines() == [
        f"sdk/src/innkeeper_sdk/proto/values/v1/{name} is not what the .proto files give",
        "run `make proto`",
    ]


def test_what_no_proto_file_gives_any_more_is_reported_then_removed(workspace: Path) -> None:
    (workspace / "plugins/cron/src/innkeeper_cron/proto/capabilities/scheduler/cron/v1/trigger.proto").unlink()
    done = make("check-proto", workspace)
    assert done.returncode != 0
    assert {line.split()[0].rpartition("/")[2] for line in done.stdout.splitlines()[:-1]} == {
        "messages.binpb",
        "trigger_pb2.py",
        "trigger_pb2.pyi",
    }
    assert make("proto", workspace).returncode == 0
    assert make("check-proto", workspace).returncode == 0
    assert not list(workspace.rglob("trigger_pb2*"))


def test_a_faulty_proto_file_changes_nothing(workspace: Path) -> None:
    (workspace / "sdk/src/innkeeper_sdk/proto/values/v1/bad.proto").write_text('syntax = "proto3"; message {')
    before = files(workspace)
    for target in ("proto", "check-proto"):
        done = make(target, workspace)
        assert done.returncode != 0
        assert "bad.proto" in done.stderr
    assert files(workspace) == before


@pytest.fixture
def new_provider(workspace: Path) -> Path:
    package = workspace / "plugins/new/src/innkeeper_new"
    package.mkdir(parents=True)
    (package / "new.proto").write_text(
        'syntax = "proto3"; package new.v1;\n'
        'import "innkeeper_sdk/proto/values/v1/values.proto";\n'
        "message Thing { values.v1.Value value = 1; }\n"
        "service Things { rpc Swap(Thing) returns (Thing); }\n"
    )
    return package


def test_a_new_provider_is_found_and_its_descriptors_hold_what_it_imports(workspace: Path, new_provider: Path) -> None:
    (new_provider / "innkeeper-provider.yaml").write_text("id: new\nmessages: messages.binpb\n")
    assert make("proto", workspace).returncode == 0
    made = {"messages.binpb", "new_pb2.py", "new_pb2.pyi", "new_pb2_grpc.py", "new_pb2_grpc.pyi"}
    assert {path.name for path in new_provider.iterdir()} == made | {"new.proto", "innkeeper-provider.yaml"}
    assert compiled(new_provider / "messages.binpb").FindMessageTypeByName("values.v1.Value")


def test_a_provider_whose_manifest_names_no_messages_gets_no_descriptors(workspace: Path, new_provider: Path) -> None:
    (new_provider / "innkeeper-provider.yaml").write_text("id: new\n")
    assert make("proto", workspace).returncode == 0
    assert (new_provider / "new_pb2.py").is_file()
    assert not (new_provider / "messages.binpb").exists()
