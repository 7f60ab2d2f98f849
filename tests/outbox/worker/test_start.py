"""An outage of the database around the start of a message: its answer is lost, or it comes late."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import OperationalError

from outbox import clock, subscribe
from outbox.deliveries import failpoints
from outbox.deliveries.statements import read_each
from outbox.models import Delivery
from outbox.relay.passes import relay_pass
from outbox.worker import start as start_module
from tests.flows.threads import aside
from tests.outbox.outages import (
    LostAnswer,
    Outage,
    ends,
    given,
    let_leases_pass,
    outcomes,
    work,
)

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


class TestAStartWhoseAnswerIsLostForLongerThanItsLease:
    """A relay that is not cut off declares the worker dead meanwhile. Rule 9."""

    def test_uses_up_no_attempt(self, outage: Outage, monkeypatch: pytest.MonkeyPatch):
        outage.meanwhile = let_leases_pass
        runs = []

        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            runs.append(1)

        message = given()
        lost: list[bool] = []

        def read_and_cut(*statements: Any, using: str) -> Any:
            found = read_each(*statements, using=using)
            if not lost:
                lost.append(True)
                outage()
                raise OperationalError("server closed the connection unexpectedly")
            return found

        monkeypatch.setattr(start_module, "read_each", read_and_cut)

        work(message)

        assert (runs, ends(), outcomes()) == ([], [("pending", 0)], ["outage"])

    def test_uses_up_no_attempt_of_an_ordered_handler(
        self, outage: Outage, lost_answer: LostAnswer
    ):
        outage.meanwhile = let_leases_pass
        runs = []

        @subscribe("tests.Counted", attempts=1, ordered=True)
        def count() -> None:
            runs.append(1)

        message = given()
        lost_answer.then = outage

        work(message)

        assert (runs, ends(), outcomes()) == ([], [("pending", 0)], ["outage"])


class TestAStartThatWaitsForTheDatabase:
    def test_has_its_whole_lease_when_it_is_stored(self, outage: Outage):
        """Failed while the lease counted from before the wait: it had passed at the start."""

        @subscribe("tests.Counted", attempts=1, lease=0.6, time_limit=0.1)
        def count() -> None: ...

        message = given()
        outage.meanwhile = lambda: time.sleep(0.8)
        outage()
        left: list[bool] = []

        def look() -> None:
            left.append(Delivery.objects.get().due_at > clock.now())
            relay_pass(publish=lambda message: None)

        with failpoints.armed(failpoints.AFTER_START, lambda: aside(look)):
            work(message)

        assert left == [True]
        assert ends() == [("done", 1)]
