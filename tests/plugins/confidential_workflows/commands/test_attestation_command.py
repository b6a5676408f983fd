"""The command ``attestation verify``: its verdicts, its forms, its exit codes."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest
import yaml
from attrs import frozen

from innkeeper_confidential_workflows.attestation import MAX_DOCUMENT, STEP_NAMES
from innkeeper_confidential_workflows.commands import attestation
from innkeeper_confidential_workflows.nsm import Authority, NsmClient, SimulatedNsm
from innkeeper_sdk.command import command_line
from innkeeper_sdk.errors import UsageError

VECTORS = Path(__file__).parent.parent / "attestation" / "vectors"
REAL = {entry["file"]: entry for entry in json.loads((VECTORS / "index.json").read_text())}
CASES = json.loads((VECTORS / "test-root-cases.json").read_text())
RUN = "innkeeper_confidential_workflows.commands.attestation:verify"

PRODUCTION = REAL["nitro-prod-2022-10-13.cose"]
FILE = str(VECTORS / PRODUCTION["file"])
AT = ("--at", PRODUCTION["verify_at"])
PCRS = tuple(word for index in range(3) for word in ("--pcr", f"{index}={PRODUCTION[f'pcr{index}']}"))
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@frozen
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def run(*words: str, now: datetime = NOW) -> Done:
        code = attestation.verify(list(words), clock=lambda: now)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@frozen
class Simulation:
    directory: Path
    client: NsmClient

    @property
    def root(self) -> str:
        return str(self.directory / "root.pem")

    def write(self, document: bytes) -> str:
        path = self.directory / "document.cose"
        path.write_bytes(document)
        return str(path)


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    authority = Authority.load_or_create(tmp_path / "sim", clock=lambda: NOW)
    pcrs = {index: bytes([index + 1]) * 48 for index in range(3)}
    nsm = SimulatedNsm(authority, module_id="i-INSECURE-SIM-1", pcrs=pcrs, clock=lambda: NOW)

    class Direct:
        exchange = staticmethod(nsm.handle)

    return Simulation(tmp_path / "sim", NsmClient(Direct()))


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_genuine_document_is_ok(verify: Callable[..., Done]) -> None:
    done = verify(FILE, *AT, "-o", "json")

    assert (done.code, done.err) == (0, "")
    assert done.json["verdict"] == "ok"
    assert [step["name"] for step in done.json["steps"]] == list(STEP_NAMES)
    assert all(step["ok"] is True and step["detail"] for step in done.json["steps"])
    assert done.json["module_id"] == PRODUCTION["module_id"]
    assert datetime.fromisoformat(done.json["timestamp"]) == datetime.fromisoformat(PRODUCTION["verify_at"])
    assert done.json["tee"] == "nitro"
    assert {f"pcr{n}": done.json["pcrs"][str(n)] for n in range(3)} == {
        f"pcr{n}": PRODUCTION[f"pcr{n}"] for n in range(3)
    }
    assert sorted(map(int, done.json["pcrs"])) == list(range(16))
    assert done.json["user_data"] is done.json["public_key"] is done.json["claims"] is None
    assert len(bytes.fromhex(done.json["nonce"])) == PRODUCTION["nonce_len"]
    assert len(bytes.fromhex(done.json["payload_sha256"])) == 32


@pytest.mark.parametrize("entry", REAL.values(), ids=lambda entry: str(entry["file"]))
def test_every_real_document_gets_its_verdict(verify: Callable[..., Done], entry: dict[str, Any]) -> None:
    done = verify(str(VECTORS / entry["file"]), "--at", entry["verify_at"], "-o", "json")

    want = "debug_enclave" if "debug" in entry["file"] else "ok"
    assert (done.json["verdict"], done.code) == (want, 0 if want == "ok" else 4)


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: str(case["name"]))
def test_every_case_of_the_test_root_gets_its_verdict(
    verify: Callable[..., Done], case: dict[str, Any], tmp_path: Path
) -> None:
    document, root = tmp_path / "case.cose", tmp_path / "root.pem"
    document.write_bytes(base64.b64decode(case["doc"]))
    root.write_text(CASES["root_pem"])
    at = (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=case["verify_at_ms"])).isoformat()

    done = verify(str(document), "--root", str(root), "--at", at, "-o", "json")

    assert (done.json["verdict"], done.code) == (case["want"], 0 if case["want"] == "ok" else 4)
    assert done.json["tee"] == ("sim" if case["want"] == "ok" else None)


def test_without_a_time_it_is_verified_as_of_now(verify: Callable[..., Done]) -> None:
    now = datetime.fromisoformat(PRODUCTION["verify_at"])

    assert verify(FILE, now=now).code == 0
    assert verify(FILE, "-o", "json", now=now + timedelta(minutes=6)).json["verdict"] == "stale"
    assert verify(FILE, "-o", "json").json["verdict"] == "expired_chain"


@pytest.mark.parametrize("field", ["0", "1", "2", "4", "8"])
def test_a_pcr_that_is_given_must_be_the_one_found(verify: Callable[..., Done], field: str) -> None:
    right = verify(FILE, *AT, "-o", "json").json["pcrs"][field]
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")

    assert verify(FILE, *AT, "--pcr", f"{field}={right.upper()}").code == 0
    done = verify(FILE, *AT, "--pcr", f"{field}={wrong}", "-o", "json")
    assert (done.code, done.json["verdict"]) == (4, "measurement_unknown")


def test_every_pcr_that_is_given_must_be_the_one_found(verify: Callable[..., Done]) -> None:
    assert verify(FILE, *AT, *PCRS).code == 0
    assert verify(FILE, *AT, *PCRS, "--pcr", f"8={'11' * 48}").code == 4
    assert verify(FILE, *AT, "--pcr", f"8={'11' * 48}", *PCRS).code == 4


def test_a_pcr_that_is_given_must_be_there(verify: Callable[..., Done]) -> None:
    done = verify(FILE, *AT, "--pcr", f"16={'00' * 48}", "-o", "json")

    assert (done.code, done.json["verdict"]) == (4, "measurement_unknown")


def test_zeros_that_are_given_do_not_admit_a_debug_enclave(verify: Callable[..., Done]) -> None:
    entry = REAL["nitro-debug-2022-10-12.cose"]
    zeros = [word for index in range(3) for word in ("--pcr", f"{index}={'00' * 48}")]

    done = verify(str(VECTORS / entry["file"]), "--at", entry["verify_at"], *zeros, "-o", "json")

    assert (done.code, done.json["verdict"]) == (4, "debug_enclave")


def test_nonce_and_user_data_that_are_given_must_be_those_found(
    verify: Callable[..., Done], simulation: Simulation
) -> None:
    words = (simulation.write(simulation.client.attest(b"\xaa\xbb", b"\xcc")), "--root", simulation.root, "-o", "json")

    assert verify(*words, "--nonce", "CC", "--user-data", "aaBB").json["verdict"] == "ok"
    assert verify(*words, "--nonce", "cd").json["verdict"] == "nonce_mismatch"
    assert verify(*words, "--nonce", "").json["verdict"] == "nonce_mismatch"
    assert verify(*words, "--user-data", "aa").json["verdict"] == "user_data_mismatch"


def test_a_root_that_is_given_takes_the_place_of_the_real_one(
    verify: Callable[..., Done], simulation: Simulation
) -> None:
    document = simulation.write(simulation.client.attest())

    assert verify(document, "-o", "json").json["verdict"] == "untrusted_chain"
    assert verify(document, "--root", simulation.root, "-o", "json").json["tee"] == "sim"
    assert verify(FILE, *AT, "--root", simulation.root, "-o", "json").json["verdict"] == "untrusted_chain"


def test_the_real_root_stays_the_real_one_when_it_is_given(verify: Callable[..., Done], tmp_path: Path) -> None:
    der: bytes = cbor2.loads(cbor2.loads(Path(FILE).read_bytes())[2])["cabundle"][0]
    body = base64.encodebytes(der).decode()
    pem = tmp_path / "root.pem"
    pem.write_text(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")

    assert verify(FILE, *AT, "--root", str(pem), "-o", "json").json["tee"] == "nitro"


def test_nothing_of_a_refused_document_stands_as_verified(verify: Callable[..., Done]) -> None:
    shown = verify(FILE, "--at", "2022-10-13T12:00:00Z", "-o", "json").json

    assert shown["verdict"] == "expired_chain"
    for field in ("module_id", "timestamp", "tee", "pcrs", "user_data", "nonce", "public_key", "payload_sha256"):
        assert shown[field] is None
    assert shown["claims"]["module_id"] == PRODUCTION["module_id"]
    assert shown["claims"]["pcrs"]["0"] == PRODUCTION["pcr0"]
    assert [step["ok"] for step in shown["steps"]][-2:] == [True, False]


def test_what_cannot_be_read_claims_nothing(verify: Callable[..., Done], tmp_path: Path) -> None:
    path = tmp_path / "document"
    path.write_bytes(b"noise")

    done = verify(str(path), "-o", "json")

    assert (done.code, done.json["verdict"], done.json["claims"]) == (4, "malformed", None)


def test_a_time_that_is_no_date_is_claimed_as_none(verify: Callable[..., Done], tmp_path: Path) -> None:
    parts = cbor2.loads(Path(FILE).read_bytes())
    parts[2] = cbor2.dumps({**cbor2.loads(parts[2]), "timestamp": 2**64 - 1})
    path = tmp_path / "document"
    path.write_bytes(cbor2.dumps(parts))

    done = verify(str(path), *AT, "-o", "json")

    assert (done.json["verdict"], done.json["claims"]["timestamp"]) == ("bad_signature", None)


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_document_may_come_by_standard_input(verify: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(FILE).read_bytes())))

    assert verify("-", *AT, "-o", "json").json["verdict"] == "ok"


@pytest.mark.parametrize("size", [0, MAX_DOCUMENT + 1, 5_000_000])
def test_a_file_of_any_size_gets_a_verdict(verify: Callable[..., Done], tmp_path: Path, size: int) -> None:
    path = tmp_path / "document"
    path.write_bytes(b"\0" * size)

    done = verify(str(path), "-o", "json")

    assert (done.code, done.json["verdict"]) == (4, "too_large" if size else "malformed")


def test_no_more_is_read_than_a_document_may_have(verify: Callable[..., Done]) -> None:
    assert verify("/dev/zero", "-o", "json").json["verdict"] == "too_large"


@pytest.mark.parametrize("name", ["missing.cose", ".", "file/inside", "nul\0"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="the document cannot be read") as error:
        attestation.verify([name])

    assert error.value.path == name
    assert error.value.exit_code == 2


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (),
        (FILE, "another"),
        (FILE, "--at", "2022-10-13"),
        (FILE, "--at", "2022-10-13T08:58:02"),
        (FILE, "--at", "2022-13-13T08:58:02Z"),
        (FILE, "--at", "2022-W41-4T08:58:02Z"),
        (FILE, "--at", "1665651482"),
        (FILE, "--at", "0001-01-01T00:00:00+01:00"),
        (FILE, "--at", "now"),
        (FILE, "--nonce", "abc"),
        (FILE, "--nonce", "zz"),
        (FILE, "--nonce", "aa bb"),
        (FILE, "--user-data", "0xaa"),
        (FILE, "--pcr", "aa"),
        (FILE, "--pcr", "0="),
        (FILE, "--pcr", "=aa"),
        (FILE, "--pcr", "x=aa"),
        (FILE, "--pcr", "0=a"),
        (FILE, "--pcr", "-1=aa"),
        (FILE, "-o", "xml"),
        (FILE, "--out", "json"),
        (FILE, "--allow-debug"),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be_read_are_an_error_of_usage(verify: Callable[..., Done], words: tuple[str, ...]) -> None:
    done = verify(*words)

    assert (done.code, done.out) == (2, "")
    usage, hint, blank, error = done.err.splitlines()
    assert usage == "Usage: innkeeper attestation verify [OPTIONS] FILE"
    assert hint == "Try 'innkeeper attestation verify --help' for help."
    assert blank == ""
    assert error.startswith("Error: ")


@pytest.mark.parametrize(
    "words",
    [("--pcr", "0=aa"), ("--pcr", f"32={'aa' * 48}"), ("--pcr", f"0={'aa' * 48}", "--pcr", f"0={'bb' * 48}")],
    ids=["short", "no such", "two values"],
)
def test_a_pcr_that_no_document_can_have_is_an_error_of_usage(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--pcr"):
        attestation.verify([FILE, *words])


@pytest.mark.parametrize("at", ["2022-10-13T08:58:02Z", "2022-10-13t08:58:02.136z", "2022-10-13 10:58:02.136+02:00"])
def test_a_time_is_written_as_rfc_3339_has_it(verify: Callable[..., Done], at: str) -> None:
    assert verify(FILE, "--at", at).code == 0


@pytest.mark.parametrize("content", [b"", b"noise", b"\0" * 70_000], ids=["empty", "noise", "large"])
def test_a_file_of_roots_that_holds_none_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "root.pem"
    path.write_bytes(content)

    with pytest.raises(UsageError) as error:
        attestation.verify([FILE, "--root", str(path)])

    assert error.value.path == str(path)


def test_a_file_of_roots_that_is_missing_is_an_error() -> None:
    with pytest.raises(UsageError, match="the roots cannot be read"):
        attestation.verify([FILE, "--root", "missing.pem"])


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_tells_every_option(verify: Callable[..., Done], flag: str) -> None:
    done = verify(flag)

    assert done.code == 0
    for option in ("FILE", "--at", "--root", "--pcr", "--nonce", "--user-data", "table|json|yaml|plain"):
        assert option in done.out


# --- forms -----------------------------------------------------------------------------------------------------------


def test_yaml_says_what_json_says(verify: Callable[..., Done]) -> None:
    assert yaml.safe_load(verify(FILE, *AT, "-o", "yaml").out) == verify(FILE, *AT, "-o", "json").json


def test_plain_is_one_fact_per_line(verify: Callable[..., Done]) -> None:
    lines = [line.split("\t") for line in verify(FILE, *AT, "-o", "plain").out.splitlines()]

    assert lines[0] == ["verdict", "ok"]
    assert [line[1] for line in lines if line[0] == "step"] == list(STEP_NAMES)
    assert ["tee", "nitro"] in lines
    assert ["pcr0", PRODUCTION["pcr0"]] in lines


def test_plain_marks_claims_as_such(verify: Callable[..., Done]) -> None:
    lines = [line.split("\t") for line in verify(FILE, "-o", "plain").out.splitlines()]

    assert lines[0] == ["verdict", "expired_chain"]
    assert ["claim", "module_id", PRODUCTION["module_id"]] in lines
    assert {line[0] for line in lines} == {"verdict", "step", "claim"}


def test_a_table_explains_each_check_and_those_that_were_not_run(verify: Callable[..., Done]) -> None:
    lines = verify(FILE).out.splitlines()

    assert [line.split()[1] for line in lines[: len(STEP_NAMES)]] == list(STEP_NAMES)
    assert [line for line in lines if line.startswith("FAILED")] == [lines[STEP_NAMES.index("chain")]]
    assert lines[len(STEP_NAMES) - 1].endswith("not checked")
    assert "Verdict: expired_chain. The document is refused." in lines
    assert "What it claims, none of it verified:" in lines


def test_a_table_shows_the_zeros_that_the_verdict_is_about(verify: Callable[..., Done]) -> None:
    entry = REAL["nitro-debug-2022-10-12.cose"]
    path = str(VECTORS / entry["file"])

    lines = [line.split() for line in verify(path, "--at", entry["verify_at"]).out.splitlines()]

    zeros = {
        f"pcr{index}"
        for index, value in verify(path, "--at", entry["verify_at"], "-o", "json").json["claims"]["pcrs"].items()
        if not value.strip("0")
    }
    assert {"pcr0", "pcr1", "pcr2", "pcr8"} < zeros
    for name in ("pcr0", "pcr1", "pcr2", "pcr8"):
        assert [f"{name}:", "zero"] in lines
    (others,) = [line[1:] for line in lines if line[:1] == ["zero:"]]
    assert {name.rstrip(",") for name in others} == zeros - {"pcr0", "pcr1", "pcr2", "pcr8"}


def test_a_table_of_a_signed_document_says_that_it_is_genuine_and_what_failed(
    verify: Callable[..., Done], simulation: Simulation
) -> None:
    document = simulation.write(simulation.client.attest(b"\xaa", b"\xcc"))
    for words, step in (
        (("--nonce", "dd"), "nonce"),
        (("--user-data", "bb"), "user_data"),
        (("--pcr", f"0={'99' * 48}"), "measurements"),
        (("--at", "2026-03-04T12:06:00Z"), "freshness"),
    ):
        done = verify(document, "--root", simulation.root, *words)

        assert done.code == 4
        root = next(line.split()[-1] for line in done.out.splitlines() if line.split()[1:2] == ["root"])
        assert f"Verified: it is genuine, signed under the sim root {root}.\nFailed: {step}: " in done.out
        assert "What the genuine document says:\n" in done.out
        assert "none of it verified" not in done.out
        assert "This enclave is a simulation" in done.out
    shown = verify(document, "--root", simulation.root, "--nonce", "dd", "-o", "json").json
    assert (shown["nonce"], shown["claims"]["nonce"]) == (None, "cc")


def test_a_table_of_a_changed_document_says_of_nothing_that_it_is_genuine(
    verify: Callable[..., Done], simulation: Simulation
) -> None:
    parts = cbor2.loads(simulation.client.attest(b"\xaa", b"\xcc"))
    parts[2] = parts[2].replace(b"i-INSECURE-SIM-1", b"i-INSECURE-SIM-2")

    done = verify(simulation.write(cbor2.dumps(parts)), "--root", simulation.root)

    assert "Verdict: bad_signature." in done.out
    assert "What it claims, none of it verified:" in done.out
    assert "enuine" not in done.out
    assert "simulation" not in done.out


def test_a_table_says_that_a_simulation_is_one(verify: Callable[..., Done], simulation: Simulation) -> None:
    done = verify(simulation.write(simulation.client.attest()), "--root", simulation.root)

    assert done.code == 0
    assert "This enclave is a simulation" in done.out
    assert "simulation" not in verify(FILE, *AT).out


@pytest.mark.parametrize("form", ["table", "plain"])
def test_a_document_does_not_write_to_the_terminal_what_it_likes(
    verify: Callable[..., Done], tmp_path: Path, form: str
) -> None:
    parts = cbor2.loads(Path(FILE).read_bytes())
    parts[2] = cbor2.dumps({**cbor2.loads(parts[2]), "module_id": "i-1\x1b[2J\nVerdict: ok\r\x9b31m"})
    path = tmp_path / "document"
    path.write_bytes(cbor2.dumps(parts))

    out = verify(str(path), *AT, "-o", form).out

    assert "\x1b" not in out
    assert "\x9b" not in out
    assert "\r" not in out
    assert "\nVerdict: ok" not in out
    assert "i-1\\x1b[2J\\x0aVerdict: ok" in out


# --- as the host runs it ---------------------------------------------------------------------------------------------


def test_it_runs_in_a_process_of_its_own() -> None:
    command = command_line(RUN, ["-", *AT, "-o", "json"], prog="innkeeper attestation verify")

    done = subprocess.run(command, input=Path(FILE).read_bytes(), capture_output=True, check=False, timeout=60)

    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["verdict"] == "ok"


def test_a_missing_file_is_one_sentence_and_exit_code_2() -> None:
    done = subprocess.run(command_line(RUN, ["missing.cose"]), capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "missing.cose" in done.stderr
