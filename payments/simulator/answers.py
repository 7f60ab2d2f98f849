"""Answers of the bank, and refusals, which move no money."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One HTTP answer: status, JSON body, and further headers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def is_replayed(self) -> bool:
        return "Idempotent-Replayed" in self.headers


class Refusal(Exception):
    """The request is invalid, not allowed, or at the wrong time; nothing was done."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(status, error("invalid_request_error", code, message))


class ConnectionDropped(Exception):
    """The caller gets no answer: the connection is closed."""


def error(type_: str, code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"type": type_, "code": code, "message": message, **more}}
