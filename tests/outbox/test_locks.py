"""Rows that move only under their lock (rule 16), with the shop's own three.

Each test that finds something was seen to fail without `locks.watch()`; those of a lock that is
gone, with a mark kept on the row itself.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core import serializers
from django.db import transaction

from inventory.models import Reservation
from orders.models import Order
from outbox import guards_lifted
from outbox.guards.locks import SavedWithoutLock
from payments.models import Payment
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def order(no_nudge: None) -> Order:
    put_on_sale()
    return place()


def a_row(model: type[Any]) -> Any:
    if model is Order:
        put_on_sale()
        return place()
    return model.objects.create(order_id=uuid4())


@pytest.mark.usefixtures("no_nudge")
class TestASaveWithoutTheLock:
    @pytest.mark.parametrize("model", [Order, Payment, Reservation])
    def test_is_found(self, model: type[Any]):
        row = model.objects.get(pk=a_row(model).pk)

        with transaction.atomic(), pytest.raises(SavedWithoutLock) as found:
            row.save()

        line = inspect.getsourcelines(TestASaveWithoutTheLock.test_is_found)[1] + 5
        here = Path(__file__).relative_to(Path.cwd())
        said = f"{here}:{line}: {model._meta.label} {row.pk} is saved without a lock"
        assert str(found.value).startswith(said)

    def test_is_found_without_any_transaction(self, order: Order):
        with pytest.raises(SavedWithoutLock):
            order.save()

    def test_is_found_in_the_next_transaction(self, order: Order):
        with transaction.atomic():
            row = Order.objects.locked(order.pk)

        with transaction.atomic(), pytest.raises(SavedWithoutLock):
            row.save()

    def test_is_found_after_a_rollback(self, order: Order):
        with transaction.atomic():
            row = Order.objects.locked(order.pk)
            transaction.set_rollback(True)

        with transaction.atomic(), pytest.raises(SavedWithoutLock):
            row.save()

    def test_is_found_after_the_savepoint_in_which_it_was_locked_is_rolled_back(self, order: Order):
        with transaction.atomic():
            with transaction.atomic():
                row = Order.objects.locked(order.pk)
                transaction.set_rollback(True)
            with pytest.raises(SavedWithoutLock):
                row.save()

    def test_is_found_of_what_was_read_before_the_lock(self, order: Order):
        """The lock is there, but what is saved is older than it."""
        with transaction.atomic(), pytest.raises(SavedWithoutLock):
            Order.objects.locked(order.pk)
            order.save()

    def test_is_found_in_a_callback_after_the_commit(self, order: Order):
        with pytest.raises(SavedWithoutLock), transaction.atomic():
            transaction.on_commit(lambda: row.save())
            row = Order.objects.locked(order.pk)


class TestASave:
    def test_is_allowed_under_the_lock(self, order: Order):
        with transaction.atomic():
            row = Order.objects.locked(order.pk)
            row.save()
            with transaction.atomic():
                row.save(update_fields=["carrier"])

    def test_is_allowed_of_what_this_transaction_made(self):
        with transaction.atomic():
            payment = Payment.objects.create(order_id=uuid4())
            payment.save()

    def test_is_allowed_of_a_fixture(self, order: Order):
        [row] = serializers.deserialize("json", serializers.serialize("json", [order]))

        row.save()

    def test_is_allowed_where_the_guards_are_lifted(self, order: Order):
        with guards_lifted():
            order.save()
