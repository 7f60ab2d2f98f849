"""HTTP at the edges: a proxy before SNS and SQS, and a receiver of the HTTP sink's events."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

from shop.up.ports import HOST
from tests.chaos.edges.modes import Mode

#: Requests of which each entry has a result of its own, and those that a repetition may double.
_BATCHES = {"SendMessageBatch", "DeleteMessageBatch"}
_SENDING = {"SendMessage", "SendMessageBatch", "Publish", "PublishBatch"}
_ERRORS = {
    Mode.THROTTLED: (400, "ThrottlingException", "Rate exceeded"),
    Mode.EXPIRED: (403, "ExpiredToken", "The security token included in the request is expired"),
}


class Received(NamedTuple):
    """A request that a receiver has stored."""

    headers: dict[str, str]
    body: bytes


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        cast(_Server, self.server).stand.serve(self, body)

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    stand: HttpStand

    def handle_error(self, *_: object) -> None:
        pass  # clients that hang up are part of the run


class HttpStand:
    """A server on a free port of loopback, which distorts its answers."""

    def __init__(self, *, seed: int = 0) -> None:
        self._server = _Server((HOST, 0), _Exchange)
        self._server.stand = self
        self.port: int = self._server.server_address[1]
        self.mode = Mode.PASS
        self._rng = random.Random(seed)
        self._in_time = threading.Event()
        self._in_time.set()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def put(self, mode: Mode) -> None:
        """Distort answers from now on, or pass them again."""
        self.mode = mode
        if mode is Mode.LATE:
            self._in_time.clear()
        else:
            self._in_time.set()

    def close(self) -> None:
        """End the server."""
        self._in_time.set()
        self._server.shutdown()
        self._server.server_close()

    def serve(self, exchange: _Exchange, body: bytes) -> None:
        """Answer a request."""
        raise NotImplementedError

    def _pass_answer(self, mode: Mode, exchange: _Exchange, answer: Callable[[], None]) -> None:
        """Answer, late or not at all."""
        self._in_time.wait()
        if mode is Mode.LOST:
            exchange.close_connection = True
        else:
            answer()


class EventReceiver(HttpStand):
    """Stores the events that the HTTP sink posts. `stored` has them in their order."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.url = f"http://{HOST}:{self.port}/events"
        self.stored: list[Received] = []

    def serve(self, exchange: _Exchange, body: bytes) -> None:
        """Store the event, unless the mode refuses it before."""
        mode = self.mode
        if mode is Mode.CUT:
            exchange.close_connection = True
            return
        if mode is Mode.PARTIAL and self._rng.randrange(2):
            mode = self._rng.choice([Mode.THROTTLED, Mode.LOST])
        if mode in _ERRORS:
            is_rate = mode is Mode.THROTTLED
            headers = {"Retry-After": "1"} if is_rate else {}
            exchange.answer(429 if is_rate else 401, headers)
            return
        headers = {name.lower(): value for name, value in exchange.headers.items()}
        self.stored.append(Received(headers, body))
        self._pass_answer(mode, exchange, lambda: exchange.answer(204, {}))


class AwsProxy(HttpStand):
    """Passes requests of SNS and SQS to a server.

    Args:
        url: of the server.
        seed: decides which entries the mode PARTIAL fails.
    """

    def __init__(self, url: str, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.url = f"http://{HOST}:{self.port}"
        self._server_port = urlsplit(url).port

    def serve(self, exchange: _Exchange, body: bytes) -> None:
        """Pass a request, or refuse it."""
        mode, action = self.mode, _action(exchange, body)
        if mode is Mode.CUT:
            exchange.close_connection = True
        elif mode in _ERRORS:
            _refuse(exchange, *_ERRORS[mode])
        elif mode is Mode.PARTIAL and action in _BATCHES:
            self._pass_part(exchange, body)
        else:
            if mode is Mode.DOUBLE and action in _SENDING:
                self._forward(exchange, body)
            answer = self._forward(exchange, body)
            self._pass_answer(mode, exchange, lambda: exchange.answer(*answer))

    def _pass_part(self, exchange: _Exchange, body: bytes) -> None:
        """Fail some entries: they are not passed, or passed and reported as failed."""
        request = json.loads(body)
        fates = {one["Id"]: self._rng.randrange(3) for one in request["Entries"]}
        passed = [one for one in request["Entries"] if fates[one["Id"]]]
        status, headers, answered = 200, {"Content-Type": "application/x-amz-json-1.0"}, b"{}"
        if passed:
            partial = json.dumps({**request, "Entries": passed}).encode()
            status, headers, answered = self._forward(exchange, partial)
        answer: dict[str, Any] = json.loads(answered)
        if status == 200:
            stored = [one for one in answer.get("Successful", []) if fates[one["Id"]] == 2]
            failed = [one for one in fates if fates[one] < 2]
            answer["Successful"] = stored
            answer["Failed"] = answer.get("Failed", []) + [_failure(one) for one in failed]
        exchange.answer(status, headers, json.dumps(answer).encode())

    def _forward(self, exchange: _Exchange, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return the server's answer. Without one, raise OSError, which ends the connection."""
        connection = http.client.HTTPConnection(HOST, self._server_port, timeout=60)
        headers = {
            name: value
            for name, value in exchange.headers.items()
            if name.lower() not in ("content-length", "connection", "expect")
        }
        try:
            connection.request("POST", exchange.path, body, headers)
            answer = connection.getresponse()
            kept = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() in ("content-type", "x-amzn-requestid", "x-amzn-query-error")
            }
            return answer.status, kept, answer.read()
        finally:
            connection.close()


def _action(exchange: _Exchange, body: bytes) -> str:
    """Return the name of a request: SQS has it in a header, SNS in a form."""
    if target := exchange.headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    return parse_qs(body.decode()).get("Action", [""])[0]


def _failure(entry: str) -> dict[str, Any]:
    return {
        "Id": entry,
        "SenderFault": False,
        "Code": "InternalError",
        "Message": "We encountered an internal error. Please try again.",
    }


def _refuse(exchange: _Exchange, status: int, code: str, text: str) -> None:
    if exchange.headers.get("X-Amz-Target"):
        kind, body = "application/x-amz-json-1.0", json.dumps({"__type": code, "message": text})
    else:
        kind = "text/xml"
        body = (
            '<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error>'
            f"<Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error>"
            "<RequestId>1</RequestId></ErrorResponse>"
        )
    exchange.answer(status, {"Content-Type": kind}, body.encode())
