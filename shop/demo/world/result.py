"""Evaluate the demo with a carrier: each order has one answer, and ships because of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shop.demo.result import DemoResult

READY, BOOKED, SHIPPED = "orders.OrderReadyToShip", "carrier.ParcelBooked", "orders.OrderShipped"


@dataclass(frozen=True, kw_only=True)
class WorldResult(DemoResult):
    """The result of the demo with a carrier.

    Attributes:
        answers: events that the source has stored.
        repeated: messages that it has dropped, since it knew their ids.
        settlements: events that the carrier has reported as settled.
        unreported: published events that it has not reported.
        problems: a sentence for each order whose timeline is not as required.
    """

    orders: int
    shipped: int
    answers: int
    repeated: int
    settlements: int
    unreported: int
    problems: Sequence[str] = field(default_factory=list)

    @property
    def counts(self) -> Mapping[str, int]:
        """The numbers of orders, answers and settlements."""
        return {
            "orders": self.orders,
            "shipped": self.shipped,
            "answers": self.answers,
            "settlements": self.settlements,
            "repeated_messages": self.repeated,
        }

    @property
    def ends_in_words(self) -> str:
        """How many orders are shipped because of an answer."""
        return (
            f"All {self.orders} orders are shipped, each because of one answer of the carrier. It "
            f"answered {self.repeated} times more, and these messages had no effect."
        )

    @property
    def problem(self) -> str:
        """The problem and the next step; "" if there is none."""
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
