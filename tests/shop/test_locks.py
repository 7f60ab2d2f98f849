"""Orders, payments and reservations are saved only under their lock (rule 16)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from inventory.models import Reservation
from orders.models import Order
from outbox.guards.locks import SavedWithoutLock
from payments.models import Payment
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db(transaction=True)


def a_row(model: type[Any]) -> Any:
    if model is Order:
        put_on_sale()
        return place()
    return model.objects.create(order_id=uuid4())


@pytest.mark.parametrize("model", [Order, Payment, Reservation])
def test_a_save_without_the_lock_is_refused(model: type[Any]):
    row = model.objects.get(pk=a_row(model).pk)

    with (
        transaction.atomic(),
        pytest.raises(SavedWithoutLock, match=f"{model._meta.label} {row.pk} is saved"),
    ):
        row.save()
