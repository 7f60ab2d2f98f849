"""Each attempt has one log line, with fields for queries in a log store."""

from __future__ import annotations

import logging
from uuid import UUID, uuid4

import pytest

from outbox import Discard, PermanentFailure, Retry, subscribe
from outbox.counting import counters, minutes
from outbox.models import Counter, Delivery, Minute
from outbox.operations.dry_run import dry_run
from outbox.testing import Outbox

pytestmark = pytest.mark.usefixtures("own_registry")


class TestAnAttempt:
    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (None, "done"),
            (ValueError, "retry"),
            (PermanentFailure, "dead"),
            (KeyError, "discarded"),
        ],
    )
    def test_is_logged_in_one_line(
        self, caplog: pytest.LogCaptureFixture, error: type[Exception] | None, outcome: str
    ):
        @subscribe("shops.Ordered", rules={KeyError: Discard("not ours"), ValueError: Retry()})
        def count(order_id: UUID) -> None:
            if error:
                raise error

        outbox, key = Outbox(), uuid4()
        event = outbox.given("shops.Ordered", order_id=key, secret="Anns-card")

        with caplog.at_level(logging.INFO, logger="outbox.delivery"):
            outbox.deliver_all(raise_errors=False)

        (line,) = caplog.records
        fields = vars(line)
        assert fields["outcome"] == outcome
        assert fields["event"] == "shops.Ordered"
        assert fields["event_id"] == str(event.id)
        assert fields["handler"] == "tests.count"
        assert fields["key"] == str(key)
        assert fields["correlation_id"] == str(event.correlation_id)
        assert fields["attempt"] == 1
        assert fields["seconds"] > 0
        assert "Anns-card" not in str(fields)


class TestTheCountsOfADelivery:
    @pytest.fixture
    def pk(self, settings) -> int:
        """A delivery that is done, with the metrics on."""
        settings.OUTBOX = {"METRICS_TOKEN": "secret"}

        @subscribe("shops.Ordered")
        def count() -> None: ...

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=uuid4())
        outbox.deliver_all()
        return Delivery.objects.get().pk

    def counts(self) -> tuple[list[int], list[float]]:
        minutes.flush()
        counters.flush()
        attempts = Counter.objects.filter(name="attempts", part="done")
        done = Minute.objects.filter(handler="tests.count").values_list("done", flat=True)
        return list(done), list(attempts.values_list("value", flat=True))

    def test_are_added_once_to_each_table(self, pk: int):
        """Seen to fail with results that are counted where they are logged, too."""
        assert self.counts() == ([1], [1])

    def test_leave_out_a_dry_run(self, pk: int):
        """Failed: /metrics counted an attempt."""
        dry_run(pk)

        assert self.counts() == ([1], [1])
