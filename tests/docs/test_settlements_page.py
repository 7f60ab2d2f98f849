"""The page about settlement has valid settings, code that loads, and a report that is read."""

from __future__ import annotations

import ast
import json
from typing import Any
from uuid import UUID

import pytest
from pytest_django import Settings

from outbox import events
from outbox.checks.settlements import check_settlements
from outbox.policy import SettledBy
from outbox.settlements.events import SETTLED_TYPE, Settled
from outbox.settlements.recording import Report
from outbox.sinks import configuration as sinks
from outbox.sources import configuration as sources
from tests.docs.pages import Page, names_in

PAGE = Page("docs/how-to/wait-for-other-systems.md")

pytestmark = pytest.mark.once


def settings_of(text: str) -> dict[str, Any]:
    (assignment,) = ast.parse(text).body
    assert isinstance(assignment, ast.Assign)
    found: dict[str, Any] = ast.literal_eval(assignment.value)
    return found


@pytest.fixture
def blocks() -> list[str]:
    """Settings of the producer, two blocks of code, and settings of the consumer."""
    return list(PAGE.blocks("python"))


class TestThePage:
    def test_has_the_defaults_of_a_sink(self):
        shown = {
            names_in(row[0])[0]: names_in(row[1])[0] for row in PAGE.table("Expect settlements")
        }

        policy = SettledBy(consumers=())
        assert shown == {
            "CONSUMERS": "[]",
            "SETTLE_SECONDS": f"{policy.seconds:g}",
            "SETTLE_REPLAYS": f"{policy.replays}",
        }

    def test_has_valid_settings_of_both_sides(self, settings: Settings, blocks: list[str]):
        producer, *_code, consumer = blocks

        settings.OUTBOX = settings_of(producer)
        expected = sinks.configured()["orders"].settled_by
        assert list(check_settlements()) == []

        settings.OUTBOX = settings_of(consumer)
        assert expected is not None
        assert sources.configured()["shop"].settles_as in expected.consumers
        assert sinks.configured()["reports"].accepts(Settled.event_name)
        assert list(check_settlements()) == []

    def test_has_code_that_loads(self, blocks: list[str]):
        known = {name: list(classes) for name, classes in events.registry.items()}
        try:
            for block in blocks[1:-1]:
                exec(block, {"__name__": "tests.docs.settlements_page"})
        finally:
            events.registry.clear()
            events.registry.update(known)

    def test_has_a_report_that_is_read(self):
        given = json.loads(PAGE.blocks("json")[0])

        assert given["type"] == SETTLED_TYPE
        event = UUID("0190a6c0-0000-7000-8000-000000000001")
        assert Report.of(given["data"]) == Report(event, "billing")
