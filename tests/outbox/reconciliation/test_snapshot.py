"""A snapshot shows the state at one time, and blocks no writer."""

from __future__ import annotations

import pytest
from django.db import InternalError, transaction

from outbox.reconciliation.examination import snapshot
from tests.outbox.project.freight.models import Shelf
from tests.threads import aside

pytestmark = pytest.mark.django_db(transaction=True)


def add(name: str) -> None:
    Shelf.objects.create(name=name)


def names() -> set[str]:
    return set(Shelf.objects.values_list("name", flat=True))


class TestASnapshot:
    def test_shows_the_rows_of_its_start_and_does_not_block_writers(self):
        """Seen to fail with a plain `atomic()`: PostgreSQL shows both, SQLite lets nobody write."""
        add("BEFORE")

        with snapshot():
            aside(lambda: add("MEANWHILE"))
            assert names() == {"BEFORE"}

        assert names() == {"BEFORE", "MEANWHILE"}

    def test_leaves_the_connection_unchanged(self):
        with snapshot():
            names()

        with transaction.atomic():
            add("AFTER")
        assert names() == {"AFTER"}

    def test_is_not_taken_within_a_transaction(self):
        with pytest.raises(RuntimeError), transaction.atomic(), snapshot():
            pass

    @pytest.mark.postgresql
    def test_cannot_be_written_to(self):
        with pytest.raises(InternalError), snapshot():
            add("NEVER")
