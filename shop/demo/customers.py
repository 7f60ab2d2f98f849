"""Clients of the HTTP API as its documentation describes: with idempotency keys and retries."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx

from shop.demo.scenarios import OrderSpec

TRIES = 8
TIMEOUT = 10.0  # seconds for one request
LONGEST_PAUSE = 5.0
Json = dict[str, Any]


class Rejected(Exception):
    """The API refused a request that it should accept; the text has the request and the answer."""


@dataclass(frozen=True, kw_only=True)
class PlacedOrder:
    """An order that the shop has accepted.

    Attributes:
        seconds: how long the answer took.
        tries: how often the request was sent until it was answered.
    """

    spec: OrderSpec
    id: UUID
    reference: str
    seconds: float
    tries: int


class Customer:
    """One customer with a token. Not safe to share between threads."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        pause: Callable[[float], object] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._pause = pause
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT,
            trust_env=False,
            transport=transport,
        )

    def place(self, spec: OrderSpec) -> PlacedOrder:
        """Place an order, under one Idempotency-Key for all tries.

        Raises:
            Rejected: the API refused it, or a repetition created a second order.
        """
        key, began = str(uuid4()), time.monotonic()
        order, tries = self._post("/api/orders/", _body(spec), key=key)
        seconds = time.monotonic() - began
        if spec.sends_twice:
            again, _ = self._post("/api/orders/", _body(spec), key=key)
            if again["id"] != order["id"]:
                raise Rejected(
                    f"One Idempotency-Key created two orders: {order['id']}, {again['id']}"
                )
        return PlacedOrder(
            spec=spec,
            id=UUID(order["id"]),
            reference=order["reference"],
            seconds=seconds,
            tries=tries,
        )

    def cancel(self, order: PlacedOrder) -> None:
        """Cancel the order, under one Idempotency-Key for all tries.

        Raises:
            Rejected: the API refused it.
        """
        self._post(f"/api/orders/{order.id}/cancel/", None, key=str(uuid4()))

    def status_of(self, order: PlacedOrder) -> str:
        """Return the order's current status."""
        found, _ = self._send("GET", f"/api/orders/{order.id}/")
        return str(found["status"])

    def timeline_of(self, order: PlacedOrder) -> list[Json]:
        """Return the events of the order, as the API shows them to its customer."""
        found, _ = self._send("GET", f"/api/orders/{order.id}/timeline/")
        return list(found["results"])

    def _post(self, path: str, body: Json | None, *, key: str) -> tuple[Json, int]:
        return self._send("POST", path, json=body, headers={"Idempotency-Key": key})

    def _send(self, method: str, path: str, **request: Any) -> tuple[Json, int]:
        """Send the request until it is answered. Return the answer and the number of tries."""
        for tries in range(1, TRIES + 1):
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                trouble, pause = repr(error), 0.1 * 2**tries
            else:
                if answer.is_success:
                    return answer.json(), tries
                trouble, pause = f"{answer.status_code} {answer.text}", _pause(answer, tries)
                if not _is_worth_another_try(answer):
                    break
            self._pause(min(pause, LONGEST_PAUSE))
        raise Rejected(f"{method} {path} failed at try {tries}: {trouble}")


def _body(spec: OrderSpec) -> Json:
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in spec.lines.items()]
    return {"lines": lines, "payment_method": spec.pays_with}


def _is_worth_another_try(answer: httpx.Response) -> bool:
    return answer.status_code == 429 or answer.status_code >= 500


def _pause(answer: httpx.Response, tries: int) -> float:
    """Return the seconds that the API requires, else twice as many each time."""
    seconds = answer.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else 0.1 * 2**tries
