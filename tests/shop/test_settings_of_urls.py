"""Settings with a URL or a token: what is refused, and what no error quotes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shop.test_settings import manage, setting


class TestAUrlThatCannotBeRead:
    @pytest.mark.parametrize(
        ("variable", "url"),
        [
            ("DATABASE_URL", "postgres://shop:a-pass/word@db.example.com:5432/shop"),
            ("EMAIL_URL", "smtp+tls://shop:a-pass/word@mail.example.com:587"),
            ("REDIS_URL", "rediss://:a-pass#word@broker.example.com:6379/0"),
            ("AMQP_URL", "amqp://shop:secret@one:5672//;amqp://shop:a-pass?word@two:5672//"),
        ],
    )
    def test_is_named_and_not_quoted(self, tmp_path: Path, variable: str, url: str):
        """Seen to fail: a traceback with a part of the password, and without the variable."""
        answer = manage(tmp_path, "check", **{variable: url})

        assert answer.returncode == 1
        assert answer.stderr.startswith(f"{variable} is not a valid URL. Percent-encode")
        assert "a-pass" not in answer.stderr


class TestNodesOfRabbitmq:
    @pytest.mark.parametrize(
        "url", ["amqp://shop:secret@one//,amqp://shop:secret@two//", "amqp://shop:secret@one,two/"]
    )
    def test_are_not_separated_by_commas(self, tmp_path: Path, url: str):
        """Seen to fail: a worker wrote the second password to its log, as a virtual host."""
        answer = manage(tmp_path, "check", AMQP_URL=url)

        assert answer.returncode == 1
        assert answer.stderr.startswith("AMQP_URL has commas between nodes of RabbitMQ.")
        assert "secret" not in answer.stderr

    def test_may_have_a_comma_in_the_password(self, tmp_path: Path):
        url = "amqp://shop:sec,ret@one/shop;amqp://shop:sec,ret@two/shop"

        assert setting(tmp_path, "CELERY_BROKER_URL", AMQP_URL=url) == url


class TestAToken:
    @pytest.mark.parametrize(
        ("variable", "name"),
        [
            ("METRICS_TOKEN", "OUTBOX['METRICS_TOKEN']"),
            ("BANK_API_KEY", "BANK_API_KEY"),
            ("STRIPE_API_KEY", "STRIPE_API_KEY"),
            ("SENTINEL_PASSWORD", "SENTINEL_PASSWORD"),
        ],
    )
    def test_may_end_with_a_line_feed(self, tmp_path: Path, variable: str, name: str):
        """Seen to fail: /metrics refused each scraper, and errors quoted the key of the bank."""
        assert setting(tmp_path, f"{name}.encode()", **{variable: "token\n"}) == "b'token'"
