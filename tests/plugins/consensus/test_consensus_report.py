"""Reports: checks, header, number, signature, and faults of the keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from coincurve import PublicKey

from innkeeper_consensus.header import report_context, report_header
from innkeeper_consensus.report import Reporter, config_digest, signed_report
from innkeeper_consensus.signing import SIGNERS, keccak256
from innkeeper_consensus.simple import OUTCOME_LIMIT
from innkeeper_sdk.capability import CapabilityError, ErrorVisibility, RequestMetadata
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ReportRequest, ReportResponse

LOGGER = logging.getLogger("innkeeper.test.consensus")
METADATA = RequestMetadata(
    workflow_id="11" * 32,
    workflow_owner="22" * 20,
    workflow_execution_id="33" * 32,
    workflow_name="38383931353862366163",
    reference_id="0",
)
NOW = 1767225900.9


def request(encoder: str = "evm", signing: str = "ecdsa", hashing: str = "keccak256") -> ReportRequest:
    return ReportRequest(encoded_payload=b"\xde\xad", encoder_name=encoder, signing_algo=signing, hashing_algo=hashing)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "signing"


@pytest.fixture
async def reporter(directory: Path) -> AsyncIterator[Reporter]:
    made = Reporter(directory, LOGGER, lambda: NOW)
    yield made
    await made.close()


def untouched(directory: Path) -> bool:
    return not directory.exists()


async def made(reporter: Reporter, asked: ReportRequest, metadata: RequestMetadata = METADATA) -> ReportResponse:
    return await reporter.report(asked, metadata, size_limit=100_000)


def test_the_references_vector_is_reproduced_byte_for_byte() -> None:
    metadata = evolve(
        METADATA, workflow_execution_id="4a5f3722853fe70fe0531e671569213ce0fc8b5b7f1e5e6b7d6bfc8ca199be03"
    )
    raw_report = report_header(metadata, 1767225900) + bytes.fromhex("dead")
    report = signed_report(raw_report, signer=SIGNERS["evm"](b"\x01" * 32), digest=bytes(range(32)), sequence=1)
    assert report.raw_report == raw_report
    assert report.seq_nr == 1
    assert report.config_digest == bytes(range(32))
    assert [(sig.signer_id, sig.signature.hex()) for sig in report.sigs] == [
        (
            0,
            "310dc44fd0d0cf148832fbc87f626c3079ae827222d9e33325383e61752a0519"
            "542a9b7ea70437b755404849e6a5f9afd3e8f6a7732aec4479fc0502cc4cd87b01",
        )
    ]


async def test_a_report_has_header_payload_context_and_a_signature_that_names_its_signer(
    reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report = await made(reporter, request())
    assert report.raw_report == report_header(METADATA, 1767225900) + b"\xde\xad"
    assert report.report_context == report_context(report.config_digest, report.seq_nr)
    (signature,) = report.sigs
    digest = keccak256(keccak256(report.raw_report) + report.report_context)
    public = PublicKey.from_signature_and_message(signature.signature, digest, hasher=None)
    address = keccak256(public.format(compressed=False)[1:])[12:]
    assert signature.signer_id == 0
    assert report.config_digest == config_digest("evm", 0, [address])
    assert caplog.messages == [f"new signer for evm: 0x{address.hex()}"]


async def test_numbers_grow_while_digest_and_key_stay_across_restarts(directory: Path) -> None:
    reports = []
    for _ in range(2):
        reporter = Reporter(directory, LOGGER)
        reports += [await made(reporter, request()) for _ in range(2)]
        await reporter.close()
    assert [report.seq_nr for report in reports] == [1, 2, 3, 4]
    assert len({report.config_digest for report in reports}) == 1


async def test_each_encoder_signs_with_a_key_of_its_own(reporter: Reporter) -> None:
    reports = [await made(reporter, request(encoder)) for encoder in ("evm", "aptos", "solana", "stellar")]
    assert [report.seq_nr for report in reports] == [1, 2, 3, 4]
    assert [len(report.sigs[0].signature) for report in reports] == [65, 96, 65, 96]
    assert len({report.config_digest for report in reports}) == 4


async def test_the_encoder_alone_chooses_and_names_are_taken_in_any_case(reporter: Reporter) -> None:
    plain = await made(reporter, request())
    for asked in (request("EVM", "ECDSA", "Keccak256"), request("Evm", "ed25519", "blake2b_256")):
        assert (await made(reporter, asked)).config_digest == plain.config_digest


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            request("sui"),
            "encoder name 'sui' for report request. Supported encoder names are: [evm aptos solana stellar]",
        ),
        (request(""), "encoder name '' for report request. Supported encoder names are: [evm aptos solana stellar]"),
        (
            request(signing="rsa"),
            "signing algorithm 'rsa' for report request. Supported signing algorithms are: [ecdsa ed25519]",
        ),
        (
            request(hashing="sha256"),
            "hashing algorithm 'sha256' for report request. Supported hashing algorithms are: [keccak256 blake2b_256]",
        ),
    ],
)
async def test_what_is_not_supported_is_the_authors_fault(
    reporter: Reporter, directory: Path, asked: ReportRequest, text: str
) -> None:
    with pytest.raises(CapabilityError) as caught:
        await made(reporter, asked)
    assert caught.value.serialize() == (
        f"Public:User:InvalidArgument:report request validation failed: unsupported {text}"
    )
    assert untouched(directory)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"reference_id": "65536"}, "report id: expected a decimal callback id of at most 65535, found '65536'"),
        ({"workflow_execution_id": ""}, "ExecutionID: wrong length: expected 32 bytes, got 0"),
    ],
)
async def test_metadata_that_does_not_fit_takes_no_number(
    reporter: Reporter, directory: Path, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(CapabilityError) as caught:
        await made(reporter, request(), evolve(METADATA, **changes))
    assert caught.value.serialize() == f"Public:System:Internal:{text}"
    assert untouched(directory)


async def test_a_payload_above_the_size_limit_is_an_error_observation(reporter: Reporter, directory: Path) -> None:
    asked = request()
    asked.encoded_payload = bytes(100_001)
    with pytest.raises(CapabilityError) as caught:
        await made(reporter, asked)
    text = caught.value.serialize()
    assert text.startswith(
        "Public:User:ConsensusFailed:consensus calculation failed: received 1 errors which is >= f+1"
    )
    assert "[101]LimitExceeded: request size" in text
    assert untouched(directory)


async def test_a_report_above_a_million_bytes_is_refused(reporter: Reporter) -> None:
    asked = request()
    asked.encoded_payload = bytes(OUTCOME_LIMIT - 109)
    report = await reporter.report(asked, METADATA, size_limit=10**7)
    assert len(report.raw_report) == OUTCOME_LIMIT
    asked.encoded_payload += b"\x00"
    with pytest.raises(CapabilityError) as caught:
        await reporter.report(asked, METADATA, size_limit=10**7)
    assert caught.value.serialize() == (
        "Public:System:ConsensusFailed:report too large: the report for this request is 1000001 bytes which exceeds "
        "the maximum allowed size of 1000000 bytes"
    )


async def test_an_empty_payload_is_a_payload(reporter: Reporter) -> None:
    asked = request()
    asked.encoded_payload = b""
    assert len((await made(reporter, asked)).raw_report) == 109


async def test_many_reports_at_once_have_each_a_number(reporter: Reporter) -> None:
    asked = [evolve(METADATA, reference_id=str(index)) for index in range(20)]
    reports = await asyncio.gather(*(made(reporter, request(), metadata) for metadata in asked))
    assert sorted(report.seq_nr for report in reports) == list(range(1, 21))
    assert [int.from_bytes(report.raw_report[107:109], "big") for report in reports] == list(range(20))


async def test_a_caller_that_goes_away_breaks_nothing(reporter: Reporter) -> None:
    for _ in range(5):
        gone = asyncio.ensure_future(made(reporter, request()))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
    reports = [await made(reporter, request()) for _ in range(2)]
    assert reports[1].seq_nr == reports[0].seq_nr + 1
    assert reports[0].config_digest == reports[1].config_digest


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda directory: (directory / "evm.key").chmod(0o644), "a file of the signing keys is open to others"),
        (lambda directory: (directory / "evm.key").write_bytes(b"x"), "a signing key is damaged"),
        (lambda directory: (directory / "evm.key").write_bytes(b"00" * 32 + b"\n"), "is no key of its curve"),
        (lambda directory: (directory / "sequence").unlink(), "the number of the last report is lost"),
    ],
)
async def test_faulty_keys_go_to_the_log_and_the_workflow_hears_no_more(
    directory: Path, spoil: object, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = Reporter(directory, LOGGER)
    await made(first, request())
    await first.close()
    assert callable(spoil)
    spoil(directory)
    second = Reporter(directory, LOGGER)
    with pytest.raises(CapabilityError) as caught:
        await made(second, request())
    await second.close()
    assert caught.value.message == "the report cannot be signed"
    assert caught.value.visibility is ErrorVisibility.PRIVATE
    assert said in caplog.text


async def test_no_secret_is_logged_or_in_an_answer(
    reporter: Reporter, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    report = await made(reporter, request())
    secret = (directory / "evm.key").read_text().strip()
    assert len(secret) == 64
    assert secret not in caplog.text
    assert bytes.fromhex(secret) not in report.SerializeToString()


async def test_after_closing_no_report_is_signed_and_the_keys_are_free(directory: Path) -> None:
    reporter = Reporter(directory, LOGGER)
    await made(reporter, request())
    await reporter.close()
    await reporter.close()
    with pytest.raises(CapabilityError, match="service has been closed"):
        await made(reporter, request())
    other = Reporter(directory, LOGGER)
    assert (await made(other, request())).seq_nr == 2
    await other.close()


def test_a_config_digest_depends_on_encoder_f_and_every_signer_in_its_place() -> None:
    digests = {
        config_digest("evm", 0, [b"a"]),
        config_digest("solana", 0, [b"a"]),
        config_digest("evm", 1, [b"a"]),
        config_digest("evm", 0, [b"b"]),
        config_digest("evm", 0, [b"a", b"b"]),
        config_digest("evm", 0, [b"b", b"a"]),
        config_digest("evm", 0, [b"ab"]),
    }
    assert len(digests) == 7
    assert {len(digest) for digest in digests} == {32}
    assert config_digest("evm", 0, [b"a"]) in digests
