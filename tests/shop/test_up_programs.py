"""The programs of `manage.py up`: their readiness probes recognise what they print."""

from __future__ import annotations

import logging
import re
from logging.config import DictConfigurator
from pathlib import Path

import pytest
from django.conf import settings

from shop.up.broker import Broker
from shop.up.programs import CELERY_IS_READY, WEB_IS_READY, Project
from shop.up.stack import Options, _servers, _variables

pytestmark = pytest.mark.once


def line(form: str, logger: str, message: str) -> str:
    """Return a line as the settings format it."""
    configured = dict(settings.LOGGING["formatters"][form])
    formatter = DictConfigurator(settings.LOGGING).configure_formatter(configured)
    record = logging.LogRecord(logger, logging.INFO, "", 0, message, None, None)
    return str(formatter.format(record))


@pytest.mark.parametrize("form", ["plain", "json"])
class TestAProbe:
    @pytest.mark.parametrize(
        ("pattern", "logger", "message"),
        [
            (WEB_IS_READY, "gunicorn.error", "Serving requests."),
            (CELERY_IS_READY, "celery.apps.worker", "relay@host ready."),
        ],
    )
    def test_recognises_the_line_in_each_format(self, form, pattern, logger, message):
        """Failed for JSON: `LOG_FORMAT=json make up` ended because web was never ready."""
        assert re.search(pattern, line(form, logger, message))

    def test_recognises_no_line_that_goes_on(self, form):
        said = line(form, "celery.worker.consumer", 'The broker is not ready. "Trying" again.')

        assert not re.search(CELERY_IS_READY, said)


class TestTheBank:
    def test_signs_with_the_first_secret_as_the_shop_reads_it(self, tmp_path: Path, monkeypatch):
        monkeypatch.delenv("BANK_URL", raising=False)
        environment = {"PORT": "8000", "BANK_WEBHOOK_SECRETS": " new , old"}
        project = Project(root=Path(), environment=environment, worker_grace=1.0)

        [bank] = _servers(Options(data=tmp_path), project, Broker(variables={}), 1)

        assert bank.environment["BANK_WEBHOOK_SECRET"] == "new"


class TestTheVariablesOfASecondTerminal:
    URLS = {
        "REDIS_URL": "sentinel://:secret@one:26379,two:26379/0",
        "SQS_URL": "sqs://",
        "DATABASE_URL": "postgres://shop:secret@pgbouncer:6432/shop",
    }

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("REDIS_URL", "REDIS_MASTER_NAME"),
            ("REDIS_URL", "SENTINEL_PASSWORD"),
            ("SQS_URL", "SQS_REGION"),
            ("SQS_URL", "SQS_QUEUE_URL"),
            ("SQS_URL", "SQS_QUEUES"),
            ("SQS_URL", "SQS_VISIBILITY_SECONDS"),
            ("DATABASE_URL", "BEHIND_PGBOUNCER"),
        ],
    )
    def test_have_all_that_the_url_needs(self, tmp_path: Path, monkeypatch, url: str, name: str):
        """Failed: with Sentinels, each command ended with "REDIS_MASTER_NAME is not set"."""
        monkeypatch.setenv(url, self.URLS[url])
        monkeypatch.setenv(name, "1")
        broker = Broker(variables={url: self.URLS[url]})

        given = _variables(Options(data=tmp_path), broker, port=8000, bank_port=1)

        assert (given[url], given[name]) == (self.URLS[url], "1")
