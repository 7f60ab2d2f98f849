"""Find the first event since a time by a binary search."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from outbox import subscribe
from outbox.admin.event_list import first_since
from outbox.models import Event
from outbox.testing import Outbox
from tests.outbox.history import store

STORED = 3000


@pytest.fixture
def history(own_registry: None) -> None:
    """Events of thirty days, one a quarter of an hour or so; the newest is twenty minutes old."""

    @subscribe("others.Seldom")
    def wonder() -> None: ...

    Outbox()
    store(STORED, names=("tests.Kept",), rare="others.Seldom")


class TestFirstSince:
    @pytest.mark.parametrize("days", [0, 0.02, 0.5, 1, 7, 29, 31])
    def test_includes_all_newer_and_few_older_events(self, history: None, days: float) -> None:
        moment = timezone.now() - timedelta(days=days)

        first = first_since(moment)

        newer = Event.objects.filter(emitted_at__gte=moment)
        older = Event.objects.filter(seq__gte=first, emitted_at__lt=moment)
        assert not newer.filter(seq__lt=first).exists()
        assert older.count() < 300

    def test_tolerates_clocks_that_differ(self, history: None) -> None:
        """Two servers emit in turn, one event a second. The clock of one is four minutes ahead."""
        now, rows = timezone.now(), list(Event.objects.only("seq").order_by("seq"))
        for number, event in enumerate(rows):
            ahead = timedelta(minutes=4) if number % 2 else timedelta(0)
            event.emitted_at = now - timedelta(seconds=STORED - number) + ahead
        Event.objects.bulk_update(rows, ["emitted_at"], batch_size=500)
        moment = now - timedelta(minutes=20)

        first = first_since(moment)

        newer = Event.objects.filter(emitted_at__gte=moment)
        assert first > rows[0].seq
        assert not newer.filter(seq__lt=first).exists()

    @pytest.mark.django_db
    def test_accepts_an_empty_table(self) -> None:
        assert first_since(timezone.now()) == 0
