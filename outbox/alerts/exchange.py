"""One HTTP request with a limited time, by the standard library.

The operator sets the URL, so it may lead to a private address. Redirects are not followed, and
proxies of the environment are not used.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

#: Bytes of an answer that are read.
_MOST_BYTES = 16 * 1024


class ExchangeFailed(Exception):
    """No answer, or another one than 2xx. The text contains the host, and not the URL."""


def exchange(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float,
) -> None:
    """Send a request, and require an answer of 2xx.

    Args:
        method: "GET" or "POST".
        url: a URL of http or https, without a user.
        body: the body.
        headers: further headers.
        timeout: seconds for the connection, and again for request and answer.

    Raises:
        ExchangeFailed: there was none.
    """
    parts = urlsplit(url)
    made = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = made(parts.hostname or "", parts.port, timeout=timeout)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    try:
        connection.connect()
        with _ended_after(timeout, connection.sock) as ended:
            connection.request(method, path, body=body, headers={**_AGENT, **(headers or {})})
            answer = connection.getresponse()
            if ended.is_set():  # in the middle of its headers
                raise TimeoutError
            status = answer.status
            with suppress(HTTPException, OSError):  # the status counts, also if the rest is lost
                answer.read(_MOST_BYTES)
    except (HTTPException, OSError, ValueError) as error:
        raise ExchangeFailed(f"{parts.hostname}: {_reason(error)}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise ExchangeFailed(f"{parts.hostname} answered {status}.")


_AGENT = {"User-Agent": "outbox-alerts/1"}


@contextmanager
def _ended_after(seconds: float, sock: socket.socket) -> Iterator[threading.Event]:
    """End the connection after a time, which single bytes do not extend.

    The event is set when that has happened.
    """
    ended = threading.Event()
    timer = threading.Timer(seconds, _end, [sock, ended])
    timer.daemon = True
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()


def _end(sock: socket.socket, ended: threading.Event) -> None:
    ended.set()
    with suppress(OSError):  # not that of TLS, which would change the object under its reader
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or type(error).__name__}."
    if isinstance(error, TimeoutError):
        return "no answer within the time limit."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    return f"{type(error).__name__}."
