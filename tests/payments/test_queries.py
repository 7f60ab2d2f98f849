from __future__ import annotations

import pytest
from uuid_utils.compat import uuid7

from payments import queries, services
from tests.payments.orders import TOTAL


@pytest.mark.django_db
class TestPaymentOf:
    def test_an_unknown_order_is_none(self):
        assert queries.payment_of(uuid7()) is None

    def test_an_order_has_the_state_of_its_money(self):
        order_id = uuid7()
        services.intend_payment(order_id=order_id, total=TOTAL, payment_method="tok_success")

        summary = queries.payment_of(order_id)

        assert summary
        assert (summary.status, summary.total, summary.awaits_bank) == ("intended", TOTAL, True)
        assert [(move.to_status, move.cause) for move in summary.moves] == [
            ("intended", "orders.OrderPlaced")
        ]

    def test_an_order_cancelled_in_time_has_no_total(self):
        order_id = uuid7()
        services.intend_reversal(order_id=order_id)

        summary = queries.payment_of(order_id)

        assert summary
        assert (summary.status, summary.total, summary.awaits_bank) == ("forestalled", None, False)
