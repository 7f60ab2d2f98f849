"""Keys and bars on the pages of a project that groups digits (`USE_THOUSAND_SEPARATOR`)."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from outbox import subscribe
from outbox.models import Attempt, Delivery, Operation, Subscription
from outbox.testing import Outbox
from tests.outbox.parcels import (
    DELIVERIES,
    dead_one,
    packed,
    page_of,
    subscribe_to_parcels,
    text_of,
)
from tests.outbox.project.freight.models import Parcel

NUMBER = 1_234_567


@pytest.fixture(autouse=True)
def grouped_digits(settings: Settings) -> None:
    settings.USE_THOUSAND_SEPARATOR = True


@pytest.fixture
def outbox(own_registry: None) -> Outbox:
    return subscribe_to_parcels()


@pytest.fixture
def parcel(outbox: Outbox) -> Parcel:
    """A parcel whose dead delivery has the number `NUMBER`."""
    parcel: Parcel = Parcel.objects.create()
    packed(outbox, parcel_id=parcel.pk)
    Attempt.objects.all().delete()
    Delivery.objects.filter(pk=dead_one().pk).update(id=NUMBER)
    return parcel


def chosen_by_buttons(text: str) -> set[str]:
    return set(re.findall(r'name="_selected_action" value="([^"]*)"', text))


class TestADelivery:
    def test_is_retried_by_the_button_of_its_page(self, parcel: Parcel, admin_client: Client):
        [chosen] = chosen_by_buttons(text_of(admin_client, page_of(dead_one())))

        admin_client.post(
            DELIVERIES, {"action": "retry", "_selected_action": chosen, "from_page": "1"}
        )

        assert not Delivery.objects.filter(state="dead").exists()

    def test_is_chosen_by_the_button_of_its_row(self, parcel: Parcel, admin_client: Client):
        text = text_of(admin_client, reverse("admin:freight_parcel_change", args=[parcel.pk]))

        assert chosen_by_buttons(text) == {str(NUMBER)}
        assert f"Delivery {NUMBER}:" in text

    def test_shows_its_number_as_the_commands_take_it(self, parcel: Parcel, admin_client: Client):
        for url in (DELIVERIES, page_of(dead_one())):
            text = text_of(admin_client, url)

            assert f">{NUMBER}<" in text
            assert "1,234,567" not in text


class TestASubscription:
    def test_is_chosen_by_the_buttons_of_its_pages(self, outbox: Outbox, admin_client: Client):
        Subscription.objects.filter(handler="tests.weigh_parcel").update(id=NUMBER)
        own = page_of(Subscription.objects.get(pk=NUMBER))
        handlers = reverse("admin:outbox_subscription_handlers")

        assert chosen_by_buttons(text_of(admin_client, own)) == {str(NUMBER)}
        assert str(NUMBER) in chosen_by_buttons(text_of(admin_client, handlers))

    def test_is_chosen_by_the_button_of_its_failing_group(
        self, own_registry: None, admin_client: Client
    ):
        @subscribe("tests.Packed", name="tests.tear_parcel")
        def tear_parcel() -> None:
            raise ZeroDivisionError("division by zero")

        packed(Outbox())
        Delivery.objects.update(subscription=NUMBER)
        Subscription.objects.filter(handler="tests.tear_parcel").update(id=NUMBER)

        text = text_of(admin_client, reverse("admin:outbox_delivery_dead"))

        assert chosen_by_buttons(text) == {str(NUMBER)}


class TestAnOperation:
    def test_has_a_bar_with_valid_numbers(self, db: None, admin_client: Client):
        now = timezone.now()
        row = Operation.objects.create(
            action="retry", by="user:1", started_at=now, seen_at=now, expected=20_000, touched=1_500
        )

        text = text_of(admin_client, page_of(row))

        assert '<progress class="outbox-progress" max="20000" value="1500"' in text
