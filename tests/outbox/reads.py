"""A router that records the models of the outbox that are read through it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import router


class RecordingRouter:
    """Sends each read to the only database, and records its model."""

    def __init__(self) -> None:
        self.models: list[str] = []

    def db_for_read(self, model: Any, **_hints: Any) -> str:
        if model._meta.app_label == "outbox":
            self.models.append(model.__name__)
        return "default"


def recorded_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record from now on; return the list that gets the names of the models."""
    reads = RecordingRouter()
    monkeypatch.setattr(router, "routers", [reads])
    return reads.models
