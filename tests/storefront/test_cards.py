"""The test cards of the checkout, by the bank of the settings."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from django.core.checks import run_checks
from django.test import Client
from pytest_django import Settings

from orders.models import Order
from tests.storefront.factories import (
    checkout_fields,
    customer,
    product,
    put_into_basket,
    signed_in,
)
from tests.stripe_stand_in import KEY, LIVE_KEY

pytestmark = pytest.mark.django_db

NONE = "No payment method is available now"


@pytest.fixture
def alice() -> Client:
    client = signed_in(customer())
    put_into_basket(client, product())
    return client


def use_stripe(settings: Settings, key: str) -> None:
    settings.GATEWAY, settings.STRIPE_API_KEY = "stripe", key


def warnings() -> Iterable[str | None]:
    return [found.id for found in run_checks(tags=["storefront"], include_deployment_checks=True)]


class TestTheTestCardsOfStripe:
    def test_are_offered_with_a_test_key(self, alice: Client, settings: Settings):
        use_stripe(settings, KEY)

        page = alice.get("/checkout/").content.decode()

        assert 'value="pm_card_visa" checked' in page
        assert NONE not in page
        assert warnings() == []

    @pytest.mark.parametrize("key", [LIVE_KEY, LIVE_KEY.replace("sk_", "rk_")])
    def test_are_not_offered_with_a_live_key(self, alice: Client, settings: Settings, key: str):
        """Seen to be offered, and each order to be declined."""
        use_stripe(settings, key)

        page = alice.get("/checkout/").content.decode()

        assert "pm_card" not in page
        assert NONE in page
        assert "<button>Place the order" not in page
        assert warnings() == ["storefront.W001"]

    def test_are_refused_with_a_live_key(self, alice: Client, settings: Settings):
        """Of a page that was open before the key changed, or of a forged form."""
        fields = checkout_fields(alice.get("/checkout/").content.decode())
        use_stripe(settings, LIVE_KEY)

        answer = alice.post("/checkout/", {**fields, "card": "pm_card_visa"})

        assert answer.status_code == 422
        assert NONE in answer.content.decode()
        assert not Order.objects.exists()


def test_the_cards_of_the_other_bank_do_not_depend_on_a_key_of_stripe(
    alice: Client, settings: Settings
):
    settings.STRIPE_API_KEY = LIVE_KEY

    assert 'value="tok_success" checked' in alice.get("/checkout/").content.decode()
