"""Customers of the shop: each posts one order after the other over one connection."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from uuid import uuid4

ORDER = json.dumps(
    {
        "payment_method": "tok_success",
        "lines": [{"sku": "TEA-SENCHA", "quantity": 2}, {"sku": "WHISK-CHASEN", "quantity": 1}],
    }
)


class NotAccepted(Exception):
    """An order was answered by something else than 201."""


def place(orders: int, *, port: int, token: str) -> list[float]:
    """Place orders one after the other; return the milliseconds of each."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        return [_place(connection, token) for _ in range(orders)]
    finally:
        connection.close()


def place_steadily(orders: int, *, per_second: float, port: int, token: str) -> list[float]:
    """Place orders at a steady pace, however long each takes; return the milliseconds of each.

    The time of each begins when it is due: one that has to wait for the one before counts that.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    first, taken = time.perf_counter(), []
    try:
        for number in range(orders):
            due = first + number / per_second
            late = max(0.0, time.perf_counter() - due)
            time.sleep(max(0.0, due - time.perf_counter()))
            taken.append(_place(connection, token) + late * 1000)
    finally:
        connection.close()
    return taken


def throughput(orders: int, *, customers: int, port: int, token: str) -> float:
    """Have some customers place orders at once; return the orders a second."""
    began = time.perf_counter()
    with ThreadPoolExecutor(customers) as pool:
        each = [orders // customers] * customers
        taken = list(pool.map(lambda number: place(number, port=port, token=token), each))
    return sum(len(one) for one in taken) / (time.perf_counter() - began)


def _place(connection: HTTPConnection, token: str) -> float:
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Idempotency-Key": str(uuid4()),
    }
    began = time.perf_counter()
    connection.request("POST", "/api/orders/", ORDER, headers)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 201:
        raise NotAccepted(f"{answer.status}: {said[:300]!r}")
    return (time.perf_counter() - began) * 1000
