"""The root of simulated enclaves: made once, private, and never replaced silently."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from innkeeper_confidential_workflows.attestation import Tee
from innkeeper_confidential_workflows.nsm import AUTHORITY_FILE, ROOT_FILE, Authority, AuthorityError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_root_is_made_once(tmp_path: Path, clock: Any) -> None:
    first = Authority.load_or_create(tmp_path / "sim", clock=clock)
    clock.advance(timedelta(days=400))
    second = Authority.load_or_create(tmp_path / "sim", clock=clock)

    assert first.root == second.root
    assert first.root.tee is Tee.SIM
    # What the second one issues is below the first one's root.
    x509.load_der_x509_certificate(second.chain().authorities[0]).verify_directly_issued_by(
        x509.load_der_x509_certificate(first.root_certificate)
    )


def test_another_directory_has_another_root(tmp_path: Path) -> None:
    assert Authority.load_or_create(tmp_path / "a").root != Authority.load_or_create(tmp_path / "b").root


def test_the_key_is_private_and_the_certificate_is_beside_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        authority = Authority.load_or_create(tmp_path / "sim")
    finally:
        os.umask(before)

    assert mode(tmp_path / "sim") == 0o700
    assert mode(tmp_path / "sim" / AUTHORITY_FILE) == 0o600
    assert b"PRIVATE KEY" in (tmp_path / "sim" / AUTHORITY_FILE).read_bytes()
    assert (tmp_path / "sim" / ROOT_FILE).read_bytes() == authority.root_certificate_pem
    assert b"PRIVATE" not in authority.root_certificate_pem
    assert {path.name for path in (tmp_path / "sim").iterdir()} == {AUTHORITY_FILE, ROOT_FILE, "lock"}


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_not_used(tmp_path: Path, bits: int) -> None:
    Authority.load_or_create(tmp_path)
    (tmp_path / AUTHORITY_FILE).chmod(bits)

    with pytest.raises(AuthorityError, match=f"mode {bits:03o}"):
        Authority.load_or_create(tmp_path)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("content", ["nothing", "noise", "key alone", "other key", "other curve", "other name"])
def test_a_file_that_holds_something_else_is_an_error_and_stays(tmp_path: Path, content: str) -> None:
    authority = Authority.load_or_create(tmp_path)
    path = tmp_path / AUTHORITY_FILE
    key = path.read_bytes().split(b"-----BEGIN CERTIFICATE")[0]
    written = {
        "nothing": b"",
        "noise": b"noise",
        "key alone": key,
        "other key": pem(ec.generate_private_key(ec.SECP384R1())) + authority.root_certificate_pem,
        "other curve": pem(ec.generate_private_key(ec.SECP256R1())) + authority.root_certificate_pem,
        "other name": _named_otherwise(),
    }[content]
    path.write_bytes(written)

    with pytest.raises(AuthorityError) as refused:
        Authority.load_or_create(tmp_path)

    assert refused.value.path == str(path)
    assert refused.value.hint
    assert path.read_bytes() == written


def _named_otherwise() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "aws.nitro-enclaves")])
    root = Authority.create()
    certificate = x509.load_der_x509_certificate(root.root_certificate)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
        .sign(key, certificate.signature_hash_algorithm)
    )
    return pem(key) + made.public_bytes(Encoding.PEM)


def test_a_certificate_beside_the_key_that_was_lost_or_changed_is_written_again(tmp_path: Path) -> None:
    authority = Authority.load_or_create(tmp_path)
    root = tmp_path / ROOT_FILE
    root.unlink()
    Authority.load_or_create(tmp_path)
    assert root.read_bytes() == authority.root_certificate_pem

    root.write_bytes(b"noise")
    root.chmod(0o644)
    Authority.load_or_create(tmp_path)

    assert root.read_bytes() == authority.root_certificate_pem


def test_a_directory_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(AuthorityError, match="cannot be used"):
        Authority.load_or_create(tmp_path / "file")


@pytest.mark.parametrize("bits", [0o750, 0o705, 0o777])
def test_a_directory_that_others_may_enter_is_not_used_and_not_changed(tmp_path: Path, bits: int) -> None:
    directory = tmp_path / "sim"
    directory.mkdir()
    directory.chmod(bits)

    with pytest.raises(AuthorityError, match=f"mode {bits:03o}") as refused:
        Authority.load_or_create(directory)

    assert refused.value.path == str(directory)
    assert mode(directory) == bits
    assert not list(directory.iterdir())


def test_a_link_in_the_keys_place_is_not_followed(tmp_path: Path) -> None:
    Authority.load_or_create(tmp_path / "other")
    (tmp_path / "sim").mkdir(mode=0o700)
    (tmp_path / "sim" / AUTHORITY_FILE).symlink_to(tmp_path / "other" / AUTHORITY_FILE)

    with pytest.raises(AuthorityError):
        Authority.load_or_create(tmp_path / "sim")


def test_what_a_process_that_was_killed_left_half_written_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".{AUTHORITY_FILE}.new").write_bytes(b"-----BEGIN")

    authority = Authority.load_or_create(tmp_path)

    assert Authority.load_or_create(tmp_path).root == authority.root
    assert {path.name for path in tmp_path.iterdir()} == {AUTHORITY_FILE, ROOT_FILE, "lock"}


def test_who_comes_second_takes_what_the_first_one_made(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from innkeeper_confidential_workflows.nsm import Authority\n"
        "sys.stdin.read(1)\n"
        "print(Authority.load_or_create(Path(sys.argv[1])).root.sha256)\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-I", "-c", program, str(tmp_path / "sim")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("x")
        racer.stdin.flush()

    roots = {racer.communicate(timeout=30)[0] for racer in racers}

    assert len(roots) == 1
    assert roots == {Authority.load_or_create(tmp_path / "sim").root.sha256 + "\n"}
    assert {path.name for path in (tmp_path / "sim").iterdir()} == {AUTHORITY_FILE, ROOT_FILE, "lock"}


def test_a_chain_is_kept_until_it_is_about_to_run_out(clock: Any) -> None:
    authority = Authority.create(clock=clock)
    first = authority.chain()

    clock.advance(timedelta(hours=2, minutes=49))
    assert authority.chain() is first
    clock.advance(timedelta(minutes=1))
    second = authority.chain()

    assert second.leaf != first.leaf
    assert second.not_after > clock() + timedelta(hours=2)


def test_a_clock_that_is_set_back_gets_a_chain_that_is_valid_then(clock: Any) -> None:
    authority = Authority.create(clock=clock)
    authority.chain()

    clock.advance(timedelta(hours=-1))

    assert authority.chain().not_before <= clock()


def test_no_key_is_in_a_repr(clock: Any) -> None:
    authority = Authority.create(clock=clock)

    assert "key" not in repr(authority.chain())
    assert "PRIVATE" not in repr(authority)
