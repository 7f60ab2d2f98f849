from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection

from orders.models import Order
from outbox.models import Delivery, Event, Subscription
from tests import fast_flush
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place


@pytest.mark.django_db(transaction=True)
class TestTheDatabaseAfterATestThatCommits:
    def test_has_no_row_of_the_test_and_all_content_types_and_permissions(self, outbox):
        put_on_sale()
        place()
        outbox.deliver_all(only="inventory")
        Group.objects.create(name="packers").permissions.add(Permission.objects.all()[0])
        kept = ContentType.objects.count(), Permission.objects.count()

        fast_flush._empty(connection)

        assert not any(model.objects.exists() for model in (Order, Event, Delivery, Group))
        assert (ContentType.objects.count(), Permission.objects.count()) == kept

    def test_has_the_subscriptions_that_migrate_left(self, db):
        fast_flush._empty(connection)
        stored = list(Subscription.objects.order_by("pk").values())
        Subscription.objects.latest("pk").delete()
        Subscription.objects.update(paused_by="ann")

        fast_flush._empty(connection)

        assert stored
        assert list(Subscription.objects.order_by("pk").values()) == stored

    def test_is_emptied_as_django_does_where_a_test_has_changed_the_permissions(self, db):
        is_usual = fast_flush._is_ours("default")

        Permission.objects.create(
            name="x", codename="x", content_type=ContentType.objects.get_for_model(Group)
        )

        assert is_usual
        assert not fast_flush._is_ours("default")
