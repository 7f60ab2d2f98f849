"""Evaluate the demo: its last line, its exit code, and the next step after a failure."""

from __future__ import annotations

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path

from django.conf import settings

from orders.models import Order
from shop.demo.customers import PlacedOrder
from shop.demo.scenarios import SHIPPABLE, Scenario

ORDERS = 24
SEPARATOR = b"\n" + b"-" * 79 + b"\n"  # Django's backend writes it below each message


@dataclass(frozen=True, kw_only=True)
class ReconcileResult:
    """The result of `manage.py reconcile`."""

    balanced: bool
    report: str


@dataclass(frozen=True, kw_only=True)
class DemoResult(ABC):
    """The result of a demo.

    Attributes:
        emails: how many were sent, counting each Message-ID once.
        unsettled: deliveries and events that are still owed.
        books: the result of the reconciliation.
    """

    emails: int
    unsettled: int
    books: ReconcileResult

    @property
    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """The demo's own numbers, for the last line."""

    @property
    @abstractmethod
    def ends_in_words(self) -> str:
        """A sentence about the ends of the orders, if they are as required."""

    @property
    @abstractmethod
    def problem(self) -> str:
        """The problem of a demo that settled everything, and the next step; "" if none."""

    @property
    def trouble(self) -> str:
        """The problem and the next step; "" if there is none."""
        if self.unsettled:
            return (
                f"{self.unsettled} deliveries or events are still owed. The lines above give the "
                f"reasons. {_inspect('outbox why')}"
            )
        return self.problem

    @property
    def exit_code(self) -> int:
        return 1 if self.trouble else 0

    def in_words(self, *, seconds: float) -> str:
        """Return the result for people, in a few sentences."""
        if self.trouble:
            return f"The demo failed after {seconds:.0f} seconds. {self.trouble}"
        return (
            f"{self.ends_in_words} {self.emails} e-mails were sent. No delivery is owed, and "
            f"reconciliation found no difference. The demo took {seconds:.0f} seconds."
        )

    def line(self, *, seconds: float) -> str:
        """Return the last line: one JSON object."""
        return json.dumps(
            {
                **self.counts,
                "emails": self.emails,
                "unsettled": self.unsettled,
                "books_balanced": self.books.balanced,
                "seconds": round(seconds, 1),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Result(DemoResult):
    """The result of the demo without a carrier.

    Attributes:
        unexpected_ends: a sentence for each scenario that did not end as required.
    """

    shippable: int
    cancelled: int
    unexpected_ends: Sequence[str] = field(default_factory=list)

    @property
    def counts(self) -> Mapping[str, int]:
        """The numbers of orders."""
        return {"orders": ORDERS, "shippable": self.shippable, "cancelled": self.cancelled}

    @property
    def ends_in_words(self) -> str:
        """How many orders are ready to ship, and how many are cancelled."""
        return (
            f"All {ORDERS} orders ended as required: {self.shippable} are ready to ship, and "
            f"{self.cancelled} are cancelled."
        )

    @property
    def problem(self) -> str:
        """The problem and the next step; "" if there is none."""
        if not self.books.balanced:
            return (
                "Reconciliation found differences. The lines above list them. "
                f"{_inspect('reconcile')}"
            )
        if self.shippable + self.cancelled != ORDERS:
            return (
                f"{self.shippable} orders are ready to ship and {self.cancelled} are cancelled. "
                f"The sum must be {ORDERS}. See the timelines above."
            )
        return " ".join(self.unexpected_ends)


def evaluate(
    placed: Sequence[tuple[Scenario, Sequence[PlacedOrder]]], *, unsettled: int, mail: Path
) -> Result:
    """Evaluate the orders, the reconciliation and the e-mails."""
    ends = ends_of([order for _, orders in placed for order in orders])
    return Result(
        shippable=sum(end == SHIPPABLE for end in ends.values()),
        cancelled=sum(end in Order.CancelReason for end in ends.values()),
        emails=count_emails(mail),
        unsettled=unsettled,
        books=reconcile(),
        unexpected_ends=list(filter(None, (_check(group, ends) for group in placed))),
    )


def _check(group: tuple[Scenario, Sequence[PlacedOrder]], ends: Mapping[str, str]) -> str:
    scenario, orders = group
    return unexpected_end(scenario, Counter(ends[order.reference] for order in orders))


def ends_of(orders: Sequence[PlacedOrder]) -> dict[str, str]:
    """Return for each reference the reason of the cancellation, else the status."""
    rows = Order.objects.filter(pk__in=[order.id for order in orders])
    return {row.reference: row.cancel_reason or row.status for row in rows}


def unexpected_end(scenario: Scenario, ends: Counter[str]) -> str:
    """Return a sentence if the scenario's orders did not end as required, else ""."""
    if ends == scenario.ends:
        return ""
    return (
        f'The orders of "{scenario.title}" must end as {_listed(scenario.ends)}, but ended as '
        f"{_listed(ends)}. See their timelines above."
    )


def count_emails(folder: Path) -> int:
    """Count the Message-IDs in the files that Django's backend has written there."""
    messages = (
        message_from_bytes(text)
        for file in folder.glob("*.log")
        for text in file.read_bytes().split(SEPARATOR)
    )
    return len({message["Message-ID"] for message in messages if message["Message-ID"]})


def reconcile() -> ReconcileResult:
    """Run the command `reconcile`. Its exit code is the result; its JSON has the details."""
    command = [sys.executable, "manage.py", "reconcile", "--json"]
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False
    )
    return parse_output(done.returncode, done.stdout, done.stderr)


def parse_output(exit_code: int, out: str, err: str) -> ReconcileResult:
    """Parse the command's answer. Anything but a clear success counts as a failure."""
    try:
        is_balanced = json.loads(out)["balanced"]
    except (ValueError, TypeError, KeyError):
        is_balanced = False
    return ReconcileResult(
        balanced=exit_code == 0 and is_balanced is True, report=(out + err).strip()
    )


def _inspect(command: str) -> str:
    """Return the next step: without the variables the command would use another database."""
    return f"Run the demo with --keep, then `manage.py {command}` with the variables it prints."


def _listed(count: Counter[str]) -> str:
    return ", ".join(f"{number} {end}" for end, number in sorted(count.items()))
