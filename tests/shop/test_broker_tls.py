"""The certificate of a broker that is connected to by TLS."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisUnreachable

from shop.celery import app
from tests.servers.tls import tls_server, trusted_authority
from tests.shop.test_settings import setting


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this process trusts."""
    return trusted_authority(tmp_path, monkeypatch)


class TestRabbitmq:
    def test_with_a_certificate_of_another_host_is_refused(self, authority: trustme.CA):
        """Seen to fail: kombu does not check the host's name."""
        with tls_server(authority, "other.example") as server:
            connection = app.connection_for_write(f"amqps://shop:secret@127.0.0.1:{server.port}//")

            with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.0\.1"):
                connection.connect()

    def test_of_an_unknown_authority_is_refused(self, authority: trustme.CA):
        with tls_server(trustme.CA(), "127.0.0.1") as server:
            connection = app.connection_for_write(f"amqps://shop:secret@127.0.0.1:{server.port}//")

            with pytest.raises(ssl.SSLCertVerificationError):
                connection.connect()

    def test_is_accepted_on_each_of_several_nodes(self, authority: trustme.CA):
        """kombu's own option keeps the name of the first node."""
        with tls_server(authority, "127.0.0.1") as one, tls_server(authority, "localhost") as two:
            nodes = [f"127.0.0.1:{one.port}", f"localhost:{two.port}"]
            urls = ";".join(f"amqps://shop:secret@{node}//" for node in nodes)
            connection = app.connection_for_write(urls)

            with suppress(OperationalError):
                connection.ensure_connection(max_retries=1, interval_start=0)

            assert one.accepted
            assert two.accepted

    def test_is_accepted_again_by_the_name_localhost(self, authority: trustme.CA):
        """Failed: kombu replaces the name by 127.0.0.1, and the second attempt expected that."""
        with tls_server(authority, "localhost") as server:
            connection = app.connection_for_write(f"amqps://shop:secret@localhost:{server.port}//")
            for _ in range(2):
                with suppress(OSError):  # it only does the handshake
                    connection.transport.establish_connection()

            assert server.accepted == 2

    def test_has_the_other_options_for_tls(self, tmp_path: Path):
        """Failed: they were dropped, so an authority of one's own was unknown."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "own.pem")
        with tls_server(authority, "127.0.0.1") as server:
            connection = app.connection_for_write(
                f"amqps://shop:secret@127.0.0.1:{server.port}//",
                ssl={"ca_certs": str(tmp_path / "own.pem")},
            )
            with suppress(OSError):
                connection.transport.establish_connection()

            assert server.accepted


class TestRedis:
    @pytest.mark.parametrize("certified", ["127.0.0.1", "other.example"])
    def test_is_refused_without_a_valid_certificate(self, tmp_path: Path, certified: str):
        """Seen to fail: Celery accepts any certificate of `rediss://` without an option."""
        with tls_server(trustme.CA(), certified) as server:
            given = f"rediss://:secret@127.0.0.1:{server.port}/0"
            url = setting(tmp_path, "CELERY_BROKER_URL", REDIS_URL=given)

            with pytest.raises(RedisUnreachable, match="certificate verify failed"):
                app.connection_for_write(url).connect()

    def test_may_have_options_of_its_own(self, tmp_path: Path):
        given = "rediss://:secret@one:6379/0?ssl_cert_reqs=none"

        assert setting(tmp_path, "CELERY_BROKER_URL", REDIS_URL=given) == given

    def test_keeps_other_options(self, tmp_path: Path):
        given = "rediss://:secret@one:6379/0?ssl_ca_certs=/etc/ssl/own.pem"

        url = setting(tmp_path, "CELERY_BROKER_URL", REDIS_URL=given)

        assert url == f"{given}&ssl_cert_reqs=required"
