"""A corrected event belongs to the handler whose delivery was corrected."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone
from pydantic import ConfigDict, computed_field

from outbox import DomainEvent, PermanentFailure, operations, subscribe
from outbox.models import Delivery, Event, Subscription
from outbox.operations import progress
from outbox.reconciliation import duplicate_event_keys
from outbox.reconciliation.examination import reconcile
from outbox.testing import Outbox
from tests.outbox.ordered import A

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_registry", "no_nudge")]

WALKED = "tests.Walked"


class Walks:
    """`tests.refuse` refuses number 1; each other handler records the numbers that it receives."""

    def __init__(self) -> None:
        self.received: list[int] = []

        @subscribe(WALKED, name="tests.refuse")
        def refuse(number: int) -> None:
            if number == 1:
                raise PermanentFailure("no such walk")

    def subscribe(self, *, ordered: bool = False) -> None:
        @subscribe(WALKED, name="tests.count", ordered=ordered)
        def count(number: int) -> None:
            self.received.append(number)

    def deliver(self, number: int, *, key: UUID = A) -> None:
        Outbox().given(WALKED, order_id=key, number=number)
        Outbox().deliver_all(raise_errors=False)

    def correct(self) -> Event:
        """Deliver number 1, and correct it to number 2 for the handler that refused it."""
        self.deliver(1)
        [dead] = Delivery.objects.filter(state="dead").select_related("event")
        payload = {**dead.event.payload, "number": 2}
        event = operations.correct(dead.pk, payload, by="ann", reason="a typo")
        Outbox().deliver_all()
        return event


@pytest.fixture
def walks() -> Walks:
    return Walks()


def backfill() -> int:
    choice = operations.Choice(handler="tests.count")
    done = operations.backfill(choice, by="ann", reason="a test")
    Outbox().deliver_all()
    return done.touched


def differences() -> list[str]:
    # The invariant leaves out events of the first minute of a subscription.
    Subscription.objects.update(since=timezone.now() - timedelta(hours=1))
    return [one.text for found in reconcile().findings for one in found.kept]


class TestABackfillOfAnotherHandler:
    """Failed: the corrected event was delivered to a handler that had handled the original."""

    def test_leaves_out_the_corrected_event(self, walks: Walks):
        walks.subscribe()
        walks.correct()

        assert backfill() == 0
        assert walks.received == [1]

    def test_leaves_it_out_when_the_original_is_pruned(self, walks: Walks):
        walks.subscribe()
        corrected = walks.correct()
        Event.objects.exclude(id=corrected.id).update(
            emitted_at=timezone.now() - timedelta(days=90)
        )
        operations.prune(older_than=timedelta(days=30), by="ann")
        assert Event.objects.get().id == corrected.id

        assert backfill() == 0
        assert walks.received == [1]

    @pytest.mark.parametrize("in_one_step", [True, False])
    def test_delivers_the_original_alone_to_a_later_handler(
        self, walks: Walks, in_one_step: bool, monkeypatch: pytest.MonkeyPatch
    ):
        if not in_one_step:
            monkeypatch.setattr(progress, "_SLICE", 1)
        walks.deliver(7, key=uuid4())
        walks.correct()
        walks.subscribe()

        Outbox().deliver_all()
        assert backfill() == 2
        assert walks.received == [7, 1]

    def test_is_not_refused_for_an_ordered_handler(self, walks: Walks):
        """Failed with CannotBackfill, at each later backfill of the handler."""
        walks.subscribe(ordered=True)
        walks.correct()
        walks.deliver(3)

        assert backfill() == 0
        assert walks.received == [1, 3]


class TestReconciliation:
    def test_reports_no_handler_without_the_corrected_event(self, walks: Walks):
        walks.subscribe()
        walks.correct()

        assert differences() == []

    def test_reports_a_corrected_event_without_any_delivery(self, walks: Walks):
        corrected = walks.correct()
        Delivery.objects.filter(event=corrected).delete()

        [text] = differences()

        assert str(corrected) in text
        assert "corrects another event" in text

    def test_counts_no_correction_as_a_duplicate_event(self, walks: Walks):
        """Failed: the shop's invariants reported an order that was placed twice."""
        walks.correct()
        assert list(duplicate_event_keys(WALKED)) == []

        walks.deliver(3)
        assert list(duplicate_event_keys(WALKED)) == [str(A)]


def refused(name: str, **fields: Any) -> Delivery:
    """Deliver an event to a handler that refuses it; return the dead delivery."""

    @subscribe(name)
    def refuse() -> None:
        raise PermanentFailure("no such parcel")

    outbox = Outbox()
    outbox.given(name, **fields)
    outbox.deliver_all(raise_errors=False)
    return Delivery.objects.select_related("event").get(state="dead")


def corrected(dead: Delivery, **changes: Any) -> dict[str, Any]:
    """Correct fields of the stored payload, as the form of the admin shows it."""
    payload = {**dead.event.payload, **changes}
    event = operations.correct(dead.pk, payload, by="ann", reason="a typo")
    stored: dict[str, Any] = Event.objects.get(id=event.id).payload
    return stored


class TestThePayload:
    def test_may_be_of_an_event_with_strict_fields(self):
        """Failed: "Input should be an instance of UUID", whatever the person wrote."""

        class Weighed(DomainEvent, key="parcel_id"):
            model_config = ConfigDict(strict=True)
            parcel_id: UUID
            grams: int

        dead = refused("tests.Weighed", parcel_id=A, grams=1)

        assert corrected(dead, grams=2) == {"parcel_id": str(A), "grams": 2}

    def test_may_have_the_computed_fields_of_the_form(self):
        """Failed: "Extra inputs are not permitted"."""

        class Priced(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            price: int

            @computed_field  # type: ignore[prop-decorator]  # pydantic's own pattern
            @property
            def total(self) -> int:
                return self.price + 1

        dead = refused("tests.Priced", parcel_id=A, price=1)

        assert corrected(dead, price=5)["total"] == 6

    def test_may_have_a_key_that_an_earlier_release_wrote_in_another_way(self):
        """Failed: "The key must stay Kind.PARCEL", whatever the person wrote."""

        class Kind(Enum):
            PARCEL = "parcel"
            LETTER = "letter"

        class Counted(DomainEvent, key="kind"):
            kind: Kind
            number: int

        dead = refused("tests.Counted", kind=Kind.PARCEL, number=1)
        Event.objects.update(key="Kind.PARCEL")

        with pytest.raises(operations.CannotCorrect, match=r"The key must stay Kind\.PARCEL"):
            corrected(dead, kind="letter")
        assert corrected(dead, number=2) == {"kind": "parcel", "number": 2}

    def test_has_no_field_that_the_event_lacks(self):
        class Moved(DomainEvent, key="parcel_id"):
            parcel_id: UUID

        dead = refused("tests.Moved", parcel_id=A)

        with pytest.raises(operations.CannotCorrect, match="plcae: Extra inputs"):
            corrected(dead, plcae="here")

    def test_has_no_text_that_cannot_be_stored(self):
        class Noted(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            note: str = ""

        dead = refused("tests.Noted", parcel_id=A)

        with pytest.raises(operations.CannotCorrect, match=r"note contains U\+D800, half of a"):
            corrected(dead, note="\ud800")
