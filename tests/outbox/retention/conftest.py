from __future__ import annotations

import pytest

from outbox.partitions import emptying
from outbox.retention import staying, whole_days


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a day with two events be worth emptying, and at most three of them stay."""
    monkeypatch.setattr(staying, "FEWEST", 2)
    for module in (staying, emptying):
        monkeypatch.setattr(module, "MOST_EVENTS", 3)
    monkeypatch.setattr(whole_days, "_examined_again_at", {})
