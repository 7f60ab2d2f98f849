"""Handlers of what belongs to no single app."""

from __future__ import annotations

from api import erase_answers_of
from outbox import subscribe


@subscribe("outbox.SubjectRedacted", queue="orders")
def erase_answers(subject: str) -> None:
    """Erase the answers that the API keeps for a person who is forgotten."""
    kind, _, user_id = subject.partition(":")
    if kind == "user" and user_id.isdecimal():
        erase_answers_of(int(user_id))
