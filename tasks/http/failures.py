"""What libcurl's errors mean, in httpx's classes. Their messages name the kind of failure, and nothing else."""

from __future__ import annotations

import errno
from typing import Any

import httpx
import pycurl


class CertificateError(httpx.ConnectError):
    """The certificate of the other side is not trusted."""


_CERTIFICATE = (pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_ISSUER_ERROR, pycurl.E_SSL_CACERT_BADFILE)
_UNREACHABLE = {
    errno.ECONNREFUSED: "the connection was refused",
    errno.EHOSTUNREACH: "its host cannot be reached",
    errno.ENETUNREACH: "its network cannot be reached",
    errno.ETIMEDOUT: "the connection timed out",
    errno.ECONNRESET: "the connection broke off",
}


def failure_of(
    error: Any, curl: Any, request: httpx.Request, *, connected: bool, proxied: bool
) -> httpx.TransportError:
    """The httpx error for an exchange without an answer; `error` is pycurl's, `curl` the handle it comes from."""
    code = error.args[0] if error is not None else pycurl.E_GOT_NOTHING
    failure = _exchange_failure(code) if connected else _connection_failure(code, curl, proxied)
    failure.request = request
    return failure


def _connection_failure(code: int, curl: Any, proxied: bool) -> httpx.TransportError:
    if code in _CERTIFICATE:
        return CertificateError("its certificate is not trusted")
    # Behind a proxy, names are looked up and connections made there.
    answered = curl.getinfo(pycurl.HTTP_CONNECTCODE) if proxied else 0
    if answered == 407:
        return httpx.ProxyError("the proxy wants a user name and password, or others: correct `proxy`")
    if answered and not 200 <= answered < 300:
        return httpx.ProxyError(f"the proxy refused the connection ({answered})")
    if code in (pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_RESOLVE_PROXY):
        what = "the name of the proxy was not found"
        return httpx.ProxyError(what) if proxied else httpx.ConnectError("its name was not found")
    of_the_proxy = " of the proxy" if proxied and not answered else ""
    if code == pycurl.E_OPERATION_TIMEDOUT:
        if curl.getinfo(pycurl.NAMELOOKUP_TIME) > 0:
            return httpx.ConnectTimeout(f"the connection{' to the proxy' if of_the_proxy else ''} timed out")
        return httpx.ConnectTimeout(f"looking up the name{of_the_proxy} timed out")
    if code == pycurl.E_SSL_CONNECT_ERROR:
        return httpx.ConnectError("TLS failed")
    reason = _UNREACHABLE.get(curl.getinfo(pycurl.OS_ERRNO), "no connection")
    return httpx.ProxyError(f"the proxy: {reason}") if of_the_proxy else httpx.ConnectError(reason)


def _exchange_failure(code: int) -> httpx.TransportError:
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return httpx.ReadTimeout("time was up")
    if code == pycurl.E_SEND_ERROR:
        return httpx.WriteError("the connection broke off")
    if code in (pycurl.E_RECV_ERROR, pycurl.E_GOT_NOTHING, pycurl.E_PARTIAL_FILE):
        return httpx.ReadError("the connection broke off")
    return httpx.RemoteProtocolError("its answer cannot be read")
