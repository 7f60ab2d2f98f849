"""A reason against a conversion, and the error with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _


@dataclass(frozen=True)
class Refusal:
    """A reason against the conversion.

    Attributes:
        cause: the object and the cause, a sentence.
        step: the next step, a sentence.
    """

    cause: str
    step: str


class CannotPartition(Exception):
    """The tables cannot be converted. This run has not changed them."""

    def __init__(self, reasons: Sequence[Refusal]) -> None:
        super().__init__("\n".join(f"{one.cause} {one.step}" for one in reasons))
        self.reasons = reasons


class NotYetPartitioned(CannotPartition):
    """The tables cannot be converted now. Their new indexes and checks stay for the next run."""


def run(statement: str) -> str:
    """Return the step to run a statement."""
    return _("Run %(statement)s.") % {"statement": statement}
