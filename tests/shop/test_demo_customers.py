"""Customers of the demo against the real API, over a network that loses answers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from inventory.models import Product
from orders.models import Order
from shop.demo.customers import Customer, PlacedOrder, Rejected
from shop.demo.scenarios import OrderSpec
from shop.up.credentials import Credentials
from shop.up.demo import add_demo_data
from shop.wsgi import application

pytestmark = pytest.mark.django_db(transaction=True)  # the shop closes its connections

TEA = OrderSpec(customer="alice", lines={"TEA-SENCHA": 2})


class Network(httpx.BaseTransport):
    """Sends each request to the shop; `mishaps` decide which answers arrive."""

    def __init__(self, *mishaps: Exception | int) -> None:
        self.requests: list[httpx.Request] = []
        self._mishaps = list(mishaps)
        self._shop = httpx.WSGITransport(application)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._shop.handle_request(request)
        if not self._mishaps:
            return answer
        mishap = self._mishaps.pop(0)
        if isinstance(mishap, Exception):
            raise mishap
        return httpx.Response(mishap, headers={"Retry-After": "3"}, request=request)

    @property
    def keys(self) -> set[str]:
        return {request.headers["Idempotency-Key"] for request in self.requests}


@pytest.fixture
def token(tmp_path: Path) -> str:
    add_demo_data(Credentials(tmp_path))
    return Credentials(tmp_path).get("alice", "token")


@pytest.fixture
def pauses() -> list[float]:
    return []


def customer(token: str, network: Network, pauses: list[float]) -> Customer:
    return Customer("http://localhost", token, pause=pauses.append, transport=network)


class TestACustomer:
    def test_places_an_order(self, token: str, pauses: list[float]):
        order = customer(token, Network(), pauses).place(TEA)

        stored = Order.objects.get(pk=order.id)
        assert (stored.reference, order.tries, pauses) == (order.reference, 1, [])
        assert [(line.sku, line.quantity) for line in stored.lines.all()] == [("TEA-SENCHA", 2)]

    @pytest.mark.parametrize("mishap", [httpx.ReadTimeout("late"), 503, 429])
    def test_retries_under_the_same_key_until_it_gets_an_answer(
        self, token: str, pauses: list[float], mishap: Exception | int
    ):
        network = Network(mishap, mishap)

        order = customer(token, network, pauses).place(TEA)

        assert (order.tries, len(network.keys)) == (3, 1)
        assert Order.objects.get().id == order.id

    def test_waits_for_the_time_in_retry_after(self, token: str, pauses: list[float]):
        customer(token, Network(429), pauses).place(TEA)

        assert pauses == [3]

    def test_uses_a_new_key_for_another_order(self, token: str, pauses: list[float]):
        network = Network()

        for _ in range(2):
            customer(token, network, pauses).place(TEA)

        assert len(network.keys) == Order.objects.count() == 2

    def test_sends_an_order_twice_if_its_spec_requires_it(self, token: str, pauses: list[float]):
        network = Network()
        spec = OrderSpec(customer="alice", lines={"TEA-SENCHA": 1}, sends_twice=True)

        customer(token, network, pauses).place(spec)

        assert (len(network.requests), Order.objects.count()) == (2, 1)

    def test_does_not_retry_a_refused_request(self, token: str, pauses: list[float]):
        Product.objects.filter(sku="TEA-SENCHA").update(on_sale=False)

        with pytest.raises(Rejected, match=r"failed at try 1: 400 .*not_for_sale"):
            customer(token, Network(), pauses).place(TEA)

    def test_gives_up_after_many_tries(self, token: str, pauses: list[float]):
        with pytest.raises(Rejected, match="failed at try 8: 503"):
            customer(token, Network(*[503] * 8), pauses).place(TEA)

    def test_cancels_and_reads_the_status(self, token: str, pauses: list[float]):
        alice = customer(token, Network(), pauses)
        order: PlacedOrder = alice.place(TEA)

        before = alice.status_of(order)
        alice.cancel(order)

        assert (before, alice.status_of(order)) == ("placed", "cancelled")
