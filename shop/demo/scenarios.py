"""The 24 orders: their contents, their faults, and the required end of each chapter."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

SHIPPABLE = "ready_to_ship"


class Change(StrEnum):
    """The time at which the customer cancels."""

    AT_ONCE = "at once"
    AT_THE_BANK = "while the bank is asked"
    PAID = "after it was paid"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One order as a customer sends it.

    Attributes:
        customer: one of the demo data's customers.
        lines: the quantity by SKU.
        pays_with: the token of a payment method, which controls the simulated bank.
        end: "ready_to_ship", or the reason of the cancellation.
        change: the time at which the customer cancels, if at all.
        answer_is_lost: send the order a second time, under the same Idempotency-Key.
    """

    customer: str
    lines: dict[str, int]
    pays_with: str = "tok_success"
    end: str = SHIPPABLE
    change: Change | None = None
    answer_is_lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Related orders. Those of a race are sent at the same time."""

    title: str
    wishes: tuple[Wish, ...]
    race: bool = False

    @property
    def ends(self) -> Counter[str]:
        """How often each end must occur; in a race it is open which order has which end."""
        return Counter(wish.end for wish in self.wishes)


def _kettles(number: int, *, end: str) -> tuple[Wish, ...]:
    names = ("alice", "hanako")
    return tuple(
        Wish(customer=names[n % 2], lines={"KETTLE-IRON": 12}, end=end) for n in range(number)
    )


PLAIN = Chapter(
    title="Five orders as one would wish them",
    wishes=(
        Wish(customer="alice", lines={"TEA-SENCHA": 2}),
        Wish(customer="hanako", lines={"WHISK-CHASEN": 1}, answer_is_lost=True),
        Wish(customer="alice", lines={"BOWL-RAKU": 1, "TEA-SENCHA": 1, "WHISK-CHASEN": 1}),
        Wish(customer="hanako", lines={"BOWL-RAKU": 4}),
        Wish(customer="alice", lines={"TEA-SENCHA": 30}),
    ),
)
BANK = Chapter(
    title="A bank that is slow, loses its answer, or fails at first",
    wishes=(
        Wish(customer="alice", lines={"TEA-SENCHA": 1}, pays_with="tok_slow"),
        Wish(customer="hanako", lines={"BOWL-RAKU": 1}, pays_with="tok_slow"),
        Wish(customer="alice", lines={"WHISK-CHASEN": 2}, pays_with="tok_timeout_after_success_2"),
        Wish(
            customer="hanako",
            lines={"TEA-SENCHA": 3},
            pays_with="tok_capture_timeout_after_success_2",
        ),
        Wish(customer="alice", lines={"BOWL-RAKU": 2}, pays_with="tok_fails_2"),
        Wish(customer="hanako", lines={"WHISK-CHASEN": 1}, pays_with="tok_capture_busy_2"),
    ),
)
REFUSALS = Chapter(
    title="Refused: more than there is, and cards that the bank declines",
    wishes=(
        Wish(customer="alice", lines={"CLOCK-WALL": 2}, end="out_of_stock"),
        Wish(customer="hanako", lines={"TEA-SENCHA": 1, "CLOCK-WALL": 2}, end="out_of_stock"),
        Wish(
            customer="alice",
            lines={"TEA-SENCHA": 1},
            pays_with="tok_declined",
            end="payment_declined",
        ),
        Wish(
            customer="hanako",
            lines={"WHISK-CHASEN": 1},
            pays_with="tok_declined_at_capture",
            end="payment_declined",
        ),
    ),
)
RACE = Chapter(
    title="Six buyers at the same moment: each wants 12 of the last 40 kettles",
    wishes=_kettles(3, end=SHIPPABLE) + _kettles(3, end="out_of_stock"),
    race=True,
)
CHANGES = Chapter(
    title="Three customers who change their minds",
    wishes=(
        Wish(customer="alice", lines={"BOWL-RAKU": 1}, end="requested", change=Change.AT_ONCE),
        Wish(
            customer="hanako",
            lines={"TEA-SENCHA": 5},
            pays_with="tok_slow",
            end="requested",
            change=Change.AT_THE_BANK,
        ),
        Wish(customer="alice", lines={"WHISK-CHASEN": 3}, end="requested", change=Change.PAID),
    ),
)
CHAPTERS = (PLAIN, BANK, REFUSALS, RACE, CHANGES)
