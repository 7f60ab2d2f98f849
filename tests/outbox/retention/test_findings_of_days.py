"""Findings about days that are old enough to be removed, and are not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from pytest_django import Settings

from outbox import subscribe
from outbox.doctor.past_days import examine
from outbox.operations import unfinished
from outbox.retention import whole_days
from tests.outbox.converted import rows
from tests.threads import aside

from .past import OF_DAYS, age, low, prune, put, removal, settled, yesterday

pytestmark = OF_DAYS


@pytest.fixture(autouse=True)
def handler(converted: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {"default": 1}}
    monkeypatch.setattr(whole_days, "_TRIES", 1)

    @subscribe("parcels.ParcelSent", name="tests.write")
    def write() -> None: ...


def texts() -> list[str]:
    return [f"{one.text} {one.advice}" for one in examine(using="default")]


class TestADayOfWhichTooManyEventsAreOwed:
    def test_is_reported_with_the_choice_of_its_deliveries(self):
        for event in settled(6)[:4]:
            put(event, "dead")

        [text] = texts()

        assert text.startswith(f"{yesterday()} cannot be removed at once: more than")
        assert f"--since {yesterday()} --until {yesterday() + timedelta(days=1)}" in text

    def test_is_not_reported_if_they_may_stay(self):
        for event in settled(6)[:3]:
            put(event, "dead")

        assert texts() == []


class TestARemoval:
    def test_that_is_held_up_is_reported_with_the_processes(self):
        settled(4)
        with transaction.atomic():
            [[pid]] = rows("SELECT pg_backend_pid() FROM outbox_event WHERE seq = %s", low())
            aside(prune)
        age(timedelta(hours=2))

        with transaction.atomic():
            rows("SELECT 1 FROM outbox_event WHERE seq = %s", low())
            found: list[list[str]] = []
            aside(lambda: found.append(texts()))
        [[text]] = found

        assert f"The removal of {yesterday()} (operation {removal().pk}) began at" in text
        assert f"the processes {pid}." in text

    def test_that_has_begun_lately_is_not_reported(self):
        settled(4)
        with transaction.atomic():
            rows("SELECT 1 FROM outbox_event WHERE seq = %s", low())
            aside(prune)

        assert removal().state == "running"
        assert texts() == []

    def test_is_no_operation_that_a_person_has_to_continue(self):
        settled(4)
        with transaction.atomic():
            rows("SELECT 1 FROM outbox_event WHERE seq = %s", low())
            aside(prune)
        age(timedelta(hours=2))

        assert list(unfinished()) == []
