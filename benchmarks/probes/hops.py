"""Where the time goes: `python -m benchmarks.probes.hops ROUNDS`.

Prints for each hop of an event, from `emit()` to the receipt, how many round trips to the database
it takes and how many milliseconds, and for how many events that is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import django

from benchmarks.probes import milliseconds, print_json
from benchmarks.project.payload import new_payload

if TYPE_CHECKING:
    from outbox.transports.base import Message

#: Deliveries of a message, and the window of a handler.
MESSAGE, PASS = 50, 200

Hop = Callable[[], object]


def main(rounds: int) -> None:
    """Let events go hop by hop; no other process is there."""
    django.setup()
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds + 1):
        for name, (took, trips) in _round().items():
            hop = found.setdefault(name, {"milliseconds": [], "trips": []})
            if number:  # the first one opens connections, and loads and compiles code
                hop["milliseconds"].append(took)
                hop["trips"].append(trips)
    print_json(found)


def _round() -> dict[str, tuple[float, int]]:
    messages: list[Message] = []
    return {
        "the relay looks, and finds nothing": _measured(lambda: _pass(messages)),
        "an order's transaction with emit()": _measured(lambda: _emit(1)),
        "the relay fans out and sends 1": _measured(lambda: _pass(messages)),
        "a worker handles a message of 1": _measured(lambda: _deliver(messages.pop())),
        f"{PASS} such transactions": _measured(lambda: _emit(PASS)),
        f"the relay fans out and sends {PASS}": _measured(lambda: _pass(messages)),
        f"a worker handles a message of {MESSAGE}": _measured(lambda: _deliver(messages.pop())),
        "it handles the others": _measured(lambda: _deliver_all(messages)),
    }


def _measured(hop: Hop) -> tuple[float, int]:
    """Return the milliseconds of a hop, and its number of round trips to the database."""
    from django.db import connection, reset_queries
    from django.test.utils import CaptureQueriesContext

    reset_queries()  # the log holds no more than the last some thousand
    with CaptureQueriesContext(connection) as captured:
        took = milliseconds(hop)
    return took, _trips([query["sql"] for query in captured.captured_queries])


def _trips(sent: Sequence[str]) -> int:
    """Count the statements; a COMMIT in one trip with the statement before it is not counted."""
    before = ["", *sent]
    return sum(
        not (one == "COMMIT" and last.endswith(";\nCOMMIT"))
        for last, one in zip(before, sent, strict=False)
    )


def _emit(orders: int) -> None:
    from django.db import transaction

    from benchmarks.project.ours.publishing import publish as emit
    from benchmarks.project.sales.models import Order

    for _ in range(orders):
        payload = new_payload()
        with transaction.atomic():
            Order.objects.create(order_id=payload["order_id"], total=payload["total"])
            emit(payload)


def _pass(messages: list[Message]) -> None:
    from outbox.relay.passes import relay_pass

    messages.clear()
    relay_pass(publish=messages.append)


def _deliver_all(messages: Sequence[Message]) -> None:
    for one in messages:
        _deliver(one)


def _deliver(message: Message) -> None:
    from outbox.worker.delivery import deliver

    ended = deliver(handler_name=message.handler, pairs=message.pairs, worker="benchmark")
    if [one.state for one in ended] != ["done"] * len(message.pairs):
        raise RuntimeError(f"{message}: {ended}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
