"""Clients that mean harm, at work until standard input is closed: `python -m benchmarks.attackers`.

    python -m benchmarks.attackers <port of the web process> <token of a customer>

Slow senders hold connections open and send a byte now and then. Large bodies are sent to a page for
everybody and to the API. A customer registers webhooks whose receivers answer after nine seconds,
has messages sent to them, and changes a webhook's host to names that take ten seconds to look up.
The program prints the number of requests of each kind as JSON when it ends.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from uuid import uuid4

SLOW_SENDERS = 200
ENDPOINTS = 10
#: Seconds until a slow receiver answers: just below the shop's time-out of ten.
RECEIVER_SECONDS = 9.0
#: Seconds between two requests of each kind of client.
EACH = {"large form": 0.5, "large order": 0.5, "message": 0.5, "name": 0.5}
FORM_BYTES, ORDER_BYTES = 120_000_000, 250_000

_ended = threading.Event()
_done: Counter[str] = Counter()


class SlowReceiver(BaseHTTPRequestHandler):
    """A customer's system that answers just before the shop gives up."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        _done["slow receiver"] += 1
        _ended.wait(RECEIVER_SECONDS)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None: ...


class Customer:
    """Asks the API as one customer, whatever it answers."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid4()),
        }
        try:
            connection.request(method, path, body, headers)
            return connection.getresponse().read()
        finally:
            connection.close()

    def add_endpoint(self, url: str) -> str:
        wanted = {"url": url, "event_types": ["order.placed"]}
        answer = json.loads(self.ask("POST", "/api/webhooks/", json.dumps(wanted).encode()))
        if "id" not in answer:
            raise SystemExit(f"The webhook was refused: {answer}")
        return str(answer["id"])

    def remove_endpoints(self) -> None:
        for one in json.loads(self.ask("GET", "/api/webhooks/"))["results"]:
            self.ask("DELETE", f"/api/webhooks/{one['id']}/")


def main(port: int, token: str) -> None:
    """Attack until standard input is closed."""
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), SlowReceiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    customer = Customer(port, token)
    url = f"http://127.0.0.1:{receiver.server_port}"
    customer.remove_endpoints()  # of an attack before
    endpoints = [customer.add_endpoint(f"{url}/{number}") for number in range(ENDPOINTS)]
    numbers = count()
    order = json.dumps({f"unknown field {n}": 1 for n in range(ORDER_BYTES // 24)}).encode()
    kinds: dict[str, Callable[[], object]] = {
        "large form": lambda: _send_large_form(port),
        "large order": lambda: customer.ask("POST", "/api/orders/", order),
        "message": lambda: customer.ask(
            "POST", f"/api/webhooks/{endpoints[next(numbers) % ENDPOINTS]}/test/", b"{}"
        ),
        "name": lambda: customer.ask(
            "PATCH",
            f"/api/webhooks/{endpoints[0]}/",
            json.dumps({"url": f"https://{next(numbers)}.slow.test/"}).encode(),
        ),
    }
    for name, act in kinds.items():
        threading.Thread(target=_repeat, args=(name, act), daemon=True).start()
    threading.Thread(target=_send_slowly, args=(port,), daemon=True).start()
    print("attacking", flush=True)
    sys.stdin.read()
    _ended.set()
    print(json.dumps(_done))


def _repeat(name: str, act: Callable[[], object]) -> None:
    while not _ended.wait(EACH[name]):
        try:
            act()
        except (OSError, HTTPException):
            _done["cut off"] += 1
        _done[name] += 1


def _send_large_form(port: int) -> None:
    """Announce a form of 120 MB, and send it until the server refuses more."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(_head(FORM_BYTES))
        for _ in range(100):
            connection.sendall(b"x" * 65536)


def _send_slowly(port: int) -> None:
    """Keep so many connections open, each with a request that is never complete."""
    held: list[socket.socket] = []
    while not _ended.wait(1):
        held = [one for one in held if _sends_a_byte(one)]
        held += list(_opened(port, SLOW_SENDERS - len(held)))


def _opened(port: int, number: int) -> Iterator[socket.socket]:
    for _ in range(number):
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        connection.sendall(_head(1000))
        _done["slow sender"] += 1
        yield connection


def _sends_a_byte(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
    except OSError:
        connection.close()
        return False
    return True


def _head(length: int) -> bytes:
    lines = (
        "POST /admin/login/ HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {length}",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
