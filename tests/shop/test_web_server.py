"""The web server under slow, large and forged requests: real processes, real sockets."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from shop.server import Worker
from shop.up.ports import free_port
from tests.processes import children, eventually
from tests.shop.web_server import (
    FORM,
    HOST,
    LOGIN,
    Connection,
    WebServer,
    ask,
    ask_unix,
    get,
    head,
    login_form,
    web_server,
)

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.timeout(240)]

SLOW = 500
SCRIPT = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
SIGN_IN = "Log in | "
# Each names another path, scheme, host or address than the connection has.
FORGED = {
    "SCRIPT_NAME": "/api",
    "Script-Name": "/api",
    "PATH_INFO": LOGIN,
    "X-Script-Name": "/api",
    "X-Forwarded-Prefix": "/api",
    "X-Original-URL": LOGIN,
    "X-Rewrite-URL": LOGIN,
    "X-HTTP-Method-Override": "DELETE",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Host": "evil.example.com",
    "X-Forwarded-Port": "8443",
    "X-Forwarded-For": "198.51.100.1",
    "X-Real-IP": "198.51.100.1",
    "Forwarded": "for=198.51.100.1;proto=https;host=evil.example.com",
    "REMOTE_ADDR": "198.51.100.1",
    "Remote-User": "admin",
    "REMOTE_USER": "admin",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with web_server(tmp_path_factory.mktemp("web")) as one:
        yield one


@pytest.fixture(scope="class")
def port(server: WebServer, request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server with the options of the test class."""
    yield server.start(*request.cls.OPTIONS, **request.cls.ENVIRONMENT)
    server.stop()


@pytest.fixture
def stopping(server: WebServer) -> Iterator[WebServer]:
    yield server
    server.stop()


class TestFiveHundredSlowClients:
    """Seen to fail with the worker class gthread: nobody else was answered."""

    OPTIONS: list[str] = []
    ENVIRONMENT = {"REQUEST_SECONDS": "120"}

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(head("GET", "/livez") + b"X-Slow: ", id="half of the headers"),
            pytest.param(login_form(1000) + b"u", id="half of the body"),
            pytest.param(head("GET", "/livez") + b"\r\n", id="a request and then nothing"),
            pytest.param(b"", id="nothing"),
        ],
    )
    def test_do_not_delay_other_clients(self, server: WebServer, port: int, sent: bytes):
        with ExitStack() as held:
            for _ in range(SLOW):
                held.enter_context(Connection(port)).send(sent)

            assert [get(port, "/livez").status for _ in range(5)] == [200] * 5
            assert server.place_order(port).status == 201

    def test_that_read_no_answers_do_not_delay_other_clients(self, server: WebServer, port: int):
        """Seen to fail with waitress's own parser: each took a thread after 16 MB."""
        wanted = head("GET", SCRIPT) + b"\r\n"
        with ExitStack() as held:
            for _ in range(20):
                held.enter_context(Connection(port, receive_buffer=2048)).send(wanted * 40)

            # So often that the server has come to all of their requests meanwhile.
            assert {get(port, "/livez").status for _ in range(300)} == {200}
            assert server.place_order(port).status == 201


class TestTheTimeLimitOfAClient:
    # A client of a busy machine sends its next bytes within this time.
    OPTIONS = ["--keep-alive", "5"]
    ENVIRONMENT = {"REQUEST_SECONDS": "5"}

    @pytest.mark.parametrize(
        "begun", [head("GET", "/livez") + b"X-Slow: ", login_form(100_000)], ids=["headers", "body"]
    )
    def test_applies_although_single_bytes_arrive(self, port: int, begun: bytes):
        """Seen to fail where the time since the last byte counts."""
        with Connection(port).send(begun) as connection:

            def is_cut_off() -> bool:
                try:
                    connection.send(b"x")
                except (BrokenPipeError, ConnectionResetError):
                    return True
                return connection.is_closed()

            eventually(is_cut_off, "the connection is closed")

    def test_applies_to_idle_connections(self, port: int):
        with Connection(port).send(head("GET", "/livez") + b"\r\n") as connection:
            eventually(connection.is_closed, "the connection is closed")

    def test_restarts_with_each_request(self, port: int):
        with Connection(port) as connection:
            for _ in range(3):
                connection.send(head("GET", "/livez") + b"\r\n")
                assert connection.receive_until(b"ok\n").startswith(b"HTTP/1.1 200 OK")


class TestMoreClientsThanConnections:
    """A process has forty connections here, of which two are its own."""

    OPTIONS = ["--worker-connections", "40"]
    ENVIRONMENT = {"REQUEST_SECONDS": "1"}

    @pytest.mark.parametrize(
        "sent", [head("GET", "/livez") + b"\r\n", head("GET", "/livez")], ids=["idle", "slow"]
    )
    def test_are_served_in_turn(self, port: int, sent: bytes):
        """Seen to fail with the idle time of a quiet server, and with no time for a request."""
        with ExitStack() as held:
            for _ in range(80):
                held.enter_context(Connection(port)).send(sent)

            assert get(port, "/livez").status == 200


class TestABody:
    OPTIONS: list[str] = []
    ENVIRONMENT: dict[str, str] = {}

    def test_of_a_hundred_megabytes_is_refused_without_reading(self, port: int):
        """Nothing of the body is sent, so whoever reads first waits for ever."""
        kind = {"Content-Type": "multipart/form-data; boundary=x"}

        with Connection(port).send(login_form(120_000_000, **kind)) as connection:
            assert connection.answer().status == 413

    def test_in_chunks_is_refused_above_the_limit(self, port: int):
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        headers = {**FORM, "Transfer-Encoding": "chunked"}

        with Connection(port).send(head("POST", LOGIN, headers) + b"\r\n") as connection:
            # The server may answer and close before the last chunk is sent.
            with suppress(ConnectionResetError, BrokenPipeError):
                for _ in range(9):
                    connection.send(chunk)

            assert connection.answer().status == 413

    def test_of_a_file_is_refused_and_leaves_no_file(self, server: WebServer, port: int):
        content = b"x" * 200_000
        body = (
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
            + content
            + b"\r\n--x--\r\n"
        )
        headers = {
            **FORM,
            "Content-Type": "multipart/form-data; boundary=x",
            "Content-Length": str(len(body)),
        }

        assert ask(port, "POST", LOGIN, headers, body).status == 415
        assert list((server.folder / "tmp").iterdir()) == []


class TestAHeader:
    OPTIONS = ["--access-logfile", "-", "--access-logformat", "client %(h)s"]
    ENVIRONMENT: dict[str, str] = {}

    @pytest.mark.parametrize("name", FORGED)
    def test_changes_neither_path_nor_scheme_nor_host(self, port: int, name: str):
        """Seen to fail with gunicorn's own worker: SCRIPT_NAME showed the sign-in."""
        forged = {name: FORGED[name]}

        beside = get(port, "/api/admin/login/", forged)
        redirect = get(port, "/admin/", forged)
        page = get(port, LOGIN, forged)

        assert beside.status == 404
        assert SIGN_IN not in beside.text
        assert redirect.status == 302
        assert f"Location: {LOGIN}?next=/admin/\r\n" in redirect.head + "\r\n"
        assert page.status == 200
        assert "evil.example.com" not in page.text

    def test_changes_no_address(self, server: WebServer, port: int):
        for name, value in FORGED.items():
            get(port, "/livez", {name: value})

        def clients() -> list[str]:
            return [line for line in server.running.lines if line.startswith("client")]

        # A line is written after its answer.
        eventually(lambda: len(clients()) >= len(FORGED), "each request has its line")
        assert set(clients()) == {"client 127.0.0.1"}

    @pytest.mark.parametrize(
        "path", ["//admin/login/", "/%2fadmin/login/", "//api/../admin/login/"]
    )
    def test_is_not_needed_to_find_the_sign_in_under_another_path(self, port: int, path: str):
        """A proxy with a rule about /admin/ does not know these."""
        answer = get(port, path)

        assert answer.status == 404
        assert SIGN_IN not in answer.text


class TestAStop:
    def test_completes_requests_in_progress(self, stopping: WebServer):
        port = stopping.start()
        with Connection(port).send(login_form(10)) as busy, Connection(port) as idle:
            get(port, "/livez")  # both are accepted by now

            stopping.running.send(signal.SIGTERM)
            eventually(idle.is_closed, "the idle connection is closed")

            assert busy.send(b"u=1&p=2345").answer().status == 403
        assert stopping.running.ends() == 0

    def test_of_a_process_after_its_requests_starts_a_new_one(self, stopping: WebServer):
        port = stopping.start("--max-requests", "3")
        before = set(children(stopping.running.pid))

        for _ in range(3):
            get(port, "/livez")

        eventually(
            lambda: set(children(stopping.running.pid)).isdisjoint(before), "another process"
        )
        eventually(lambda: get(port, "/livez").status == 200, "the new process answers")


class TestAUnixSocket:
    def test_is_trusted_if_it_is_named(self, stopping: WebServer):
        path = stopping.folder / "web.sock"
        headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        stopping.start_at(
            f"unix:{path}",
            *("--access-logfile", "-", "--access-logformat", "client %(h)s"),
            BEHIND_PROXY="true",
            TRUSTED_PROXIES="unix",
            HTTPS="true",
        )

        assert ask_unix(path, "GET", LOGIN, headers).status == 200
        stopping.running.says("^client 203.0.113.7$")


class TestTheNumberOfRequests:
    def test_ends_a_process_after_two_threads_have_counted_at_once(self):
        worker = object.__new__(Worker)
        worker.nr, worker.max_requests, worker.alive = 10, 10, True  # another thread counted 10
        worker.log = logging.getLogger("tests")

        worker._count()

        assert not worker.alive


class TestTheSocketOfSystemd:
    """`deploy/systemd/shop-web.socket`."""

    def test_keeps_a_request_until_the_server_has_restarted(self, stopping: WebServer):
        """The test holds the socket, as systemd does."""
        with socket.create_server((HOST, 0)) as listener, ThreadPoolExecutor() as pool:
            port = listener.getsockname()[1]
            before = stopping.run_with_socket(listener)
            eventually(lambda: get(port, "/livez").status == 200, "the server answers")
            before.send(signal.SIGTERM)
            assert before.ends() == 0

            waiting = pool.submit(get, port, "/livez")
            stopping.run_with_socket(listener)

            assert waiting.result().status == 200


class TestTheConfiguration:
    def test_may_have_several_ports(self, stopping: WebServer):
        other = free_port()

        port = stopping.start("--bind", f"127.0.0.1:{other}")

        assert [get(one, "/livez").status for one in (port, other)] == [200, 200]

    def test_refuses_tls(self, stopping: WebServer, tmp_path: Path):
        for name in ("key", "cert"):
            (tmp_path / name).touch()
        options = ("--keyfile", str(tmp_path / "key"), "--certfile", str(tmp_path / "cert"))

        program = stopping.run_gunicorn("--bind", "127.0.0.1:0", *options)

        assert program.ends() != 0
        assert "does not support TLS" in program.output

    def test_does_not_mix_ports_and_unix_sockets(self, stopping: WebServer):
        path = f"unix:{stopping.folder / 'mixed.sock'}"

        program = stopping.run_gunicorn("--bind", "127.0.0.1:0", "--bind", path)

        assert program.ends() != 0
        assert "Bind to one kind" in program.output
