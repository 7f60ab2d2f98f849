"""One POST to one receiver, with limits on its address, its time and the answer's size.

Customers set the URLs, so the connection goes to the addresses that were checked. httpcore connects
there and verifies the certificate of the host name. httpx has no parameter for that, and the HTTP
sink connects by name, since operators set its URLs. The time limit of the whole exchange and
Retry-After are the sink's.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpcore
import httpx
from django.conf import settings
from django.utils.translation import gettext as _

from outbox.sinks.timed_http import TimedStream, retry_after
from webhooks.addresses import AddressRefused, Target, resolve

#: Bytes of an answer's body that are read; they are not used.
MAX_BODY_BYTES = 16 * 1024

_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "shop-webhooks/1",
    "Connection": "close",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A receiver's answer. Without an answer there is no status, and `error` is the reason."""

    status: int | None = None
    error: str = ""
    retry_after: float = 0
    seconds: float = 0

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        return self.status == 410


def timeout_seconds() -> float:
    """Return the seconds that one attempt may take, from the look-up to the last byte."""
    return float(getattr(settings, "WEBHOOK_TIMEOUT_SECONDS", 10))


def post(url: str, *, body: bytes, headers: dict[str, str]) -> Answer:
    """Send the body and return the answer. Follow no redirects, and raise nothing."""
    began = time.monotonic()
    deadline = began + timeout_seconds()
    try:
        target = resolve(url, seconds=timeout_seconds())
        status, retry_after = _exchange(target, body, headers, deadline)
    except Exception as error:  # a receiver may answer anything; every error is a failure
        return Answer(error=_explanation(error), seconds=time.monotonic() - began)
    return Answer(
        status=status,
        error="" if 200 <= status < 300 else _("HTTP %(status)d") % {"status": status},
        retry_after=retry_after if status in (429, 503) else 0,
        seconds=time.monotonic() - began,
    )


def _exchange(
    target: Target, body: bytes, headers: dict[str, str], deadline: float
) -> tuple[int, float]:
    with (
        httpcore.ConnectionPool(
            ssl_context=_tls(),
            network_backend=_CheckedBackend(target.addresses, deadline),
        ) as pool,
        pool.stream(
            "POST",
            _url(target),
            headers=[("Host", _host(target)), *_HEADERS.items(), *headers.items()],
            content=body,
        ) as response,
    ):
        _read_limited(response)
        return response.status, retry_after(response.headers)


def _url(target: Target) -> httpcore.URL:
    return httpcore.URL(
        scheme=target.scheme, host=target.host, port=target.port, target=target.path
    )


def _host(target: Target) -> str:
    """Return the header Host. httpcore's own has no brackets around an IPv6 address."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    is_default = target.port == {"http": 80, "https": 443}[target.scheme]
    return host if is_default else f"{host}:{target.port}"


def _read_limited(response: httpcore.Response) -> None:
    if not 200 <= response.status < 300:
        return
    read = 0
    for part in response.iter_stream():
        read += len(part)
        if read > MAX_BODY_BYTES:
            return


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to one of the checked addresses, whatever the name resolves to now.

    Each address gets an equal share of the time that is left: one may be silent.
    """

    def __init__(self, addresses: Iterable[str], deadline: float) -> None:
        self._addresses = tuple(addresses)
        self._deadline = deadline
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        untried = len(self._addresses)
        for address in self._addresses:
            share = _left(self._deadline) / untried
            untried -= 1
            try:
                stream = self._network.connect_tcp(address, port, share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return TimedStream(stream, lambda: _left(self._deadline))
        raise failure


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.TimeoutException
    return left


@cache
def _tls() -> ssl.SSLContext:
    """Return a context that verifies certificate and host name, by certifi or SSL_CERT_FILE."""
    return httpx.create_ssl_context()


def _explanation(error: Exception) -> str:
    """Return the error text for the owner. It leaves out details of our network."""
    if isinstance(error, AddressRefused):
        return str(error)
    if isinstance(error, httpcore.TimeoutException):
        return _("No complete answer within %(seconds)g s.") % {"seconds": timeout_seconds()}
    if isinstance(error, httpcore.ConnectError):
        if error.args and isinstance(error.args[0], ssl.SSLError):
            return _("TLS failed: %(why)s") % {"why": str(error.args[0])[:150]}
        return _("The connection was refused, or the host cannot be reached.")
    if isinstance(error, httpcore.ProtocolError | httpcore.NetworkError):
        return _("The connection was cut, or the answer was not HTTP.")
    if isinstance(error, OSError):
        return _("The host's name cannot be resolved.")
    return _("The request failed: %(kind)s.") % {"kind": type(error).__name__}
