from __future__ import annotations

import pytest
from django.conf import settings as django_settings

from shop.checks import check_production

SQLITE = {"default": {"ENGINE": "django.db.backends.sqlite3"}}
POSTGRESQL = {"default": {"ENGINE": "django.db.backends.postgresql"}}


@pytest.fixture
def production(settings):
    """Settings that suit production; each test spoils one of them."""
    # Not through the fixture: it would change the connections of the running tests.
    monkey = pytest.MonkeyPatch()
    monkey.setattr(django_settings, "DATABASES", POSTGRESQL)
    settings.DEBUG = False
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["shop.example.com"]
    settings.CELERY_BROKER_URL = "rediss://:secret@broker.example.com:6379/0"
    settings.SITE_ORIGIN = "https://shop.example.com"
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.BEHIND_PROXY, settings.TRUSTED_PROXIES = True, ["10.0.0.0/8", "fd00::/8", "unix"]
    yield monkey
    monkey.undo()


def reported() -> list[tuple[str, str]]:
    return [(str(message.id), str(message.hint)) for message in check_production()]


class TestTheDeploymentChecks:
    def test_accept_production_settings(self, production):
        assert reported() == []

    def test_accept_sqs_with_the_role_of_the_process(self, production):
        production.setattr(django_settings, "CELERY_BROKER_URL", "sqs://")

        assert reported() == []

    @pytest.mark.parametrize(
        ("name", "value", "identifier", "advice"),
        [
            ("DATABASES", SQLITE, "shop.W001", "Set DATABASE_URL to postgres://"),
            ("DEBUG", True, "shop.W002", "set DEBUG=false"),
            ("ALLOWED_HOSTS", ["*"], "shop.W003", "Set ALLOWED_HOSTS to"),
            ("SITE_ORIGIN", "", "shop.W009", "Set SITE_ORIGIN to this site's scheme and host name"),
            ("SITE_ORIGIN", "https://example.org", "shop.W010", "Add it to ALLOWED_HOSTS"),
            ("SITE_ORIGIN", "http://shop.example.com", "shop.W011", "address with https://"),
            ("CELERY_BROKER_URL", "redis://broker:6379/0", "shop.W004", "into REDIS_URL"),
            ("CELERY_BROKER_URL", "amqp://broker/", "shop.W004", "Give the broker a password"),
            ("TRUSTED_PROXIES", [], "shop.W006", "Set TRUSTED_PROXIES to the addresses"),
            ("BEHIND_PROXY", False, "shop.W007", "Set BEHIND_PROXY=true"),
            ("TRUSTED_PROXIES", ["0.0.0.0/0"], "shop.W008", "of your proxies only"),
            ("TRUSTED_PROXIES", ["0.0.0.0/1", "128.0.0.0/1"], "shop.W008", "proxies only"),
            ("TRUSTED_PROXIES", ["::/0"], "shop.W008", "of your proxies only"),
            ("TRUSTED_PROXIES", ["proxy"], "shop.E001", "separated by commas"),
            *(
                (
                    "EMAIL_BACKEND",
                    f"django.core.mail.backends.{backend}.EmailBackend",
                    "shop.W005",
                    "Set EMAIL_URL to smtp",
                )
                for backend in ("console", "filebased", "dummy", "locmem")
            ),
        ],
    )
    def test_report_development_settings(self, production, name, value, identifier, advice):
        production.setattr(django_settings, name, value)

        messages = reported()

        assert [message[0] for message in messages] == [identifier]
        assert advice in messages[0][1]
