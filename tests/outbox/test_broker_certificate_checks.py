"""The checks of the broker's certificate, and what Celery accepts with the same settings."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import celery
import pytest
import trustme
from kombu.transport import TRANSPORT_ALIASES, pyamqp

from outbox.checks.broker_certificates import check_broker_certificates
from tests.outbox.celery_settings import set_celery
from tests.servers.tls import tls_server, trusted_authority

_VERIFIED = "?ssl_cert_reqs=required&ssl_check_hostname=true"


class Own(pyamqp.SSLTransport):
    """A transport of a project, which may verify more."""


@pytest.fixture(autouse=True)
def _transports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect by kombu's class, also if another test has loaded the shop, which has its own."""
    monkeypatch.setattr("kombu.transport._transport_cache", {})
    monkeypatch.setitem(TRANSPORT_ALIASES, "amqps", "kombu.transport.pyamqp:SSLTransport")


def problems(monkeypatch: pytest.MonkeyPatch, url: Any, tls: Any = False) -> list[str]:
    """Return the ids of messages for a broker."""
    set_celery(monkeypatch, "broker_url", url)
    set_celery(monkeypatch, "broker_use_ssl", tls)
    return [str(one.id).removeprefix("outbox.") for one in check_broker_certificates()]


def accepts(url: str, tls: Any, authority: trustme.CA, certified: str) -> bool:
    """Return whether Celery accepts a certificate; `url` has a place for the host."""
    with tls_server(authority, certified) as server:
        where = url.format(f"127.0.0.1:{server.port}")
        with suppress(Exception):  # the server only does the handshake
            celery.current_app.connection_for_write(where, ssl=tls).transport.establish_connection()
        return bool(server.accepted)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this process trusts."""
    return trusted_authority(tmp_path, monkeypatch)


@pytest.mark.once
class TestABrokerOnAnotherHost:
    @pytest.mark.parametrize(
        ("url", "tls"),
        [
            ("rediss://:secret@{}/0", False),
            ("rediss://:secret@{}/0?ssl_cert_reqs=none", False),
            ("rediss://:secret@{}/0", {"ssl_cert_reqs": "none"}),
            ("redis://:secret@{}/0", {"ssl_cert_reqs": ssl.CERT_NONE}),
            ("amqps://shop:secret@{}//", {"cert_reqs": ssl.CERT_NONE}),
        ],
    )
    def test_is_warned_of_if_any_certificate_is_accepted(self, monkeypatch, url: str, tls: Any):
        assert problems(monkeypatch, url.format("one:1"), tls) == ["W074"]
        assert accepts(url, tls, trustme.CA(), "other.example")

    def test_is_warned_of_if_redis_gets_no_tls_at_all(self, monkeypatch, known: trustme.CA):
        """kombu ignores options that are no dict."""
        url = "rediss://:secret@{}/0"

        assert problems(monkeypatch, url.format("one:1"), True) == ["W074"]
        assert not accepts(url, True, known, "127.0.0.1")

    @pytest.mark.parametrize(
        ("url", "tls"),
        [
            ("amqps://shop:secret@{}//", False),
            ("amqps://shop:secret@{}//", True),
            ("amqp://shop:secret@{}//", True),
            ("amqps://shop:secret@{}//", {"context": {"capath": None}}),
            ("rediss://:secret@{}/0", {"ssl_cert_reqs": "required", "ssl_check_hostname": False}),
        ],
    )
    def test_is_warned_of_if_the_host_is_not_compared(
        self, monkeypatch, known: trustme.CA, url: str, tls: Any
    ):
        assert problems(monkeypatch, url.format("one:1"), tls) == ["W075"]
        assert accepts(url, tls, known, "other.example")
        assert not accepts(url, tls, trustme.CA(), "other.example")

    @pytest.mark.parametrize(
        ("url", "tls"),
        [
            (f"rediss://:secret@{{}}/0{_VERIFIED}", False),
            ("rediss://:secret@{}/0", {"ssl_check_hostname": True}),
            ("amqps://shop:secret@{}//", {"server_hostname": "127.0.0.1"}),
            ("amqps://shop:secret@{}//", {"server_hostname": None}),
            (
                "amqps://shop:secret@{}//",
                {"server_hostname": "127.0.0.1", "context": {"check_hostname": True}},
            ),
        ],
    )
    def test_is_not_warned_of_if_its_certificate_is_verified(
        self, monkeypatch, known: trustme.CA, url: str, tls: Any
    ):
        assert problems(monkeypatch, url.format("one:1"), tls) == []
        assert accepts(url, tls, known, "127.0.0.1")
        assert not accepts(url, tls, known, "other.example")
        assert not accepts(url, tls, trustme.CA(), "127.0.0.1")

    @pytest.mark.parametrize("url", ["redis://one/0", "amqp://one//", "sentinel://one/0"])
    def test_without_tls_is_not_examined(self, monkeypatch, url: str):
        assert problems(monkeypatch, url) == []

    def test_is_each_of_several(self, monkeypatch):
        urls = ["amqps://localhost//", "amqps://two//", "amqps://three//"]

        assert problems(monkeypatch, ";".join(urls)) == ["W075"]
        assert problems(monkeypatch, urls) == ["W075"]

    def test_may_be_behind_a_sentinel_of_this_host(self, monkeypatch):
        tls = {"ssl_cert_reqs": "none"}

        assert problems(monkeypatch, "sentinel://localhost/0", tls) == ["W074"]

    def test_may_be_the_one_to_read_from(self, monkeypatch):
        set_celery(monkeypatch, "broker_read_url", "rediss://one/0")

        assert problems(monkeypatch, f"rediss://one/0{_VERIFIED}") == ["W074"]


@pytest.mark.once
class TestNoMessage:
    @pytest.mark.parametrize("url", ["rediss://localhost/0", "amqps://127.0.0.1//"])
    def test_is_about_this_host(self, monkeypatch, url: str):
        assert problems(monkeypatch, url) == []

    def test_is_about_a_transport_of_the_project(self, monkeypatch):
        monkeypatch.setitem(TRANSPORT_ALIASES, "amqps", f"{__name__}:Own")

        assert problems(monkeypatch, "amqps://one//") == []

    @pytest.mark.parametrize("url", ["rediss://one/0?ssl_cert_reqs=maybe", "nothing://one"])
    def test_is_about_a_url_that_kombu_cannot_read(self, monkeypatch, url: str):
        assert problems(monkeypatch, url) == []
