"""The 24 orders: their contents, their faults, and the required end of each scenario."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

SHIPPABLE = "ready_to_ship"


class CancelTime(StrEnum):
    """The time at which the customer cancels."""

    AT_ONCE = "at once"
    DURING_AUTHORIZATION = "during authorization"
    AFTER_PAYMENT = "after payment"


@dataclass(frozen=True, kw_only=True)
class OrderSpec:
    """One order as a customer sends it.

    Attributes:
        customer: one of the demo data's customers.
        lines: the quantity by SKU.
        pays_with: the token of a payment method, which controls the simulated bank.
        end: "ready_to_ship", or the reason of the cancellation.
        cancel_at: the time at which the customer cancels, if at all.
        sends_twice: send the order a second time, under the same Idempotency-Key.
    """

    customer: str
    lines: dict[str, int]
    pays_with: str = "tok_success"
    end: str = SHIPPABLE
    cancel_at: CancelTime | None = None
    sends_twice: bool = False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A group of orders. Those of a race are sent at the same time."""

    title: str
    specs: tuple[OrderSpec, ...]
    race: bool = False

    @property
    def ends(self) -> Counter[str]:
        """The required number of orders for each end."""
        return Counter(spec.end for spec in self.specs)


def _kettles(number: int, *, end: str) -> tuple[OrderSpec, ...]:
    names = ("alice", "hanako")
    return tuple(
        OrderSpec(customer=names[n % 2], lines={"KETTLE-IRON": 12}, end=end) for n in range(number)
    )


PLAIN = Scenario(
    title="Five orders without faults",
    specs=(
        OrderSpec(customer="alice", lines={"TEA-SENCHA": 2}),
        OrderSpec(customer="hanako", lines={"WHISK-CHASEN": 1}, sends_twice=True),
        OrderSpec(customer="alice", lines={"BOWL-RAKU": 1, "TEA-SENCHA": 1, "WHISK-CHASEN": 1}),
        OrderSpec(customer="hanako", lines={"BOWL-RAKU": 4}),
        OrderSpec(customer="alice", lines={"TEA-SENCHA": 30}),
    ),
)
BANK = Scenario(
    title="Six orders with a slow or failing bank",
    specs=(
        OrderSpec(customer="alice", lines={"TEA-SENCHA": 1}, pays_with="tok_slow"),
        OrderSpec(customer="hanako", lines={"BOWL-RAKU": 1}, pays_with="tok_slow"),
        OrderSpec(
            customer="alice", lines={"WHISK-CHASEN": 2}, pays_with="tok_timeout_after_success_2"
        ),
        OrderSpec(
            customer="hanako",
            lines={"TEA-SENCHA": 3},
            pays_with="tok_capture_timeout_after_success_2",
        ),
        OrderSpec(customer="alice", lines={"BOWL-RAKU": 2}, pays_with="tok_fails_2"),
        OrderSpec(customer="hanako", lines={"WHISK-CHASEN": 1}, pays_with="tok_capture_busy_2"),
    ),
)
REFUSALS = Scenario(
    title="Four orders that are cancelled: out of stock, or declined by the bank",
    specs=(
        OrderSpec(customer="alice", lines={"CLOCK-WALL": 2}, end="out_of_stock"),
        OrderSpec(customer="hanako", lines={"TEA-SENCHA": 1, "CLOCK-WALL": 2}, end="out_of_stock"),
        OrderSpec(
            customer="alice",
            lines={"TEA-SENCHA": 1},
            pays_with="tok_declined",
            end="payment_declined",
        ),
        OrderSpec(
            customer="hanako",
            lines={"WHISK-CHASEN": 1},
            pays_with="tok_declined_at_capture",
            end="payment_declined",
        ),
    ),
)
RACE = Scenario(
    title="Six orders at the same time, each for 12 of the last 40 kettles",
    specs=_kettles(3, end=SHIPPABLE) + _kettles(3, end="out_of_stock"),
    race=True,
)
CHANGES = Scenario(
    title="Three orders that their customers cancel",
    specs=(
        OrderSpec(
            customer="alice", lines={"BOWL-RAKU": 1}, end="requested", cancel_at=CancelTime.AT_ONCE
        ),
        OrderSpec(
            customer="hanako",
            lines={"TEA-SENCHA": 5},
            pays_with="tok_slow",
            end="requested",
            cancel_at=CancelTime.DURING_AUTHORIZATION,
        ),
        OrderSpec(
            customer="alice",
            lines={"WHISK-CHASEN": 3},
            end="requested",
            cancel_at=CancelTime.AFTER_PAYMENT,
        ),
    ),
)
SCENARIOS = (PLAIN, BANK, REFUSALS, RACE, CHANGES)
