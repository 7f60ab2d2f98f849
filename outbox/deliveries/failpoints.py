"""Named points of the code at which a test lets the process die. Unarmed they do nothing.

They are part of the code, not patched in, so that what a test kills is what production runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: The relay's transaction is open, and nothing is claimed yet.
BEFORE_CLAIM = "before_claim"
#: What is claimed is committed, and the broker has none of it.
AFTER_CLAIM = "after_claim"
#: The broker has taken one message; others of the same pass may wait for their turn.
AFTER_PUBLISH = "after_publish"
#: A worker is about to commit that it starts; the message is in its hands alone.
BEFORE_START = "before_start"
#: It is committed that the handler started, and it has done nothing.
AFTER_START = "after_start"
#: The receipt's transaction is open: a handler with `atomic=False` has called outside.
BEFORE_EFFECTS = "before_effects"
#: In the transaction of many deliveries, after one handler's effects and before the next one's.
BETWEEN_DELIVERIES = "between_deliveries"
#: After a handler's effects, before its receipt is written; both are rolled back. Of many
#: deliveries in one transaction: after the effects of all.
BEFORE_RECEIPT = "before_receipt"
#: Effects and receipts are there, and nothing is committed.
BEFORE_COMMIT = "before_commit"
#: Effects and receipt are committed, and the broker does not know.
AFTER_RECEIPT = "after_receipt"
#: Within a step of an operation, after its changes and before its commit.
IN_STEP = "in_step"
#: After a step of an operation has committed.
AFTER_STEP = "after_step"

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
    """Say that the point `name` is reached; what is armed there runs."""
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
