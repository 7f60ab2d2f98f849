"""The shop behind real proxies, configured as in the documentation."""

from __future__ import annotations

import shutil
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from shop.up.ports import free_port
from tests.docs.pages import Page
from tests.processes import Running, eventually
from tests.shop.web_server import FORM, LOGIN, Answer, Connection, head, web_server

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.timeout(240)]

PAGE = "docs/how-to/put-a-proxy-in-front.md"
# The clients of each proxy: a guesser, and somebody else.
CLIENTS = {"nginx": ("127.0.0.3", "127.0.0.4"), "caddy": ("127.0.0.5", "127.0.0.6")}
FORGED = {"X-Forwarded-For": "198.51.100.1", "X-Real-IP": "198.51.100.1"}
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {block}
}}
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with `cert.pem` and `key.pem` for localhost."""
    folder = tmp_path_factory.mktemp("certificate")
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "cert.pem", append=True)
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the shop, as the page has one configure it."""
    with web_server(tmp_path_factory.mktemp("web")) as server:
        yield server.start(
            BEHIND_PROXY="true",
            TRUSTED_PROXIES="127.0.0.1,::1",
            HTTPS="true",
            API_RATE_WRONG_TOKENS="30/hour",  # so long that none expires during a test,
        )


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest,
    shop: int,
    certificate: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, int]]:
    """The name and the port of a proxy."""
    program = shutil.which(request.param) or shutil.which(request.param, path="/usr/sbin")
    if program is None:
        pytest.skip(f"{request.param} is not installed")
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    configure = {"nginx": nginx, "caddy": caddy}[request.param]
    running = Running(
        configure(program, folder, certificate, port=port, shop=shop),
        environment={"HOME": str(folder), "XDG_DATA_HOME": str(folder)},
    )
    try:
        eventually(lambda: listens(port) or running.has_ended, "the proxy listens")
        assert not running.has_ended, running.output
        yield request.param, port
    finally:
        running.send(signal.SIGTERM)
        running.end_for_sure()


def nginx(program: str, folder: Path, certificate: Path, *, port: int, shop: int) -> list[str]:
    (block,) = Page(PAGE).blocks("nginx")
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{shop};",
        "/etc/ssl/shop.pem": str(certificate / "cert.pem"),
        "/etc/ssl/shop.key": str(certificate / "key.pem"),
    }
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, block=changed(block, changes)))
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(program: str, folder: Path, certificate: Path, *, port: int, shop: int) -> list[str]:
    (block,) = Page(PAGE).blocks("caddyfile")
    keys = f"{certificate / 'cert.pem'} {certificate / 'key.pem'}"
    changes = {
        "{\n    servers {": "{\n    admin off\n    auto_https off\n    servers {",
        "shop.example.com {": f"https://localhost:{port} {{\n    bind 127.0.0.1\n    tls {keys}",
        "reverse_proxy 127.0.0.1:8000": f"reverse_proxy 127.0.0.1:{shop}",
    }
    (folder / "Caddyfile").write_text(changed(block, changes))
    return [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def changed(text: str, changes: dict[str, str]) -> str:
    for before, after in changes.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def listens(port: int) -> bool:
    try:
        with Connection(port):
            return True
    except ConnectionRefusedError:
        return False


class Client:
    """Somebody with an address of their own."""

    def __init__(self, port: int, authority: trustme.CA, address: str) -> None:
        self.port, self.address = port, address
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        connection = Connection(self.port, source=self.address)
        connection.socket = self.context.wrap_socket(connection.socket, server_hostname="localhost")
        length = {"Content-Length": str(len(body))} if body else {}
        sent = {**headers, **length, "Connection": "close"}
        with connection:
            return connection.send(head(method, path, sent) + b"\r\n" + body).answer()

    def try_token(self) -> int:
        return self.ask("GET", "/api/orders/", {"Authorization": "Bearer wrong", **FORGED}).status

    def try_password(self) -> int:
        page = self.ask("GET", LOGIN, {})
        cookie = page.head.partition("csrftoken=")[2].partition(";")[0]
        token = page.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        form = f"username=admin&password=wrong&csrfmiddlewaretoken={token}".encode()
        origin = {"Origin": "https://localhost", "Referer": "https://localhost/"}
        headers = {**FORM, **FORGED, **origin, "Cookie": f"csrftoken={cookie}"}
        return self.ask("POST", LOGIN, headers, form).status


@pytest.fixture
def guesser(proxy: tuple[str, int], authority: trustme.CA) -> Client:
    name, port = proxy
    return Client(port, authority, CLIENTS[name][0])


@pytest.fixture
def other(proxy: tuple[str, int], authority: trustme.CA) -> Client:
    name, port = proxy
    return Client(port, authority, CLIENTS[name][1])


class TestBehindAProxy:
    def test_https_is_detected(self, guesser: Client):
        answer = guesser.ask("GET", LOGIN, {"X-Forwarded-Proto": "http"})

        assert answer.status == 200

    def test_only_a_guesser_of_tokens_is_throttled(self, guesser: Client, other: Client):
        """Before, 60 of 60 were 401: whoever wrote a header was another client each time."""
        statuses = [guesser.try_token() for _ in range(60)]

        assert statuses == [401] * 30 + [429] * 30
        assert other.try_token() == 401

    def test_only_a_guesser_of_passwords_is_locked_out(self, guesser: Client, other: Client):
        """Before, 30 of 30 were answered as if they were the first."""
        statuses = [guesser.try_password() for _ in range(30)]

        assert statuses == [200] * 9 + [429] * 21
        assert other.try_password() == 200
        assert other.try_token() == 401

    def test_a_large_body_is_refused_before_it_is_sent(self, guesser: Client):
        announced = {**FORM, "Content-Length": "600000"}

        assert guesser.ask("POST", LOGIN, announced).status == 413

    def test_the_sign_in_is_under_its_own_path_alone(self, guesser: Client):
        answer = guesser.ask("GET", "/api/admin/login/", {"SCRIPT_NAME": "/api"})

        assert answer.status == 404


class TestWithoutTheProxy:
    def test_its_headers_change_nothing(self, shop: int):
        """Whoever reaches the port past the proxy is no proxy."""
        with Connection(shop, source="127.0.0.7") as connection:
            sent = {"X-Forwarded-Proto": "https", "Connection": "close"}
            answer = connection.send(head("GET", LOGIN, sent) + b"\r\n").answer()

        assert answer.status == 301
        assert "Location: https://localhost/admin/login/" in answer.head
