"""An HTTP server on loopback that keeps connections open and answers as a test decides."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, cast

from shop.up.ports import free_port


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Exchange(BaseHTTPRequestHandler):
    """Requests of one connection."""

    protocol_version = "HTTP/1.1"

    @property
    def receiver(self) -> Receiver:
        return cast(_HttpServer, self.server).receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.receiver.requests.append(Request(self.path, headers, body))
        self.receiver.behaviour(self)

    do_GET = do_POST

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def setup(self) -> None:
        super().setup()
        self.receiver.connections.append(self.connection)

    def log_message(self, *_: object) -> None:
        pass


Behaviour = Callable[[Exchange], None]


def answers(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    return lambda exchange: exchange.answer(status, body, **headers)


class Receiver:
    """A receiver of events. `down()` closes it for a block, on the same port."""

    def __init__(self, *, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.behaviour: Behaviour = answers(204)
        self.requests: list[Request] = []
        self.connections: list[socket.socket] = []
        self.released = threading.Event()
        self.port = free_port()  # no outgoing connection takes it while the receiver is down
        self._open()

    @property
    def url(self) -> str:
        scheme = "https" if self._context else "http"
        return f"{scheme}://127.0.0.1:{self.port}/events"

    @contextmanager
    def down(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self._open()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connections that clients keep open."""
        for one in self.connections:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                one.close()
        self.connections.clear()

    def hang(self, _exchange: Exchange) -> None:
        """Answer nothing, until the test is over."""
        self.released.wait(60)

    def drip(self, exchange: Exchange) -> None:
        """Answer a byte now and then, so that no single read takes long."""
        exchange.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.released.wait(0.05):
            exchange.wfile.write(b"x")

    def flood(self, exchange: Exchange) -> None:
        """Accept, with a body without an end."""
        exchange.close_connection = True
        exchange.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not self.released.is_set():
            exchange.wfile.write(b"x" * 65536)

    def drop(self, exchange: Exchange) -> None:
        """Close the connection instead of an answer."""
        exchange.close_connection = True

    def _open(self) -> None:
        self._server = _HttpServer(("127.0.0.1", self.port), Exchange)
        self._server.receiver = self
        if self._context:
            self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, *_: object) -> None:
        pass  # a client that hangs up is the subject of some tests


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(context=context)
    try:
        yield receiver
    finally:
        receiver.released.set()
        receiver.close()
