"""Certificates of a run: peers with them connect, by Python's TLS and by nng's; others don't."""

import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pynng
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from actorq.actors.wire.tls import Tls
from actorq.launchers.host.certificates import make_certificates


@pytest.fixture(scope="module")
def run() -> Tls:
    return make_certificates()


@pytest.fixture(scope="module")
def foreign() -> Tls:
    """Another run's: the same names, signed by another authority of the same name."""
    return make_certificates()


def context(tls: Tls, folder: Path, *, server: bool, own: Tls | None) -> ssl.SSLContext:
    """Trusts the authority of `tls`, and shows the certificate of `own`."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=tls.authority)
    if own is not None:
        file = folder / f"{server}.pem"
        file.write_text(own.certificate + own.key)
        made.load_cert_chain(file)
    return made


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """In memory, until one byte came through. Raises SSLError if an end refuses the other."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_end = client.wrap_bio(down, up, server_hostname=name)
    server_end = server.wrap_bio(up, down, server_side=True)
    for end in (client_end, server_end) * 3:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    client_end.write(b"!")  # under TLS 1.3 a client is done before its own certificate was looked at
    assert server_end.read(1) == b"!"


def test_two_of_a_run_meet(run: Tls, tmp_path: Path) -> None:
    server, client = (context(run, tmp_path, server=server, own=run) for server in (True, False))
    shake_hands(server, client, "actorq")


def test_contexts_as_processes_use_them(run: Tls, foreign: Tls) -> None:
    shake_hands(run.context(server=True), run.context(server=False), "actorq")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(run.context(server=True), foreign.context(server=False), "actorq")
    with pytest.raises(ssl.SSLError):
        shake_hands(foreign.context(server=True), run.context(server=False), "actorq")


def test_without_a_certificate_every_peer_is_refused(run: Tls, tmp_path: Path) -> None:
    server, client = (context(run, tmp_path, server=end, own=run if end else None) for end in (True, False))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(server, client, "actorq")


def test_a_foreign_client_is_refused(run: Tls, foreign: Tls, tmp_path: Path) -> None:
    server = context(run, tmp_path, server=True, own=run)
    client = context(run, tmp_path, server=False, own=foreign)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(server, client, "actorq")


def test_a_foreign_server_is_refused(run: Tls, foreign: Tls, tmp_path: Path) -> None:
    server = context(foreign, tmp_path, server=True, own=foreign)
    client = context(run, tmp_path, server=False, own=run)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client, "actorq")


def test_another_name_is_refused(run: Tls, tmp_path: Path) -> None:
    server, client = (context(run, tmp_path, server=end, own=run) for end in (True, False))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'other\.example'"):
        shake_hands(server, client, "other.example")


def test_what_is_signed() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    run = make_certificates()
    pems = (run.certificate, run.authority)
    certificate, authority = (x509.load_pem_x509_certificate(pem.encode()) for pem in pems)
    after = datetime.now(UTC)
    for signed in (certificate, authority):
        signed.verify_directly_issued_by(authority)
        key = signed.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert before <= signed.not_valid_before_utc + timedelta(hours=1) <= after
        assert before <= signed.not_valid_after_utc - timedelta(days=30) <= after
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["actorq"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert run.key.count("PRIVATE KEY") == 2
    assert "PRIVATE" not in run.certificate + run.authority


def test_the_certificate_can_sign_no_other(run: Tls) -> None:
    certificate = x509.load_pem_x509_certificate(run.certificate.encode())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def nng_config(
    trusted: Tls, own: Tls | None, *, server: bool = False, name: str = "actorq"
) -> pynng.TLSConfig:
    return pynng.TLSConfig(
        pynng.TLSConfig.MODE_SERVER if server else pynng.TLSConfig.MODE_CLIENT,
        server_name=None if server else name,
        ca_string=trusted.authority,
        own_key_string=own.key if own else None,
        own_cert_string=own.certificate if own else None,
        auth_mode=pynng.TLSConfig.AUTH_MODE_REQUIRED,
    )


@pytest.fixture
def server(run: Tls) -> Iterator[tuple[Any, str]]:
    """A listening nng socket of the run, and its address."""
    with pynng.Pull0(recv_timeout=10_000, tls_config=nng_config(run, run, server=True)) as socket:
        yield socket, f"tls+tcp://{socket.listen('tls+tcp://127.0.0.1:0').local_address}"


def test_nng_lets_two_of_a_run_meet(run: Tls, server: tuple[Any, str]) -> None:
    socket, address = server
    with pynng.Push0(send_timeout=10_000, tls_config=nng_config(run, run)) as client:
        client.dial(address, block=True)
        client.send(b"through")
        assert socket.recv() == b"through"


@pytest.mark.parametrize("who", ["without", "foreign", "distrusting", "misled"])
def test_nng_refuses_all_others(run: Tls, foreign: Tls, server: tuple[Any, str], who: str) -> None:
    config = {
        "without": nng_config(run, None),
        "foreign": nng_config(run, foreign),
        "distrusting": nng_config(foreign, run),
        "misled": nng_config(run, run, name="other.example"),
    }[who]
    with pynng.Push0(tls_config=config) as client, pytest.raises(pynng.CryptoError):
        client.dial(server[1], block=True)
    assert not server[0].pipes
