"""A customer's system: an HTTP server on loopback with configurable answers."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Request:
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> Any:
        """What the library of Standard Webhooks makes of it; raises unless the signature fits."""
        return Webhook(secret).verify(self.body, self.headers)


class Connection(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.receiver.requests.append(Request(headers, body))
        self.close_connection = True
        self.server.receiver.behaviour(self)

    def answer(self, status: int, body: bytes = b"", **headers: str):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, *_):
        pass  # a client that hangs up is what some tests are about


Behaviour = Callable[[Connection], None]


def answers(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    return lambda connection: connection.answer(status, body, **headers)


@dataclass
class Receiver:
    port: int
    scheme: str = "http"
    host: str = "127.0.0.1"
    behaviour: Behaviour = field(default_factory=lambda: answers(204))
    requests: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/hooks"

    def hang(self, _connection: Connection):
        """Answer nothing, until the test is over."""
        self.released.wait(60)

    def drip(self, connection: Connection):
        """Answer a byte now and then, so that no single read ever takes long."""
        connection.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.released.wait(0.05):
            connection.wfile.write(b"x")
            connection.wfile.flush()

    def flood(self, connection: Connection):
        """Answer a body without an end."""
        connection.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not self.released.is_set():
            connection.wfile.write(b"x" * 65536)

    def drop(self, connection: Connection):
        connection.connection.close()


@contextmanager
def receiving(
    context: ssl.SSLContext | None = None, *, scheme: str = "http", host: str = "127.0.0.1"
) -> Iterator[Receiver]:
    server = Server(("127.0.0.1", 0), Connection)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.receiver = Receiver(server.server_address[1], scheme=scheme, host=host)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.receiver
    finally:
        server.receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
