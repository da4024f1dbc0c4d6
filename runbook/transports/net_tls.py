"""What a TLS server presents, looked at whether or not it can be trusted."""

from __future__ import annotations

import ssl

import httpcore
from cryptography import x509
from cryptography.x509.oid import NameOID

from runbook.model.ports import CertificateState
from runbook.transports.net_dial import Deadline, Dialer
from runbook.transports.net_http import Backend


def presented(
    dialer: Dialer, host: str, port: int, *, name: str, timeout: float, via: str | None,
    verifying: ssl.SSLContext, trusting: ssl.SSLContext,
) -> CertificateState:
    """One handshake that verifies; where it fails, a second that does not, to see why.

    Raises Errored where ``via`` cannot be reached."""
    try:
        return _read(_handshake(dialer, host, port, name, timeout, via, verifying))
    except (httpcore.NetworkError, httpcore.TimeoutException) as fault:
        error = str(fault)
    try:
        seen = _read(_handshake(dialer, host, port, name, timeout, via, trusting))
    except (httpcore.NetworkError, httpcore.TimeoutException, ValueError):
        return CertificateState(error=error)
    return seen.model_copy(update={"error": error})


def _handshake(
    dialer: Dialer, host: str, port: int, name: str, timeout: float, via: str | None,
    context: ssl.SSLContext,
) -> bytes:
    """The certificate, in DER. Raises as httpcore does."""
    plain = Backend(dialer, deadline=Deadline(timeout), via=via).connect_tcp(host, port)
    stream = plain.start_tls(context, name)
    try:
        der: bytes = stream.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return der
    finally:
        stream.close()


def _read(der: bytes) -> CertificateState:
    found = x509.load_der_x509_certificate(der)
    try:
        more = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = (*more.get_values_for_type(x509.DNSName),
                 *map(str, more.get_values_for_type(x509.IPAddress)))
    except x509.ExtensionNotFound:
        names = ()
    return CertificateState(
        subject=_common(found.subject), issuer=_common(found.issuer), names=names,
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
    )


def _common(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
