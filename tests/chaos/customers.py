"""The load: customers who order and cancel, staff who ship and give money back.

All of them repeat what was not answered, under the same key, as a good client does; some lose
patience, and never learn what became of it.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx

from tests.chaos.history import Call, History, now

PATIENCE = 3.0  # seconds for one request
TRIES = 40
GIVES_UP = 0.1  # of those whose first request is not answered
DOUBLE_CLICKS = 0.1
CANCELS = 0.12

SHELF = ["TEA-SENCHA"] * 6 + ["WHISK-CHASEN"] * 3 + ["BOWL-RAKU", "KETTLE-IRON", "CLOCK-WALL"]
CARDS = ["tok_success"] * 14 + [
    *("tok_declined", "tok_declined_at_capture", "tok_slow", "tok_busy_2", "tok_fails_2"),
    *("tok_timeout_after_success", "tok_hangs_up_after_success", "tok_hangs_up_2"),
    *("tok_capture_timeout_after_success", "tok_capture_hangs_up_after_success"),
    *("tok_void_hangs_up_after_success", "tok_refund_timeout_after_success"),
]


class Client:
    """A client with a token that records each request."""

    def __init__(self, url: str, token: str, history: History, *, seed: str) -> None:
        self.rng = random.Random(seed)
        self.history = history
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Token {token}"}, timeout=PATIENCE
        )

    def new_key(self) -> str:
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def insist(self, call: Call, path: str) -> Call:
        """Repeat a request until there is an answer; sometimes send it only once."""
        tries = 1 if self.rng.random() < GIVES_UP else TRIES
        for number in range(tries):
            answered = self.ask(call, path)
            if not answered.is_ambiguous:
                break
            time.sleep(min(2.0, 0.2 * 2**number))
        return answered

    def ask(self, call: Call, path: str) -> Call:
        """Make one request. A 5xx or a 429 is no answer, because a gateway may send it."""
        call, headers = replace(call, began=now()), {"Idempotency-Key": call.name}
        try:
            response = self._http.post(path, json=call.wanted, headers=headers)
        except httpx.HTTPError as error:
            call = replace(call, trouble=type(error).__name__)
        else:
            call = _with_answer(call, response)
        call = replace(call, ended=now())
        self.history.add(call)
        return call

    def read_order(self, order_id: str) -> dict[str, Any]:
        """Return the present order; an empty dictionary if it cannot be read."""
        try:
            response = self._http.get(f"/api/orders/{order_id}/")
        except httpx.HTTPError:
            return {}
        return dict(response.json()) if response.status_code == 200 else {}


def _with_answer(call: Call, response: httpx.Response) -> Call:
    if response.status_code >= 500 or response.status_code == 429:
        return replace(call, trouble=f"HTTP {response.status_code}")
    body = response.json() if response.content else {}
    order_id = call.order_id or (body.get("id", "") if response.status_code == 201 else "")
    return replace(call, status=response.status_code, answer=body, order_id=order_id)


class Worker(threading.Thread):
    """Repeats an action until it is stopped, `rate` times a second on average."""

    def __init__(self, client: Client, *, rate: float) -> None:
        super().__init__(daemon=True)
        self.client, self.rng = client, client.rng
        self.over = threading.Event()
        self._rate = rate

    def run(self) -> None:
        while not self.over.wait(self.rng.expovariate(self._rate)):
            self.act()

    def act(self) -> None:
        raise NotImplementedError


class Customer(Worker):
    def act(self) -> None:
        key = self.client.new_key()
        call = Call(what="place", name=key, wanted=self._wish(key))
        if self.rng.random() < DOUBLE_CLICKS:
            threading.Thread(target=self._click_again, args=[call], daemon=True).start()
        placed = self.client.insist(call, "/api/orders/")
        if placed.is_granted and self.rng.random() < CANCELS:
            self._cancel(placed.order_id)

    def _wish(self, key: str) -> dict[str, Any]:
        skus = sorted({self.rng.choice(SHELF) for _ in range(self.rng.randint(1, 2))})
        return {
            "payment_method": self.rng.choice(CARDS),
            "lines": [{"sku": sku, "quantity": self.rng.randint(1, 2)} for sku in skus],
            "email": address_of(key),
        }

    def _click_again(self, call: Call) -> None:
        self.client.ask(call, "/api/orders/")

    def _cancel(self, order_id: str) -> None:
        time.sleep(self.rng.choice([0.0, 0.1, 0.5, 1.0]))
        call = Call(what="cancel", name=order_id, order_id=order_id)
        self.client.insist(call, f"/api/orders/{order_id}/cancel/")


class Staff(Worker):
    """Ships half of the ready orders, and refunds some of them."""

    def act(self) -> None:
        placed = self.client.history.placed()
        if not placed:
            return
        order_id = self.rng.choice(placed[-40:])
        status = self.client.read_order(order_id).get("status")
        if status == "ready_to_ship" and self.rng.random() < 0.6:
            self._ship(order_id)
        elif status in {"ready_to_ship", "shipped"} and self.rng.random() < 0.4:
            self._refund(order_id)

    def _ship(self, order_id: str) -> None:
        parcel = {"carrier": "Yamato", "tracking_number": order_id[-12:]}
        call = Call(what="ship", name=order_id, order_id=order_id, wanted=parcel)
        self.client.insist(call, f"/api/orders/{order_id}/ship/")

    def _refund(self, order_id: str) -> None:
        wanted = {
            "amount": {"amount": self.rng.randint(1, 300), "currency": "JPY"},
            "return_stock": False,
        }
        call = Call(what="refund", name=self.client.new_key(), order_id=order_id, wanted=wanted)
        self.client.insist(call, f"/api/orders/{order_id}/refunds/")


def address_of(key: str) -> str:
    """Return the unique address of an order, which identifies it without an answer."""
    return f"{key}@example.com"
