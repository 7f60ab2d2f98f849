"""The programs of `manage.py up`: their readiness probes recognise what they print."""

from __future__ import annotations

import logging
import re
from logging.config import DictConfigurator
from pathlib import Path

import pytest
from django.conf import settings

from shop.logs import AccessFilter
from shop.up.broker import Broker
from shop.up.programs import ACCESS_LOG, CELERY_IS_READY, WEB_IS_READY, Project
from shop.up.stack import Options, _servers, _variables

pytestmark = pytest.mark.once


def line(form: str, logger: str, message: str) -> str:
    """Return a line as the settings format it."""
    return formatted(form, logging.LogRecord(logger, logging.INFO, "", 0, message, None, None))


def formatted(form: str, record: logging.LogRecord) -> str:
    configured = dict(settings.LOGGING["formatters"][form])
    formatter = DictConfigurator(settings.LOGGING).configure_formatter(configured)
    return str(formatter.format(record))


def access_line(form: str, path: str, status: str) -> str:
    """Return gunicorn's line about a request, as the web server of `make up` prints it."""
    atoms = {"m": "GET", "U": path, "{raw_uri}e": path, "s": status, "M": 3, "D": 3000, "h": "::1"}
    if form == "plain":
        return ACCESS_LOG % atoms
    atoms |= {"L": "0.003", "{x-correlation-id}o": "-"}
    record = logging.LogRecord("gunicorn.access", logging.INFO, "", 0, ACCESS_LOG, (atoms,), None)
    AccessFilter().filter(record)
    return formatted(form, record)


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


@pytest.mark.parametrize("form", ["plain", "json"])
class TestTheWebServer:
    @pytest.mark.parametrize(
        ("path", "status", "is_hidden"),
        [
            ("/static/shop.css", "200", True),
            ("/static/shop.css", "304", True),
            ("/static/gone.css", "404", False),
            ("/admin/jsi18n/", "200", True),
            ("/livez", "200", True),
            ("/", "200", False),
        ],
    )
    def test_hides_parts_of_pages_in_each_format(self, form, path, status, is_hidden):
        """Failed for JSON: each static file of a page was a line."""
        project = Project(root=Path(), environment={}, worker_grace=1.0)
        hidden = project.web(port=8000, descriptor=3).hidden

        assert hidden
        assert bool(re.search(hidden, access_line(form, path, status))) == is_hidden


class TestTheBank:
    def test_signs_with_the_first_secret_as_the_shop_reads_it(self, tmp_path: Path, monkeypatch):
        monkeypatch.delenv("BANK_URL", raising=False)
        environment = {"PORT": "8000", "BANK_WEBHOOK_SECRETS": " new , old"}
        project = Project(root=Path(), environment=environment, worker_grace=1.0)

        [bank] = _servers(Options(data=tmp_path), project, Broker(variables={}), 1)

        assert bank.environment["BANK_WEBHOOK_SECRET"] == "new"


class TestTheVariablesOfTheRunFile:
    def test_include_how_the_database_is_reached(self, tmp_path: Path, monkeypatch):
        """Failed: a second terminal used server-side cursors through PgBouncer."""
        given = {"DATABASE_URL": "postgres://me@127.0.0.1:6432/shop", "BEHIND_PGBOUNCER": "true"}
        for name, value in given.items():
            monkeypatch.setenv(name, value)

        chosen = Broker(variables={"REDIS_URL": "redis://127.0.0.1:1/0"})
        found = _variables(Options(data=tmp_path), chosen, port=8000, bank_port=1)

        assert found == {**found, **given, **chosen.variables}

    def test_include_the_gateway_of_the_payments(self, tmp_path: Path, monkeypatch):
        """Failed: `manage.py reconcile` in a second terminal asked the simulated bank."""
        given = {
            "GATEWAY": "stripe",
            "STRIPE_API_KEY": "sk_test_1",
            "STRIPE_API_URL": "http://127.0.0.1:1",
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)

        found = _variables(Options(data=tmp_path), Broker(variables={}), port=8000, bank_port=1)

        assert found == {**found, **given}
