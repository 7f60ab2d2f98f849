from __future__ import annotations

import pytest
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from shop.models import Reconciliation


@pytest.fixture
def probe(settings) -> Client:
    """A probe calls by address and without HTTPS, which a real site refuses to all others."""
    settings.ALLOWED_HOSTS = ["shop.example.com"]
    settings.SECURE_SSL_REDIRECT = True
    return Client(headers={"host": "10.1.2.3:8000"})


class TestLiveness:
    def test_queries_no_database(self, probe):
        # Without the mark django_db, a query would fail this test.
        answer = probe.get("/livez")

        assert (answer.status_code, answer.content) == (200, b"ok\n")


@pytest.mark.django_db
class TestReadiness:
    def test_holds_with_a_migrated_database(self, probe):
        answer = probe.get("/readyz")

        assert (answer.status_code, answer.content) == (200, b"ok\n")

    def test_is_refused_while_a_migration_is_missing(self, probe):
        MigrationRecorder(connection).record_unapplied("auth", "0001_initial")

        answer = probe.get("/readyz")

        assert answer.status_code == 503
        assert answer.content == b"Migrations not applied: 1. Run manage.py migrate.\n"

    def test_is_refused_while_the_database_is_unreachable(self, probe):
        def away(*args):
            raise DatabaseError("password=secret")

        with connection.execute_wrapper(away):
            answer = probe.get("/readyz")

        assert answer.status_code == 503
        assert answer.content == b"The database does not answer.\n"


@pytest.mark.django_db
class TestMetrics:
    def test_require_the_token(self, probe, settings):
        settings.OUTBOX = {"METRICS_TOKEN": "secret"}

        refused = probe.get("/metrics")
        answer = probe.get("/metrics", headers={"authorization": "Bearer secret"})

        assert refused.status_code == 401
        assert answer.status_code == 200
        assert b'outbox_owed{handler="inventory.reserve_stock"' in answer.content

    def test_are_off_without_a_configured_token(self, probe, settings):
        settings.SECURE_SSL_REDIRECT = False
        headers = {"authorization": "Bearer ", "host": "shop.example.com"}

        assert probe.get("/metrics", headers=headers).status_code == 404

    @pytest.mark.parametrize(("differences", "balanced"), [(0, b"1.0"), (3, b"0.0")])
    def test_include_the_latest_reconciliation(self, probe, settings, differences, balanced):
        settings.OUTBOX = {"METRICS_TOKEN": "secret"}
        Reconciliation.objects.create(
            checked_at=timezone.now(),
            seconds=1,
            balanced=not differences,
            differences=differences,
            unsettled=0,
            report={},
        )

        answer = probe.get("/metrics", headers={"authorization": "Bearer secret"})

        assert b"\nshop_reconciliation_balanced " + balanced in answer.content
