"""A server that only does TLS handshakes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme


@dataclass
class TlsServer:
    """A port, and the number of clients that accepted its certificate."""

    port: int
    accepted: int = 0


def trusted_authority(folder: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Return an authority that this process trusts; its certificate is stored in `folder`."""
    made = trustme.CA()
    made.cert_pem.write_to_path(folder / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    return made


@contextmanager
def tls_server(
    authority: trustme.CA, certified: str, *, address: str = "127.0.0.1"
) -> Iterator[TlsServer]:
    """Serve with a certificate for the host `certified`. It closes each connection at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(certified).configure_cert(context)
    with socket.create_server((address, 0)) as listener:
        server = TlsServer(port=int(listener.getsockname()[1]))

        def serve(client: socket.socket) -> None:
            with suppress(OSError), context.wrap_socket(client, server_side=True):
                server.accepted += 1

        def accept() -> None:
            with suppress(OSError):  # the listener is shut down
                while True:
                    serve(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
