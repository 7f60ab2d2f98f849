"""The real web server for tests: gunicorn with this project's own configuration, on loopback."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from django.conf import settings

from shop.up.ports import free_port
from tests.closed_port import port_of_nobody
from tests.databases import fresh_database
from tests.processes import CEILING, NOTHING_GIVEN, Running, eventually

HOST = "127.0.0.1"
ORDER = {"payment_method": "tok_success", "lines": [{"sku": "TEA-SENCHA", "quantity": 1}]}
LOGIN = "/admin/login/"
# With this cookie Django reads the form for its CSRF token; without it, it refuses unread.
COOKIE = {"Cookie": f"csrftoken={'a' * 32}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", **COOKIE}


class Answer:
    """A response: its status, its text, and whether the server closed the connection after it."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _blank, body = raw.partition(b"\r\n\r\n")
        self.head, self.text = head.decode("latin-1"), body.decode("utf-8", "replace")
        self.status = int(head.split(b" ", 2)[1]) if raw else 0


class Connection:
    """A client's connection, on which each byte is sent as the test wants."""

    def __init__(self, port: int, *, source: str = HOST, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(CEILING)
        try:
            self.socket.bind((source, 0))
            self.socket.connect((HOST, port))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Connection:
        self.socket.sendall(data)
        return self

    def answer(self) -> Answer:
        """Wait for the end of the connection, and return what came."""
        parts = []
        try:
            while part := self.socket.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            pass  # the server closed while our bytes were on their way to it
        return Answer(b"".join(parts))

    def receive_until(self, end: bytes) -> bytes:
        """Wait for bytes that end so."""
        received = b""
        while not received.endswith(end):
            part = self.socket.recv(65536)
            assert part, received
            received += part
        return received

    def is_closed(self) -> bool:
        """Whether the server has closed it; what was received until then is dropped."""
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


class WebServer:
    """A running server, its database, and a customer's token."""

    def __init__(self, folder: Path, environment: Mapping[str, str | None]) -> None:
        self.folder = folder
        self.environment = {**NOTHING_GIVEN, **environment}
        self.token = ""
        self._program: Running | None = None

    @property
    def running(self) -> Running:
        assert self._program, "start() comes first"
        return self._program

    def prepare(self) -> None:
        """Migrate, and store the demo data."""
        setup = [sys.executable, "-m", "shop.up.setup"]
        assert self._run(setup).ends() == 0
        credentials = json.loads((self.folder / "credentials.json").read_text())
        self.token = credentials["alice"]["token"]

    def start(self, *options: str, **environment: str) -> int:
        """Start it on a free port and return that, once it answers."""
        port = free_port()
        self.start_at(f"{HOST}:{port}", *options, **environment)
        eventually(lambda: get(port, "/livez").status == 200, "the server answers")
        return port

    def start_at(self, bind: str, *options: str, **environment: str) -> None:
        """Start it, and wait until it listens there."""
        self.run_gunicorn("--bind", bind, *options, **environment)
        self.running.says("Listening at")

    def run_gunicorn(self, *options: str, **environment: str) -> Running:
        """Run it with these options besides those of `gunicorn.conf.py`, and one process."""
        command = [sys.executable, "-m", "gunicorn", "shop.wsgi", "--workers", "1", *options]
        self._program = self._run(command, **environment)
        return self._program

    def run_with_socket(self, listener: socket.socket) -> Running:
        """Run it with a socket that systemd would pass, by the protocol of sd_listen_fds(3)."""
        shell = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        program = [sys.executable, "-m", "gunicorn", "shop.wsgi", "--workers", "1"]
        self._program = Running(
            ["bash", "-c", shell, "bash", *program],
            environment=self.environment,
            folder=settings.BASE_DIR,
            pass_fds=[listener.fileno()],
        )
        return self._program

    def stop(self) -> None:
        if self._program:
            self._program.end_for_sure()
            self._program = None

    def place_order(self, port: int) -> Answer:
        body = json.dumps(ORDER).encode()
        return ask(
            port,
            "POST",
            "/api/orders/",
            {
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "Idempotency-Key": str(uuid4()),
                "Content-Length": str(len(body)),
            },
            body,
        )

    def run_code(self, code: str) -> None:
        """Run Python with the shop's models in a process of its own, and wait for its end."""
        done = self._run([sys.executable, "manage.py", "shell", "-v0", "-c", code])
        assert done.ends() == 0, done.output

    def _run(self, command: list[str], **environment: str) -> Running:
        return Running(
            command, environment={**self.environment, **environment}, folder=settings.BASE_DIR
        )


@contextmanager
def web_server(folder: Path, **environment: str) -> Iterator[WebServer]:
    """Yield one that is prepared and not started; stop it afterwards.

    Args:
        environment: what the shop's settings read besides.
    """
    with ExitStack() as cleanup:
        given = {
            "DATABASE_URL": cleanup.enter_context(fresh_database()),
            "REDIS_URL": f"redis://{HOST}:{port_of_nobody()}/0",
            "SHOP_LOCAL_DIR": str(folder),
            "TMPDIR": str(folder / "tmp"),
            **environment,
        }
        (folder / "tmp").mkdir()
        server = WebServer(folder, given)
        cleanup.callback(server.stop)
        server.prepare()
        yield server


def head(method: str, path: str, headers: Mapping[str, str] = {}) -> bytes:
    """The request's line and headers, without the blank line at their end."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if "Host" not in headers:
        lines.append("Host: localhost")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n"


def ask(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str] = {},
    body: bytes = b"",
    *,
    source: str = HOST,
) -> Answer:
    """Send one request and return the response."""
    with Connection(port, source=source) as connection:
        closing = {**headers, "Connection": "close"}
        return connection.send(head(method, path, closing) + b"\r\n" + body).answer()


def get(port: int, path: str, headers: Mapping[str, str] = {}) -> Answer:
    """GET; status 0 where nothing answers (yet)."""
    try:
        return ask(port, "GET", path, headers)
    except ConnectionRefusedError:
        return Answer(b"")


def ask_unix(path: Path, method: str, address: str, headers: Mapping[str, str]) -> Answer:
    """Send one request to a Unix domain socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CEILING)
        connection.connect(str(path))
        connection.sendall(head(method, address, {**headers, "Connection": "close"}) + b"\r\n")
        return Answer(b"".join(iter(lambda: connection.recv(65536), b"")))


def login_form(length: int, **more: str) -> bytes:
    """The head of a sign-in whose form has so many bytes."""
    headers = {**FORM, "Content-Length": str(length), **more}
    return head("POST", LOGIN, headers) + b"\r\n"
