"""Mutants of refunds, declines, and units that go back to stock."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

MONEY = [
    Mutant(
        name="refunds-that-are-not-made",
        without="an e-mail announces a refund that the bank has not made, and may never make",
        edits=(
            Edit(
                "payments/gateway/stripe_answers.py",
                'if status != "succeeded":',
                "if False:",
            ),
        ),
        noticed_by=(
            "tests/payments/test_stripe.py::TestARefundAtStripe"
            "::test_is_not_done_before_stripe_says_so[pending]",
        ),
    ),
    Mutant(
        name="unknown-payment-methods",
        without="a customer's wrong token leaves deliveries that fail for ever",
        edits=(
            Edit(
                "payments/gateway/stripe.py",
                "if not reason:",
                "if True:",
            ),
        ),
        noticed_by=(
            "tests/payments/test_gateway.py::TestEveryGateway"
            "::test_declines_a_payment_method_that_it_does_not_know[stripe]",
        ),
    ),
    Mutant(
        name="parcels-of-returned-units",
        without="a parcel leaves with units that went back to stock, and they are sold again",
        edits=(
            Edit(
                "orders/services.py",
                "if order.status == Status.READY_TO_SHIP and not has_units_to_ship(order):",
                "if False:",
            ),
        ),
        noticed_by=(
            "tests/orders/test_refunds.py::TestAnOrderWhoseUnitsWentBackToStock"
            "::test_cannot_be_shipped",
        ),
    ),
    Mutant(
        name="addresses-of-new-orders",
        without="an erasure blanks the address of an order that is placed while it runs",
        edits=(
            Edit(
                "orders/erasure.py",
                "orders.filter(pk__in=[order.pk for order in locked]).update",
                "orders.update",
            ),
        ),
        noticed_by=(
            "tests/flows/test_erasure.py::TestAForgottenCustomer"
            "::test_keeps_the_address_of_an_order_that_is_placed_meanwhile",
        ),
    ),
]
