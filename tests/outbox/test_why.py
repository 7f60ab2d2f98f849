"""`manage.py outbox why TERM`: problems first, and done deliveries only with --all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db.models import Model
from django.utils import translation

from outbox import DomainEvent, subscribe
from outbox.models import Delivery, Event, Operation
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.project.freight.models import Parcel

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Taped(DomainEvent, key="parcel_id"):
    """A parcel is closed with tape."""

    parcel_id: UUID


def find_parcels(term: str) -> Iterable[Parcel]:
    return Parcel.objects.filter(address=term)


@pytest.fixture
def outbox(own_registry: None, settings: object) -> Outbox:
    settings.OUTBOX = {"LOOKUPS": {f"{__name__}.find_parcels": "address"}}  # type: ignore[attr-defined]  # pytest-django's fixture

    @subscribe("tests.Taped")
    def stamp_parcel() -> None: ...

    @subscribe("tests.Taped")
    def weigh_parcel() -> None:
        raise ZeroDivisionError("division by zero")

    return Outbox()


@pytest.fixture
def parcel(outbox: Outbox) -> Parcel:
    """A parcel with two events: of each one delivery is done, and one fails."""
    parcel: Parcel = Parcel.objects.create(address="ann@example.com")
    for _ in range(2):
        outbox.given("tests.Taped", parcel_id=parcel.pk)
    outbox.deliver_all(raise_errors=False)
    return parcel


class TestWhy:
    def test_hides_done_deliveries_and_counts_them(self, parcel: Parcel) -> None:
        said = outbox_command("why", str(parcel.pk))

        assert "tests.weigh_parcel: pending" in said
        assert "tests.stamp_parcel" not in said
        assert said.endswith(
            "Not shown, because they are done: 0 events, 2 deliveries. Add --all to see them.\n"
        )

    def test_shows_done_deliveries_with_all(self, parcel: Parcel) -> None:
        said = outbox_command("why", str(parcel.pk), "--all")

        assert said.count("tests.stamp_parcel: done") == 2
        assert "Not shown" not in said

    def test_has_states_in_the_language_of_the_user(self, parcel: Parcel) -> None:
        """Failed: the state was English."""
        with translation.override("ja"):
            said = outbox_command("why", str(parcel.pk))

        assert "待機中" in said
        assert "pending" not in said

    def test_shows_the_traceback_of_the_latest_failure(self, parcel: Parcel) -> None:
        """Failed: only the admin showed it."""
        failed = Delivery.objects.filter(subscription__handler="tests.weigh_parcel").earliest("pk")
        assert "Traceback" not in outbox_command("why", str(failed.pk))

        for term in (str(failed.pk), str(failed.event.id), str(parcel.pk)):
            said = outbox_command("why", term, "--with-traceback")

            assert "    Traceback (most recent call last):\n" in said
            assert "in weigh_parcel" in said
            assert "    ZeroDivisionError: division by zero" in said

    def test_lists_problems_first(self, parcel: Parcel) -> None:
        Delivery.objects.filter(event=Event.objects.earliest("seq")).update(state="done")
        last = Delivery.objects.filter(event=Event.objects.latest("seq"))
        last.filter(subscription__handler="tests.weigh_parcel").update(state="dead")

        lines = outbox_command("why", str(parcel.pk), "--all").splitlines()

        assert lines[0].startswith(f"event {Event.objects.latest('seq').id}")
        assert "of tests.weigh_parcel: dead" in lines[2]

    def test_explains_one_event_whatever_its_state(self, parcel: Parcel) -> None:
        Delivery.objects.update(state="done")
        event = Event.objects.earliest("seq")

        said = outbox_command("why", str(event.id))

        assert said.count(": done") == 2

    @pytest.mark.parametrize("of", ["key", "correlation", "trace", "term"])
    def test_accepts_each_term_of_the_search(self, parcel: Parcel, of: str) -> None:
        Event.objects.update(traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
        event = Event.objects.latest("seq")
        terms = {
            "key": event.key,
            "correlation": str(event.correlation_id),
            "trace": TRACE,
            "term": "ann@example.com",
        }

        assert "of tests.weigh_parcel: pending" in outbox_command("why", terms[of])

    def test_names_a_row_without_events(self, outbox: Outbox) -> None:
        parcel = Parcel.objects.create(address="bob@example.com")

        assert f"{parcel} has no events." in refused("why", "bob@example.com")

    def test_names_the_searched_terms_without_a_match(self, outbox: Outbox) -> None:
        said = refused("why", str(uuid4()))

        assert "Searched: address, key of an event, event id, delivery id" in said


class TestAKeyWithManyEvents:
    @pytest.fixture
    def dead(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Delivery:
        """The dead delivery of the newest of four events, where a command reads three."""
        monkeypatch.setattr("outbox.management.cli.common.MOST_EVENTS", 3)
        parcel = Parcel.objects.create(address="ann@example.com")
        for _ in range(4):
            outbox.given("tests.Taped", parcel_id=parcel.pk)
        outbox.deliver_all(raise_errors=False)
        Delivery.objects.update(state="done")
        last = Event.objects.latest("seq")
        found = Delivery.objects.get(event=last, subscription__handler="tests.weigh_parcel")
        Delivery.objects.filter(pk=found.pk).update(state="dead")
        return found

    def test_is_explained_up_to_its_newest_problem(self, dead: Delivery) -> None:
        text = outbox_command("why", dead.event.key)

        assert f"delivery {dead.pk} of tests.weigh_parcel: dead" in text

    def test_is_retried_as_a_whole(self, dead: Delivery) -> None:
        outbox_command("retry", dead.event.key)

        dead.refresh_from_db()
        assert dead.state == "pending"

    def test_is_replayed_by_one_operation_at_a_time(self, outbox: Outbox, dead: Delivery) -> None:
        """Seen to begin a second one, as the key had one more delivery."""
        key, reason = dead.event.key, ["--reason", "a test"]
        outbox_command("replay", key, *reason)
        Operation.objects.update(state="running")
        outbox.given("tests.Taped", parcel_id=dead.event.payload["parcel_id"])
        outbox.deliver_all(raise_errors=False)

        assert "The same replay is not finished" in refused("replay", key, *reason)

    def test_is_explained_down_to_its_oldest_problem(self, dead: Delivery) -> None:
        oldest = Delivery.objects.filter(subscription=dead.subscription).earliest("event")
        Delivery.objects.filter(pk=oldest.pk).update(state="dead")

        text = outbox_command("why", dead.event.key)

        assert f"delivery {oldest.pk} of tests.weigh_parcel: dead" in text


class TestALongBacklogOfOneSubject:
    def test_is_not_read_with_all_payloads(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("outbox.management.cli.why.MOST_EVENTS", 3)
        for _ in range(40):
            outbox.given("tests.Taped", parcel_id=uuid4())
        Event.objects.update(subject="customer:7")
        loaded: list[int] = []
        from_db = vars(Model)["from_db"].__func__

        def counting(cls: type[Event], /, *row: object, **more: object) -> Any:
            loaded.append(1)
            return from_db(cls, *row, **more)

        monkeypatch.setattr(Event, "from_db", classmethod(counting))

        text = outbox_command("why", "customer:7")

        assert text.count("tests.Taped") == 3
        assert len(loaded) < 40
