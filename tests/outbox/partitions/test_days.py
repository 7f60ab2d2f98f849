"""Days and the ranges of `seq` that belong to them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from outbox.partitions.days import (
    PER_DAY,
    day_at,
    day_of,
    first_seq,
    partition_name,
    start_of,
)

DAY = date(2026, 11, 29)


class TestTheFirstNumberOfADay:
    def test_is_the_number_of_the_day_times_the_numbers_of_a_day(self):
        assert first_seq(date(1970, 1, 2)) == PER_DAY
        assert first_seq(DAY) == 20786 * PER_DAY

    def test_is_exact_as_a_number_of_javascript_in_two_hundred_years(self):
        assert first_seq(date(2216, 1, 1)) < 2**53


class TestTheDayOfANumber:
    @pytest.mark.parametrize("seq", [first_seq(DAY), first_seq(DAY + timedelta(days=1)) - 1])
    def test_is_the_day_whose_range_contains_it(self, seq: int):
        assert day_of(seq) == DAY

    @pytest.mark.parametrize("seq", [0, 1, PER_DAY - 1])
    def test_is_unknown_before_the_sequence_has_jumped(self, seq: int):
        assert day_of(seq) is None


class TestTheStartOfADay:
    @pytest.mark.parametrize("seq", [first_seq(DAY), first_seq(DAY + timedelta(days=1)) - 1])
    def test_is_midnight(self, seq: int):
        assert start_of(seq) == datetime(2026, 11, 29, tzinfo=UTC)


class TestTheDayOfATime:
    def test_is_that_of_utc(self):
        tokyo = timezone(timedelta(hours=9))

        assert day_at(datetime(2026, 11, 30, 8, 59, tzinfo=tokyo)) == DAY
        assert day_at(datetime(2026, 11, 29, 23, 59, tzinfo=UTC)) == DAY


class TestTheNameOfAPartition:
    def test_ends_in_the_day(self):
        assert partition_name("outbox_event", DAY) == "outbox_event_20261129"
