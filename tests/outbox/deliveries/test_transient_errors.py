from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError
from hypothesis import given
from hypothesis import strategies as st

from outbox.conf import Conf
from outbox.deliveries.decisions import backoff, is_last
from outbox.deliveries.transient_errors import is_transient


class TestBackoff:
    @given(
        attempt=st.integers(1, 1000),
        base=st.floats(0, 100),
        cap=st.floats(0, 10_000),
        seed=st.integers(),
    )
    def test_stays_between_zero_and_its_maximum(self, attempt, base, cap, seed):
        wait = backoff(attempt=attempt, base=base, cap=cap, rng=random.Random(seed))

        ceiling = min(cap, base * 2 ** min(attempt - 1, 60))
        assert timedelta(0) <= wait <= timedelta(seconds=ceiling) + timedelta(microseconds=1)

    def test_is_spread_over_the_whole_range(self):
        rng = random.Random(7)

        waits = [backoff(attempt=4, base=1, cap=100, rng=rng).total_seconds() for _ in range(2000)]

        assert min(waits) < 0.1
        assert max(waits) > 7.9
        assert 3.7 < sum(waits) / len(waits) < 4.3

    def test_lasts_longer_than_a_night_by_default(self):
        policy, rng = Conf(), random.Random(7)

        def lifetime() -> float:
            waits = (
                backoff(attempt=n, base=policy.BACKOFF_BASE, cap=policy.BACKOFF_CAP, rng=rng)
                for n in range(1, policy.ATTEMPTS)
            )
            return sum(wait.total_seconds() for wait in waits)

        lifetimes = [lifetime() for _ in range(1000)]

        day = timedelta(hours=24).total_seconds()
        assert sum(seconds >= day for seconds in lifetimes) >= 990


class TestIsLast:
    @pytest.mark.parametrize(
        ("attempts", "limit", "expected"),
        [(1, 2, False), (2, 2, True), (3, 2, True), (1_000_000, None, False)],
    )
    def test_counts_attempts_against_the_limit(self, attempts, limit, expected):
        assert is_last(attempts=attempts, limit=limit) is expected


def caused(error: Exception, sqlstate: str, name: str = "sqlstate") -> Exception:
    cause = Exception()
    setattr(cause, name, sqlstate)  # as psycopg's errors have it
    error.__cause__ = cause
    return error


class TestIsTransient:
    @pytest.mark.parametrize(
        "error",
        [
            caused(OperationalError("deadlock detected"), "40P01"),
            caused(OperationalError("deadlock detected"), "40P01", "pgcode"),  # of psycopg 2
            caused(OperationalError("could not serialize access"), "40001"),
            caused(OperationalError("terminating connection"), "57P01"),
            caused(InternalError("idle-in-transaction timeout"), "25P03"),
            caused(InternalError("transaction timeout"), "25P04"),
            caused(OperationalError("idle-session timeout"), "57P05"),
            OperationalError("database is locked"),
            OperationalError("server closed the connection unexpectedly"),
            InterfaceError("connection already closed"),
        ],
    )
    def test_is_true_for_errors_of_the_database(self, error):
        assert is_transient(error, using="default")

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("database is locked"),
            caused(IntegrityError("duplicate key"), "23505"),
            OperationalError("no such table: parcels"),
            ConnectionError("the bank is away"),
        ],
    )
    def test_is_false_for_errors_of_the_handler(self, error):
        assert not is_transient(error, using="default")
