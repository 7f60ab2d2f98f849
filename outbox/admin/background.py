"""Long operations started from a page, carried out by a thread of the web process.

The thread may die with its process at any time, for example by a deploy. The operation's page then
shows that it has stopped, and has a button to continue it from its last step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.db import connections
from django.utils.translation import gettext as _

from outbox import operations
from outbox.models import Operation

from .acting import CARRY_OUT

logger = logging.getLogger(__name__)

_BEGIN_SECONDS = 30.0


class NotBegun(RuntimeError):
    """The operation did not complete its first step."""


def in_background(
    action: str, choice: operations.Choice, *, by: str, reason: str, rate: float | None
) -> int:
    """Start an operation; return its id after its first step.

    Raises `NotBegun` if it fails before, or if its first step takes longer than 30 seconds.
    """

    def run(report: Callable[[Operation, str], object]) -> object:
        return CARRY_OUT[action](choice, by=by, reason=reason, rate=rate, report=report)

    return _begun(run)


def go_on_in_background(number: int, *, by: str) -> int:
    """Continue an operation whose process has stopped."""
    return _begun(lambda report: operations.continue_operation(number, by=by, report=report))


def _begun(run: Callable[[Callable[[Operation, str], object]], object]) -> int:
    numbers: list[int] = []
    has_begun = threading.Event()

    def report(operation: Operation, _waits_for: str) -> None:
        numbers[:] = [operation.pk]
        has_begun.set()

    def work() -> None:
        try:
            run(report)
        except Exception:  # its record keeps the progress; its page shows that it is silent
            logger.exception("An operation broke off.")
        finally:
            has_begun.set()
            connections.close_all()

    threading.Thread(target=work, name="outbox-operation", daemon=True).start()
    if not has_begun.wait(_BEGIN_SECONDS) or not numbers:
        raise NotBegun(_("It did not begin; the log says why."))
    return numbers[0]
