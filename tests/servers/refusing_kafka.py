"""A Kafka broker that refuses every SASL mechanism. The emulator accepts all credentials.

It answers ApiVersions and SaslHandshake, see https://kafka.apache.org/protocol.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from tests.closed_port import HOST

API_VERSIONS, SASL_HANDSHAKE, METADATA, PRODUCE = 18, 17, 3, 0
UNSUPPORTED_VERSION, UNSUPPORTED_SASL_MECHANISM = 35, 33
#: Request, oldest version, newest version.
SUPPORTED = [(SASL_HANDSHAKE, 0, 1), (API_VERSIONS, 0, 0), (METADATA, 0, 4), (PRODUCE, 0, 7)]


@contextmanager
def refusing_broker() -> Iterator[str]:
    """Yield the address of such a broker."""
    with closing(socket.create_server((HOST, 0))) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        yield f"{HOST}:{listener.getsockname()[1]}"


def _accept(listener: socket.socket) -> None:
    with suppress(OSError):  # the listener is closed
        while True:
            connection, _address = listener.accept()
            with suppress(OSError), connection:
                _answer_all(connection)


def _answer_all(connection: socket.socket) -> None:
    with connection.makefile("rb") as requests:
        while size := int.from_bytes(requests.read(4), "big"):
            request = requests.read(size)
            correlation_id = request[4:8]
            answer = correlation_id + _body(_number(request[:2]), version=_number(request[2:4]))
            connection.sendall(_bytes(len(answer), 4) + answer)


def _body(api: int, *, version: int) -> bytes:
    """Return an error code and an empty or full list."""
    if api == API_VERSIONS and version > 0:
        return _bytes(UNSUPPORTED_VERSION) + _bytes(0, 4)
    if api == API_VERSIONS:
        fields = [_bytes(field) for entry in SUPPORTED for field in entry]
        return _bytes(0) + _bytes(len(SUPPORTED), 4) + b"".join(fields)
    return _bytes(UNSUPPORTED_SASL_MECHANISM) + _bytes(0, 4)


def _bytes(number: int, size: int = 2) -> bytes:
    return number.to_bytes(size, "big")


def _number(two: bytes) -> int:
    return int.from_bytes(two, "big")
