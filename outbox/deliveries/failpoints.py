"""Named fail points, at which a test lets the process die. Unarmed ones do nothing.

They are part of the code, not patched in, so that a test kills the code that production runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: The relay's transaction is open, and nothing is claimed yet.
BEFORE_CLAIM = "before_claim"
#: The claim is committed, and no message is published yet.
AFTER_CLAIM = "after_claim"
#: The broker has accepted one message; others of the same pass may not be published yet.
AFTER_PUBLISH = "after_publish"
#: A worker is about to commit its start; only the worker holds the message.
BEFORE_START = "before_start"
#: The start is committed, and the handler has done nothing.
AFTER_START = "after_start"
#: The receipt's transaction is open; a handler with `atomic=False` has made its external calls.
BEFORE_EFFECTS = "before_effects"
#: Within a batch's transaction, after one delivery's effects and before the next one's.
BETWEEN_DELIVERIES = "between_deliveries"
#: After a handler's effects, before its receipt is written; both are rolled back. In a batch's
#: transaction: after the effects of all deliveries.
BEFORE_RECEIPT = "before_receipt"
#: Effects and receipts are written, and not committed.
BEFORE_COMMIT = "before_commit"
#: Effects and receipt are committed, and the message is not acknowledged.
AFTER_RECEIPT = "after_receipt"
#: Within a step of an operation, after its changes and before its commit.
IN_STEP = "in_step"
#: After a step of an operation has committed.
AFTER_STEP = "after_step"
#: A batch of received messages is stored and not committed.
BEFORE_STORE = "before_store"
#: A batch of received messages is committed, and none of them is acknowledged.
AFTER_STORE = "after_store"
#: Overdue settlements are replayed or given up, and not committed.
IN_PURSUIT = "in_pursuit"
#: Events are reported as settled, and not committed.
BEFORE_REPORT = "before_report"

ALL = (
    BEFORE_CLAIM,
    AFTER_CLAIM,
    AFTER_PUBLISH,
    BEFORE_START,
    AFTER_START,
    BEFORE_EFFECTS,
    BETWEEN_DELIVERIES,
    BEFORE_RECEIPT,
    BEFORE_COMMIT,
    AFTER_RECEIPT,
)

_armed: dict[str, Callable[[], None]] = {}


def reach(name: str) -> None:
    """Run the action that is armed at the point `name`, if any."""
    if action := _armed.get(name):
        action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Run `action` each time the point is reached, in this process and those that it forks."""
    _armed[name] = action


@contextmanager
def armed(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Run `action` each time the point is reached within the block, in this process."""
    arm(name, action)
    try:
        yield
    finally:
        del _armed[name]
