"""One line for each attempt, with fields that a log store can be asked for."""

from __future__ import annotations

import logging
from uuid import UUID, uuid4

import pytest

from outbox import Discard, PermanentFailure, Retry, subscribe
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
    def test_is_told_in_one_line(
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
        told = vars(line)
        assert told["outcome"] == outcome
        assert told["event"] == "shops.Ordered"
        assert told["event_id"] == str(event.id)
        assert told["handler"] == "tests.count"
        assert told["key"] == str(key)
        assert told["correlation_id"] == str(event.correlation_id)
        assert told["attempt"] == 1
        assert told["seconds"] > 0
        assert "Anns-card" not in str(told)
