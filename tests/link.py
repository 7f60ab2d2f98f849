"""A TCP link on loopback that a test can cut, silence and mend, between a client and a server."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

_SIZE = 65536


class Link:
    """Forwards connections to a server: `with Link(("127.0.0.1", 5432)) as link: link.port`.

    Args:
        target: host and port of the server; assign another one for connections made later.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self._open: set[socket.socket] = set()
        self._is_mended = threading.Event()
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_mended.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut()
        self._is_mended.set()
        self._listener.close()

    @property
    def port(self) -> int:
        """The port to connect to."""
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """Close every connection, and each new one at once."""
        self._is_cut = True
        for one in list(self._open):
            _close(one)

    def silence(self) -> None:
        """Let no byte pass, in either direction, as when a cable is pulled."""
        self._is_mended.clear()

    def mend(self) -> None:
        """Let new connections, and the bytes that waited, pass."""
        self._is_cut = False
        self._is_mended.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._is_mended.wait()
        if self._is_cut:
            _close(client)
            return
        try:
            server = socket.create_connection(self.target)
        except OSError:
            _close(client)
            return
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(one)
        for pair in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_SIZE):
                self._is_mended.wait()
                if self._is_cut:
                    break
                sink.sendall(data)
        for one in (source, sink):
            self._open.discard(one)
            _close(one)


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
