"""The last line of the demo, its exit code, and the next step after a failure."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path

from django.conf import settings

from orders.models import Order
from shop.demo.customers import PlacedOrder
from shop.demo.scenarios import SHIPPABLE, Chapter

ORDERS = 24
SEPARATOR = b"\n" + b"-" * 79 + b"\n"  # Django's backend writes it below each message


@dataclass(frozen=True, kw_only=True)
class Books:
    """The result of `manage.py reconcile`."""

    balanced: bool
    report: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of the demo.

    Attributes:
        emails: how many were sent, counting each Message-ID once.
        unsettled: deliveries and events that are still owed.
        surprises: a sentence for each chapter that did not end as required.
    """

    shippable: int
    cancelled: int
    emails: int
    unsettled: int
    books: Books
    surprises: Sequence[str] = field(default_factory=list)

    @property
    def trouble(self) -> str:
        """The problem and the next step, in one sentence; "" if there is none."""
        if self.unsettled:
            return (
                f"{self.unsettled} deliveries or events are still owed; the lines above say of "
                "each why, and --keep lets you look with `manage.py outbox why`."
            )
        if not self.books.balanced:
            return (
                "The books do not balance; the lines above say where, and --keep lets you look "
                "with `manage.py reconcile`."
            )
        if self.shippable + self.cancelled != ORDERS:
            return (
                f"{self.shippable} orders are ready to ship and {self.cancelled} are cancelled, "
                f"which is not {ORDERS}; look at the stories above for one that is neither."
            )
        return " ".join(self.surprises)

    @property
    def exit_code(self) -> int:
        return 1 if self.trouble else 0

    def line(self, *, seconds: float) -> str:
        """Return the last line: one JSON object."""
        return json.dumps(
            {
                "orders": ORDERS,
                "shippable": self.shippable,
                "cancelled": self.cancelled,
                "emails": self.emails,
                "unsettled": self.unsettled,
                "books_balanced": self.books.balanced,
                "seconds": round(seconds, 1),
            }
        )


def reach(
    placed: Sequence[tuple[Chapter, Sequence[PlacedOrder]]], *, unsettled: int, mail: Path
) -> Verdict:
    """Evaluate the orders, the reconciliation and the e-mails."""
    ends = ends_of([order for _, orders in placed for order in orders])
    return Verdict(
        shippable=sum(end == SHIPPABLE for end in ends.values()),
        cancelled=sum(end in Order.CancelReason for end in ends.values()),
        emails=count_emails(mail),
        unsettled=unsettled,
        books=reconcile(),
        surprises=[
            text
            for chapter, orders in placed
            if (text := surprise(chapter, Counter(ends[order.reference] for order in orders)))
        ],
    )


def ends_of(orders: Sequence[PlacedOrder]) -> dict[str, str]:
    """Return for each reference the reason of the cancellation, else the status."""
    rows = Order.objects.filter(pk__in=[order.id for order in orders])
    return {row.reference: row.cancel_reason or row.status for row in rows}


def surprise(chapter: Chapter, ends: Counter[str]) -> str:
    """Return a sentence if the chapter's orders did not end as required, else ""."""
    if ends == chapter.ends:
        return ""
    return (
        f'The orders of "{chapter.title}" must end as {_listed(chapter.ends)}, and ended as '
        f"{_listed(ends)}: see their stories above."
    )


def count_emails(folder: Path) -> int:
    """Count the Message-IDs in the files that Django's backend has written there."""
    messages = (
        message_from_bytes(text)
        for file in folder.glob("*.log")
        for text in file.read_bytes().split(SEPARATOR)
    )
    return len({message["Message-ID"] for message in messages if message["Message-ID"]})


def reconcile() -> Books:
    """Run the command `reconcile`. Its exit code is the result; its JSON has the details."""
    command = [sys.executable, "manage.py", "reconcile", "--json"]
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False
    )
    return read_books(done.returncode, done.stdout, done.stderr)


def read_books(exit_code: int, out: str, err: str) -> Books:
    """Parse the command's answer. Anything but a clear success counts as a failure."""
    try:
        is_balanced = json.loads(out)["balanced"]
    except (ValueError, TypeError, KeyError):
        is_balanced = False
    return Books(balanced=exit_code == 0 and is_balanced is True, report=(out + err).strip())


def _listed(count: Counter[str]) -> str:
    return ", ".join(f"{number} {end}" for end, number in sorted(count.items()))
