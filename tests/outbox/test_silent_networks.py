"""No byte passes between worker and database, and nobody closes the connection."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group

from outbox import Receipt, subscribe
from tests.outbox.outages import ends, given, outcomes, work

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


class TestASessionThatPostgresqlEnds:
    """`bound_transaction` ends the session of a process that is stopped within a transaction."""

    def test_uses_up_no_attempt(self):
        """Rule 9. Failed while 25P03, an InternalError, was an ordinary failure."""
        runs = []

        @subscribe("tests.Counted", attempts=1, atomic=False, lease=1.0, time_limit=0.9)
        def count(receipt: Receipt) -> None:
            runs.append(1)
            with receipt:
                if len(runs) == 1:
                    _wait_until_the_session_ended()
                Group.objects.create(name=uuid4().hex)

        work(given())

        assert "failed" not in outcomes()
        assert ends() == [("done", 1)]


def _wait_until_the_session_ended() -> None:
    """Do nothing for longer than the lease, as a process that is stopped."""
    time.sleep(1.5)
