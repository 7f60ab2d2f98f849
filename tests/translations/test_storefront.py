"""The shop's own pages are in Japanese: with products, with a basket, and with an order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from orders import services
from orders.models import Order
from tests.storefront.factories import (
    checkout_form,
    customer,
    product,
    put_into_basket,
    signed_in,
)
from tests.translations.visible import english_words, texts_of

pytestmark = [pytest.mark.django_db, pytest.mark.once]

JAPANESE = {"accept-language": "ja"}
NAME = "hanako"


@pytest.fixture
def hanako() -> User:
    return customer(NAME)


@pytest.fixture
def visitor(hanako: User) -> Client:
    """A customer whose browser asks for Japanese, with a product in the basket."""
    client = signed_in(hanako)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "ja"
    put_into_basket(client, product(units=3), quantity=2)
    return client


def english(page: str) -> list[str]:
    """Return the English words of a page, besides the customer's name."""
    assert '<html lang="ja"' in page
    return [
        word for text in texts_of(page) for word in english_words(text, known=frozenset({NAME}))
    ]


def shown(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200, url
    return answer.content.decode()


def place(client: Client) -> Order:
    client.post("/checkout/", checkout_form(client))
    return Order.objects.get()


class TestAPageOfTheShop:
    @pytest.mark.parametrize("url", ["/", "/basket/", "/checkout/", "/orders/"])
    def test_is_in_japanese(self, visitor: Client, url: str):
        assert english(shown(visitor, url)) == []

    @pytest.mark.parametrize("url", ["/", "/basket/", "/account/sign-in/", "/account/sign-up/"])
    def test_is_in_japanese_for_a_stranger(self, url: str):
        assert english(shown(Client(headers=JAPANESE), url)) == []

    def test_explains_wrong_fields_in_japanese(self, visitor: Client):
        form = checkout_form(visitor, email="nowhere")

        assert english(visitor.post("/checkout/", form).content.decode()) == []


class TestThePageOfAnOrder:
    @pytest.mark.parametrize(
        "happening",
        [
            services.record_stock_reserved,
            services.cancel_for_lack_of_stock,
            services.cancel_for_declined_payment,
        ],
    )
    def test_is_in_japanese_before_and_after_what_happens(
        self, visitor: Client, happening: Callable[..., object]
    ):
        order = place(visitor)
        before = shown(visitor, f"/orders/{order.pk}/")

        happening(order_id=order.pk)

        assert english(before) == []
        assert english(shown(visitor, f"/orders/{order.pk}/")) == []
        assert english(shown(visitor, "/orders/")) == []

    def test_is_in_japanese_once_the_customer_cancelled(self, visitor: Client):
        order = place(visitor)
        visitor.post(f"/orders/{order.pk}/cancel/")

        assert "ご依頼によりキャンセルしました。" in shown(visitor, f"/orders/{order.pk}/")
        assert english(shown(visitor, f"/orders/{order.pk}/")) == []
