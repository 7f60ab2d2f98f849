"""The bank's HTTP server: JSON answers, and a log line for each request."""

from __future__ import annotations

import hmac
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .answers import Answer, ConnectionDropped, Refusal, error
from .notices import NoticeSender
from .routes import Bank, BankOptions, Request

MOST_BYTES = 64 * 1024
log = logging.getLogger("bank")


class BankServer(ThreadingHTTPServer):
    """Serves one bank. Without an `api_key` it accepts every caller."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], bank: Bank, *, api_key: str) -> None:
        self.bank = bank
        self.api_key = api_key
        super().__init__(address, Connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the failure of a connection, unless the caller closed it."""
        if not isinstance(sys.exception(), ConnectionError):
            log.exception("The connection from %s failed", client_address)

    def server_bind(self) -> None:
        """Bind without asking the DNS for our own name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class Connection(BaseHTTPRequestHandler):
    """One connection, kept open between requests for a minute."""

    server: BankServer
    protocol_version = "HTTP/1.1"
    server_version = "BankSimulator"
    disable_nagle_algorithm = True  # otherwise an answer of two writes waits 40 ms for an ACK
    wbufsize = -1
    timeout = 60

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        began = time.monotonic()
        answer = self._answer()
        if answer is None:
            log.info("%s %s: connection closed without an answer", self.command, self.path)
            self.close_connection = True
            return
        # The log line comes first: a caller with an answer can rely on the line.
        replayed = " replayed" if answer.is_replayed else ""
        key = self.headers.get("Idempotency-Key", "-")
        spent = (time.monotonic() - began) * 1000
        log.info(
            "%s %s %d%s %.0f ms key=%r",
            *(self.command, self.path, answer.status, replayed, spent, key),
        )
        try:
            self._send(answer)
        except ConnectionError:
            log.info("%s %s: the caller did not wait for the answer", self.command, self.path)
            self.close_connection = True

    def _answer(self) -> Answer | None:
        try:
            return self._decide(self._read_body())
        except ConnectionDropped:
            return None
        except Refusal as refusal:
            return refusal.answer
        except Exception:  # no request may stop the bank
            self.close_connection = True
            log.exception("%s %s failed", self.command, self.path)
            message = "Internal error. The outcome of the request is unknown."
            return Answer(500, error("api_error", "internal_error", message))

    def _decide(self, raw: bytes) -> Answer:
        url = urlsplit(self.path)
        if (self.command, url.path) == ("GET", "/health"):
            return Answer(200, {"status": "ok"})
        self._check_key()
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        key = self.headers.get("Idempotency-Key", "")
        body = _json_object(raw) if self.command == "POST" else {}
        return self.server.bank.answer(Request(self.command, url.path, query, body, key))

    def _check_key(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        expected = self.server.api_key.encode()
        if expected and not hmac.compare_digest(given, expected):
            raise Refusal(
                401,
                "invalid_api_key",
                "The API key is missing or wrong. Send the header Authorization: Bearer KEY.",
            )

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # the start of the next request is unknown
            raise Refusal(411, "length_required", "The request needs a Content-Length.")
        if int(length) > MOST_BYTES:
            self.close_connection = True
            raise Refusal(413, "body_too_large", f"The body must have at most {MOST_BYTES} bytes.")
        return self.rfile.read(int(length))

    def _send(self, answer: Answer) -> None:
        body = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Log messages of the base class (a broken request, a time-out) in our own format."""
        log.debug(format, *args)


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        raise Refusal(400, "invalid_json", "The body must be JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_json", "The body must be a JSON object.")
    return body


@contextmanager
def serving(
    address: tuple[str, int], *, file: Path, api_key: str, options: BankOptions
) -> Iterator[BankServer]:
    """Run the server; raise `OSError` if the port is taken."""
    if options.subscriber:
        NoticeSender(file, options.subscriber).start()
    server = BankServer(address, Bank(file, options), api_key=api_key)
    try:
        yield server
    finally:
        server.server_close()
