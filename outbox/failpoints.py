"""Named points of the code at which a test lets the process die. Unarmed they do nothing.

They are part of the code, not patched in, so that what a test kills is what production runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: After a handler's effects, before its receipt is written; both are rolled back.
BEFORE_RECEIPT = "before_receipt"

_armed: dict[str, Callable[[], None]] = {}


def reach(name: str) -> None:
    """Say that the point `name` is reached; what is armed there runs."""
    if action := _armed.get(name):
        action()


@contextmanager
def armed(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Run `action` each time the point is reached within the block, in this process."""
    _armed[name] = action
    try:
        yield
    finally:
        del _armed[name]
