"""Orders are accepted while the broker is stopped or frozen, and fulfilled when it is back.

The whole shop in real processes: web server, bank, relay, worker.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from django.conf import settings

from shop.up.ports import free_port
from tests.bank import API_KEY, BankProcess
from tests.chaos.brokers import broker_under_test
from tests.chaos.stack import CEILING, Stack, running_stack

pytestmark = [
    pytest.mark.once,
    pytest.mark.processes,
    pytest.mark.own_broker,
    pytest.mark.timeout(600),
]

ORDER = {"payment_method": "tok_success", "lines": [{"sku": "TEA-SENCHA", "quantity": 1}]}


class Shop:
    """A running shop and a customer of it."""

    def __init__(self, stack: Stack, api: httpx.Client) -> None:
        self.stack = stack
        self.api = api

    def place_order(self) -> str:
        key = {"Idempotency-Key": str(uuid4())}
        answer = self.api.post("/api/orders/", json=ORDER, headers=key)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def status(self, order_id: str) -> str:
        return str(self.api.get(f"/api/orders/{order_id}/").json()["status"])

    def wait_until_ready(self, orders: list[str]) -> None:
        self.stack.wait_until(
            lambda: {self.status(order_id) for order_id in orders} == {"ready_to_ship"},
            "every order is ready to ship",
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    bank = BankProcess(folder / "bank")
    bank.start()
    try:
        broker = broker_under_test(folder / "broker", queues=settings.SQS_QUEUES)
        with running_stack(folder, settings="shop.settings", broker=broker) as stack:
            stack.environment |= {"BANK_URL": bank.url, "BANK_API_KEY": API_KEY}
            with _customer(stack, folder, port=_start(stack)) as api:
                yield Shop(stack, api)
    finally:
        bank.stop()


def _start(stack: Stack) -> int:
    stack.run("-m", "shop.up.setup")
    port = free_port()
    gunicorn = [sys.executable, "-m", "gunicorn", "shop.wsgi", "--threads", "4"]
    stack.start(
        "web",
        [*gunicorn, "--bind", f"127.0.0.1:{port}"],
        DJANGO_SETTINGS_MODULE="tests.chaos.patient_settings",
    )
    stack.start_relay()
    stack.start_worker(queues="orders,inventory,payments.gateway,notifications.smtp", concurrency=2)
    stack.wait_until(lambda: "Listening at" in stack.log("web"), "the web server listens")
    return port


def _customer(stack: Stack, folder: Path, *, port: int) -> httpx.Client:
    token = json.loads((folder / "credentials.json").read_text())["alice"]["token"]
    return httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Token {token}"},
        timeout=CEILING,
    )


class TestAnOrder:
    def test_is_accepted_while_the_broker_is_stopped_and_fulfilled_later(self, shop: Shop):
        """Without the nudge's thread: the request ends in the broker's error."""
        shop.wait_until_ready([shop.place_order()])
        shop.stack.kill("broker")

        orders = [shop.place_order() for _ in range(10)]
        shop.stack.empty_broker()
        shop.stack.start_broker()

        shop.wait_until_ready(orders)

    def test_is_accepted_while_the_broker_is_frozen_and_fulfilled_later(self, shop: Shop):
        """Without the nudge's thread: each request waits for the broker, here for ever."""
        shop.wait_until_ready([shop.place_order()])
        shop.stack.signal("broker", signal.SIGSTOP)
        before = shop.stack.value("SELECT count(*) FROM outbox_event")

        orders = [shop.place_order() for _ in range(10)]
        stored = shop.stack.value("SELECT count(*) FROM outbox_event")
        shop.stack.signal("broker", signal.SIGCONT)

        assert stored == before + 10, "each order's event is there, and nothing moved meanwhile"
        shop.wait_until_ready(orders)
