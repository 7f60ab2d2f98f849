"""The newest events across the jump of the sequence."""

from __future__ import annotations

import pytest
from django.db.models import Max

from outbox.counting.minutes import rates
from outbox.models import Event
from outbox.partitions.ahead import keep_ahead
from outbox.partitions.newest import before_newest
from outbox.testing import Outbox
from tests.outbox.converted import days_later

pytestmark = pytest.mark.django_db(transaction=True)


def emit(number: int) -> None:
    outbox = Outbox()
    for _ in range(number):
        outbox.given("shops.Ordered", order_id="1")


def newest(number: int) -> int:
    """Return the number of events after the returned `seq`."""
    before = before_newest(number, using="default")
    assert before is not None
    return Event.objects.filter(seq__gt=before).count()


class TestTheNewestEvents:
    def test_are_those_with_the_highest_numbers(self, own_registry: None):
        emit(5)

        last = Event.objects.aggregate(last=Max("seq"))["last"]
        assert before_newest(3, using="default") == last - 3

    def test_are_none_in_an_empty_table(self, own_registry: None):
        assert before_newest(3, using="default") is None

    @pytest.mark.postgresql
    @pytest.mark.parametrize("wanted", [1, 3, 4, 6, 7, 9])
    def test_include_those_of_earlier_days(self, converted: None, wanted: int):
        emit(3)
        for day in (1, 2):
            with days_later(day):
                keep_ahead(using="default")
                emit(3)

        assert newest(wanted) == wanted
        assert newest(10) == 9


@pytest.mark.postgresql
class TestTheRateOfEvents:
    def test_counts_those_before_midnight(self, converted: None):
        emit(30)
        with days_later(1):
            keep_ahead(using="default")
        emit(10)

        assert rates() == {"shops.Ordered": 4.0}
