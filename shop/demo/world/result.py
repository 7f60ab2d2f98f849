"""Evaluate the demo with a carrier: each order has one answer, and ships because of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shop.demo.result import ReconcileResult

READY, BOOKED, SHIPPED = "orders.OrderReadyToShip", "carrier.ParcelBooked", "orders.OrderShipped"


@dataclass(frozen=True, kw_only=True)
class WorldResult:
    """The result of the demo.

    Attributes:
        answers: events that the source has stored.
        repeated: messages that it has dropped, since it knew their ids.
        settlements: events that the carrier has reported as settled.
        unreported: published events that it has not reported.
        emails: how many were sent, counting each Message-ID once.
        unsettled: deliveries and events that are still owed.
        problems: a sentence for each order whose timeline is not as required.
    """

    orders: int
    shipped: int
    answers: int
    repeated: int
    settlements: int
    unreported: int
    emails: int
    unsettled: int
    books: ReconcileResult
    problems: Sequence[str] = field(default_factory=list)

    @property
    def trouble(self) -> str:
        """The problem and the next step; "" if there is none."""
        if self.unsettled:
            return (
                f"{self.unsettled} deliveries or events are still owed. The lines above give the "
                "reasons. Run the demo with --keep, then `manage.py outbox why`."
            )
        if self.problems:
            return " ".join(self.problems)
        if self.unreported:
            return (
                f"The carrier has not reported {self.unreported} published events as settled. Run "
                "the demo with --keep, and see demo.log."
            )
        if not self.shipped == self.answers == self.orders:
            return (
                f"{self.orders} orders have {self.answers} answers of the carrier, and "
                f"{self.shipped} are shipped. The three numbers must be equal."
            )
        if not self.books.balanced:
            return f"Reconciliation found differences. {self.books.report}"
        return ""

    @property
    def exit_code(self) -> int:
        return 1 if self.trouble else 0

    def line(self, *, seconds: float) -> str:
        """Return the last line: one JSON object."""
        return json.dumps(
            {
                "orders": self.orders,
                "shipped": self.shipped,
                "answers": self.answers,
                "settlements": self.settlements,
                "repeated_messages": self.repeated,
                "emails": self.emails,
                "unsettled": self.unsettled,
                "books_balanced": self.books.balanced,
                "seconds": round(seconds, 1),
            }
        )


def problem_of(reference: str, events: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence if an order's timeline is not as required, else "".

    The order became ready to ship once, which caused one answer, which caused one shipment.

    Args:
        reference: the order's reference.
        events: its events as the API shows them.
    """
    chain = [[one for one in events if one["name"] == name] for name in (READY, BOOKED, SHIPPED)]
    for name, found in zip((READY, BOOKED, SHIPPED), chain, strict=True):
        if len(found) != 1:
            return f"The timeline of {reference} has {len(found)} events {name}, and must have one."
    [ready], [booked], [shipped] = chain
    for effect, cause in ((booked, ready), (shipped, booked)):
        if effect["caused_by"] != cause["id"]:
            return f"In the timeline of {reference}, {effect['name']} must follow {cause['name']}."
    return ""
