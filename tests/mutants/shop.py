"""The shop's safety parts: locks, tombstones, intents, and external input."""

from __future__ import annotations

from tests.mutants.edge import EDGE
from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

SHOP = [
    Mutant(
        name="lock-of-the-join",
        without="an order is read without its row lock: stock and payment miss each other",
        edits=(Edit("orders/models.py", "self.select_for_update().get(pk=", "self.get(pk="),),
        noticed_by=(
            "tests/flows/test_join.py::TestTheJoin"
            "::test_confirms_if_both_begin_before_either_commits",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="lock-of-the-payment",
        without="a payment is read without its row lock",
        edits=(
            Edit(
                "payments/models.py",
                "Payment.objects.select_for_update().get(order_id=order_id)",
                "Payment.objects.get(order_id=order_id)",
            ),
        ),
        noticed_by=(
            "tests/payments/test_services.py::TestConcurrentHandlers"
            "::test_that_record_the_same_answer_emit_once",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="lock-of-the-reservation",
        without="a reservation is read without its row lock",
        edits=(Edit("inventory/models.py", "self.select_for_update().get(pk=", "self.get(pk="),),
        noticed_by=(
            "tests/inventory/test_concurrency.py::TestAParcelThatIsCancelledWhileItIsShipped"
            "::test_is_issued_or_released_and_never_both",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="tombstone-of-the-stock",
        without="a release that comes before its reservation leaves nothing",
        edits=(
            Edit(
                "inventory/services.py",
                "reservation.move_to(Status.FORESTALLED)",
                "reservation.delete()",
            ),
        ),
        noticed_by=(
            "tests/flows/test_cancel_before_reserve.py::TestACancellationThatIsHandledFirst"
            "::test_prevents_the_late_reservation",
        ),
    ),
    Mutant(
        name="tombstone-of-the-payment",
        without="a cancellation that comes before the authorization leaves nothing",
        edits=(
            Edit(
                "payments/services.py",
                "    if payment.status in way_back:\n",
                "    if payment.status == NEW:\n"
                "        payment.delete()\n"
                "    elif payment.status in way_back:\n",
            ),
        ),
        noticed_by=(
            "tests/payments/test_handlers.py::TestVoidOrRefund"
            "::test_that_runs_first_prevents_the_authorization",
        ),
    ),
    Mutant(
        name="cancelled-is-not-captured",
        without="a payment is captured although its order was cancelled",
        edits=(
            Edit(
                "payments/services.py",
                "    if payment.cancelled_at or _was_declined_at_capture(payment):",
                "    if _was_declined_at_capture(payment):",
            ),
        ),
        noticed_by=(
            "tests/payments/test_services.py::TestACancelledOrder"
            "::test_is_not_captured_although_it_is_authorized",
        ),
    ),
    Mutant(
        name="cancelled-emits-nothing",
        without="a success at the bank emits its event although the order was cancelled",
        edits=(
            Edit(
                "payments/services.py",
                "    if not payment.cancelled_at:\n        emit(event)\n",
                "    emit(event)\n",
            ),
        ),
        noticed_by=(
            "tests/payments/test_handlers.py::TestVoidOrRefund"
            "::test_recovers_a_lost_authorization_and_voids_it",
        ),
    ),
    Mutant(
        name="other-amount-of-a-capture",
        without="another captured amount is recorded although the order is not cancelled",
        edits=(
            Edit(
                "payments/services.py",
                "not (payment.cancelled_at and can_be_refunded)",
                "not can_be_refunded",
            ),
        ),
        noticed_by=(
            "tests/payments/test_services.py::TestARecord"
            "::test_of_another_captured_amount_is_refused",
        ),
    ),
    Mutant(
        name="look-before-an-old-key",
        without="the bank is asked under a key that it may have forgotten, without a look",
        edits=(
            Edit(
                "payments/bank_requests.py",
                "    if timezone.now() < key_is_old_at:",
                "    if True:",
            ),
        ),
        noticed_by=(
            "tests/payments/test_handlers.py::TestAuthorizePayment"
            "::test_queries_the_bank_before_a_request_with_an_old_key",
        ),
    ),
    Mutant(
        name="key-of-the-bank",
        without="each authorization is asked for under a key of its own",
        edits=(
            Edit(
                "payments/models.py",
                'f"{self.id}-authorize"',
                'f"{self.id}-authorize-{timezone.now().timestamp()}"',
            ),
        ),
        noticed_by=(
            "tests/payments/test_crashes.py::TestACrashBetweenAnyTwoSteps"
            "::test_moves_the_money_once_and_says_so_once",
        ),
    ),
    Mutant(
        name="idempotency-key",
        without="a request that is sent again is done again",
        edits=(
            Edit(
                "api/idempotency.py",
                "        if not is_new:\n            return _replay(stored, key, fingerprint)\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/orders/test_api_idempotency.py::TestARepetition"
            "::test_gets_the_same_answer_and_places_no_second_order",
        ),
    ),
    Mutant(
        name="one-message-for-each-event",
        without="a replay writes a second webhook message of an event, and fails",
        edits=(
            Edit(
                "webhooks/queries.py",
                "    endpoints = endpoints.exclude(messages__event_id=event_id)\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/webhooks/test_repeated_events.py::TestAReplay::test_writes_no_second_message",
            "tests/webhooks/test_repeated_events.py::TestAReplay"
            "::test_writes_a_message_to_a_new_endpoint",
        ),
    ),
    Mutant(
        name="idempotency-key-of-a-user",
        without="one user's Idempotency-Key is everybody's",
        edits=(
            Edit(
                "api/idempotency.py",
                "filter(user=request.user, path=request.path)",
                "filter(path=request.path)",
            ),
        ),
        noticed_by=(
            "tests/orders/test_api_idempotency.py::TestARepetition"
            "::test_of_another_user_is_a_new_request",
        ),
    ),
    Mutant(
        name="signature-of-the-bank",
        without="a webhook is believed whoever signed it",
        edits=(
            Edit("payments/gateway/signatures.py", "    if not any(matches):", "    if False:"),
        ),
        noticed_by=(
            "tests/payments/test_webhooks.py::TestASignature::test_of_another_secret_is_refused",
            "tests/payments/test_webhooks.py::TestASignature::test_covers_every_byte_of_the_body",
        ),
    ),
    Mutant(
        name="chain-of-a-webhook",
        without="a webhook of the bank begins a chain of its own",
        edits=(
            Edit(
                "payments/webhooks.py",
                "with correlated(correlation_id) if correlation_id else nullcontext():",
                "with nullcontext():",
            ),
        ),
        noticed_by=(
            "tests/payments/test_webhooks.py::TestAWebhook"
            "::test_has_the_correlation_id_of_the_request_that_it_answers",
        ),
    ),
    Mutant(
        name="age-of-a-signature",
        without="a webhook that was recorded long ago is believed",
        edits=(
            Edit(
                "payments/gateway/signatures.py",
                "    if abs(now - timestamp) > WINDOW_SECONDS:",
                "    if False:",
            ),
        ),
        noticed_by=(
            "tests/payments/test_webhooks.py::TestASignature::test_is_valid_for_five_minutes",
        ),
    ),
    Mutant(
        name="address-at-each-sending",
        without="where a webhook goes is not checked when it is sent",
        edits=(
            Edit(
                "webhooks/addresses.py",
                "    if host not in private_hosts() and not all(",
                "    if False and not all(",
            ),
        ),
        noticed_by=(
            "tests/webhooks/test_addresses.py::TestANameThatChangesItsAddress"
            "::test_is_checked_again_at_each_sending",
        ),
    ),
    Mutant(
        name="address-that-was-checked",
        without="a webhook goes to whatever the host is called when the connection is made",
        edits=(
            Edit(
                "webhooks/posting.py",
                "        for address in self._addresses:",
                "        for address in (host,):",
            ),
        ),
        noticed_by=(
            "tests/webhooks/test_addresses.py::TestANameThatChangesItsAddress"
            "::test_is_called_at_the_checked_address",
        ),
    ),
    Mutant(
        name="guesses-of-tokens",
        without="whoever sends wrong tokens may go on for ever",
        edits=(Edit("api/tokens.py", "            WrongTokenThrottle().count(request)\n", ""),),
        noticed_by=(
            "tests/shop/test_guessing.py::TestAGuesserOfTokens::test_is_throttled_after_some_wrong_tokens",
        ),
    ),
    Mutant(
        name="guesses-of-passwords",
        without="whoever tries passwords in the admin may go on for ever",
        edits=(Edit("shop/settings/web.py", '    "axes.backends.AxesStandaloneBackend",\n', ""),),
        noticed_by=(
            "tests/shop/test_guessing.py::TestAGuesserOfPasswords"
            "::test_is_locked_out_even_with_the_right_password",
        ),
    ),
    Mutant(
        name="second-factor-of-staff",
        without="staff reach the admin and its API with the password alone",
        edits=(
            Edit(
                "shop/second_factor/middleware.py",
                "        if not is_missing(request) or request.path in map(reverse, OPEN):",
                "        if True:",
            ),
        ),
        noticed_by=(
            "tests/shop/test_second_factor.py::TestStaffWithoutOne"
            "::test_reach_only_the_enrolment_page",
            "tests/shop/test_second_factor.py::TestStaffWithoutOne"
            "::test_are_refused_by_the_api_with_the_reason",
        ),
    ),
    Mutant(
        name="second-factor-that-is-there",
        without="a session that passed the password alone replaces the second factor",
        edits=(
            Edit(
                "shop/second_factor/services.py",
                "        if django_otp.user_has_device(user) and not may_replace:",
                "        if False:",
            ),
        ),
        noticed_by=(
            "tests/shop/test_second_factor.py::TestSettingItUp"
            "::test_replaces_nothing_for_a_session_that_was_not_verified",
        ),
    ),
    Mutant(
        name="secrets-of-second-factors",
        without="the admin shows the secrets of other users' authenticators",
        edits=(
            Edit(
                "shop/second_factor/admin.py",
                "admin.site.unregister([TOTPDevice, StaticDevice])\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/shop/test_second_factor.py::TestTheAdmin::test_shows_no_secrets_of_others",
        ),
    ),
    *EDGE,
]
