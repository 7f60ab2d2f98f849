"""A snapshot shows one moment, and holds nobody up."""

from __future__ import annotations

import pytest
from django.db import InternalError, transaction

from inventory.models import Product
from outbox.reconciliation.snapshot import snapshot
from shared.money import Money
from tests.flows.threads import aside

pytestmark = pytest.mark.django_db(transaction=True)


def add(sku: str) -> None:
    # Of no app that tells events: what counts is a commit beside.
    price = Money(amount=1, currency="JPY")
    Product.objects.create(sku=sku, name=sku, price=price.amount, currency=price.currency)


def skus() -> set[str]:
    return set(Product.objects.values_list("sku", flat=True))


class TestASnapshot:
    def test_shows_what_was_there_when_it_began_and_lets_others_write(self):
        """Seen to fail with a plain `atomic()`: PostgreSQL shows both, SQLite lets nobody write."""
        add("BEFORE")

        with snapshot():
            aside(lambda: add("MEANWHILE"))
            assert skus() == {"BEFORE"}

        assert skus() == {"BEFORE", "MEANWHILE"}

    def test_leaves_the_connection_as_it_was(self):
        with snapshot():
            skus()

        with transaction.atomic():
            add("AFTER")
        assert skus() == {"AFTER"}

    def test_is_not_taken_within_a_transaction(self):
        with pytest.raises(RuntimeError), transaction.atomic(), snapshot():
            pass

    @pytest.mark.postgresql
    def test_cannot_be_written_to(self):
        with pytest.raises(InternalError), snapshot():
            add("NEVER")
