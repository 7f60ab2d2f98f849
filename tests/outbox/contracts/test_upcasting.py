"""Events of older releases are read in the current version."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.checks import run_checks
from django.db.models import F
from django.test import Client

from outbox import DomainEvent, events, subscribe, upcast
from outbox.contracts import upcasting
from outbox.models import Attempt, Delivery, Event
from outbox.testing import Outbox
from tests.outbox.drive import run_message, run_pass


@pytest.fixture(autouse=True)
def own_upcasters(own_registry: None) -> Iterator[None]:
    known = list(upcasting.registry)
    upcasting.registry.clear()
    yield
    upcasting.registry[:] = known


@pytest.fixture
def version_3() -> type[DomainEvent]:
    """The release in which `tests.Weighed` has grams, and a unit of its own before that."""

    class Weighed(DomainEvent, key="parcel_id", version=3):
        parcel_id: UUID
        grams: int

    return Weighed


def steps() -> None:
    @upcast("tests.Weighed", from_version=1)
    def name_the_unit(payload: dict[str, Any]) -> dict[str, Any]:
        payload["kilos"] = payload.pop("weight")
        return payload

    @upcast("tests.Weighed", from_version=2)
    def weigh_in_grams(payload: dict[str, Any]) -> dict[str, Any]:
        return {"parcel_id": payload["parcel_id"], "grams": payload["kilos"] * 1000}


@pytest.fixture
def weighed(version_3: type[DomainEvent]) -> list[int]:
    """What the handler of `tests.Weighed` was given."""
    given: list[int] = []

    @subscribe("tests.Weighed")
    def note(grams: int) -> None:
        given.append(grams)

    return given


def complaints() -> list[str | None]:
    return [one.id for one in run_checks(tags=["outbox"]) if one.id in UPCASTING]


UPCASTING = ("outbox.E020", "outbox.E021")


class TestAnEventOfAnOlderRelease:
    def test_is_read_through_each_step_of_the_chain(self, weighed: list[int]):
        """Seen to fail with the stored payload handed to the handler."""
        steps()
        outbox = Outbox()
        outbox.given("tests.Weighed", stored_version=1, parcel_id=uuid4(), weight=2)
        outbox.given("tests.Weighed", stored_version=2, parcel_id=uuid4(), kilos=3)
        outbox.given("tests.Weighed", parcel_id=uuid4(), grams=4)

        outbox.deliver_all()

        assert weighed == [2000, 3000, 4]

    def test_stays_stored_as_it_was_emitted(self, weighed: list[int]):
        """Seen to fail with the payload itself, not a copy, given to the steps, and saved."""
        steps()
        outbox = Outbox()
        row = outbox.given("tests.Weighed", stored_version=1, parcel_id=uuid4(), weight=2)

        upcasting.current_payload(row)
        row.save()

        stored = Event.objects.get()
        assert (stored.version, stored.payload["weight"]) == (1, 2)

    def test_has_the_current_version_in_the_test_kit(self, version_3: type[DomainEvent]):
        steps()
        outbox = Outbox()
        parcel_id = uuid4()
        outbox.given("tests.Weighed", stored_version=2, parcel_id=parcel_id, kilos=3)

        read = Outbox().emitted("tests.Weighed")

        assert isinstance(read, version_3)
        assert read.model_dump() == {"parcel_id": parcel_id, "grams": 3000}

    def test_is_dead_and_kept_if_a_step_is_missing(self, weighed: list[int]):
        """Owed and visible, and not read as what it is not. Seen to fail with gaps passed over."""
        outbox = Outbox()
        outbox.given("tests.Weighed", stored_version=1, parcel_id=uuid4(), weight=2, grams=1)

        outbox.deliver_all(raise_errors=False)

        assert (weighed, Delivery.objects.get().state) == ([], "dead")
        assert "no @upcast from version 1" in Attempt.objects.get().message

    def test_is_dead_and_kept_if_a_step_fails(self, weighed: list[int]):
        steps()
        outbox = Outbox()
        outbox.given("tests.Weighed", stored_version=1, parcel_id=uuid4())

        outbox.deliver_all(raise_errors=False)

        assert Delivery.objects.get().state == "dead"
        assert "The upcaster name_the_unit of tests.Weighed" in Attempt.objects.get().message


class TestAnEventOfALaterRelease:
    def test_is_released_without_an_attempt(self, weighed: list[int]):
        """During a deploy new workers emit what old ones receive. Seen to fail with it started."""
        Outbox().given("tests.Weighed", stored_version=4, parcel_id=uuid4(), grams="2 kg")
        [message] = run_pass()

        assert run_message(message) == []

        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.attempts, weighed) == ("pending", 0, [])
        assert "cannot read version 4 of tests.Weighed" in delivery.note

    def test_is_handled_once_a_worker_of_that_release_has_it(self, weighed: list[int]):
        outbox = Outbox()
        outbox.given("tests.Weighed", stored_version=4, parcel_id=uuid4(), grams=5)
        [message] = run_pass()
        run_message(message, worker="old")

        events.registry["tests.Weighed"][0].event_version = 4
        Delivery.objects.update(due_at=F("due_at") - timedelta(minutes=1))
        outbox.deliver_all()

        assert weighed == [5]


class TestUpcastWithTheClassOfAnEvent:
    def test_reads_its_events(self, weighed: list[int], version_3: type[DomainEvent]):
        """Failed: `manage.py check` ended with AttributeError, and the step was not found."""
        steps()
        upcasting.registry.pop()

        @upcast(version_3, from_version=2)
        def weigh_in_grams(payload: dict[str, Any]) -> dict[str, Any]:
            return {"parcel_id": payload["parcel_id"], "grams": payload["kilos"] * 1000}

        outbox = Outbox()
        outbox.given("tests.Weighed", stored_version=1, parcel_id=uuid4(), weight=2)
        outbox.deliver_all()

        assert weighed == [2000]
        assert complaints() == []

    def test_refuses_an_abstract_class(self):
        class Unkeyed(DomainEvent):
            parcel_id: UUID

        with pytest.raises(TypeError, match=r"@upcast\(Unkeyed\).*is abstract"):
            upcast(Unkeyed, from_version=1)

    def test_refuses_a_version_that_is_no_number(self):
        """Failed: `manage.py check` ended with TypeError."""
        with pytest.raises(TypeError, match="from_version='1' is no whole number"):
            upcast("tests.Weighed", from_version="1")  # type: ignore[arg-type]  # on purpose

    @pytest.mark.parametrize("given", [None, dict, lambda payload: payload])
    def test_refuses_any_other_object(self, given: Any):
        with pytest.raises(TypeError, match="an event is a text or a class"):
            upcast(given, from_version=1)


class TestTheCheck:
    def test_accepts_a_whole_chain(self, version_3: type[DomainEvent]):
        steps()

        assert complaints() == []

    def test_finds_each_missing_step(self, version_3: type[DomainEvent]):
        assert complaints() == ["outbox.E020", "outbox.E020"]

    def test_finds_a_step_of_an_undeclared_event(self):
        upcast("tests.Wieghed", from_version=1)(dict)

        assert complaints() == ["outbox.E021"]

    def test_finds_a_step_beyond_the_current_version(self, version_3: type[DomainEvent]):
        steps()
        upcast("tests.Weighed", from_version=3)(dict)

        assert complaints() == ["outbox.E021"]

    def test_finds_two_upcasters_of_one_step(self, version_3: type[DomainEvent]):
        steps()
        upcast("tests.Weighed", from_version=2)(dict)

        assert complaints() == ["outbox.E021"]


class TestTheAdmin:
    def test_shows_the_stored_and_the_upcast_payload(
        self, weighed: list[int], admin_client: Client
    ):
        steps()
        row = Outbox().given("tests.Weighed", stored_version=2, parcel_id=uuid4(), kilos=3)

        page = admin_client.get(f"/admin/outbox/event/{row.seq}/change/").content.decode()

        assert "&quot;kilos&quot;: 3" in page
        assert "&quot;grams&quot;: 3000" in page
