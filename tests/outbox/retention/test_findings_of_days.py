"""Findings about days that are old enough to be removed, and are not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from pytest_django import Settings

from outbox import subscribe
from outbox.deliveries import failpoints
from outbox.doctor.past_days import examine
from outbox.models import Delivery
from outbox.operations import unfinished
from outbox.partitions import emptying
from outbox.partitions.catalogue import EVENT
from outbox.partitions.days import partition_name
from outbox.retention import whole_days
from tests.outbox.converted import in_another_transaction, rows
from tests.threads import aside

from .past import OF_DAYS, age, killed_at, low, prune, put, removal, settled, yesterday

pytestmark = OF_DAYS


@pytest.fixture(autouse=True)
def handler(converted: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {"default": 1}}
    monkeypatch.setattr(whole_days, "_TRIES", 1)

    @subscribe("parcels.ParcelSent", name="tests.write")
    def write() -> None: ...


def texts() -> list[str]:
    return [f"{one.text} {one.advice}" for one in examine(using="default")]


def beside_another(statement: str) -> list[str]:
    """Return the findings while another transaction has executed a statement, and is open."""
    with in_another_transaction(statement):
        return texts()


class TestADayOfWhichTooManyRowsHaveToStay:
    def test_is_reported_with_the_choice_of_its_deliveries(self):
        for event in settled(6)[:4]:
            put(event, "dead")

        [text] = texts()

        assert text.startswith(
            f"The partition of {yesterday()} cannot be removed as a whole: more than 3 of its "
            "events have to stay."
        )
        assert f"--since {yesterday()} --until {yesterday() + timedelta(days=1)}" in text

    def test_is_reported_with_their_deliveries_if_these_are_too_many(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Two events are owed. Each of them has a done delivery, too."""
        monkeypatch.setattr(emptying, "MOST_DELIVERIES", 3)

        @subscribe("parcels.ParcelSent", name="tests.count")
        def count() -> None: ...

        for event in settled(6)[:2]:
            one = Delivery.objects.filter(event=event, subscription__handler="tests.count")
            one.update(state="dead", settled_at=None)

        [text] = texts()

        assert "its events that have to stay have more than 3 deliveries." in text
        assert "more than 3 of its events" not in text

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

    def test_that_examines_its_events_names_no_process(self):
        """A reader does not hold it up. Nor does the removal itself, which reads the day."""
        settled(4)
        killed_at(failpoints.IN_SLICE)
        age(timedelta(hours=2))

        [text] = beside_another(f"SELECT 1 FROM outbox_event WHERE seq = {low()}")

        assert "process" not in text
        assert "It has come to the step examine." in text

    def test_that_waits_for_its_locks_does_not_name_its_own_process(self):
        settled(4)
        with transaction.atomic():
            rows("SELECT 1 FROM outbox_event WHERE seq = %s", low())
            aside(prune)
        age(timedelta(hours=2))
        leaf = partition_name(EVENT, yesterday())

        [text] = beside_another(f"LOCK TABLE {leaf} IN SHARE UPDATE EXCLUSIVE MODE")

        assert "process" not in text
        assert "It has come to the step empty." in text

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
