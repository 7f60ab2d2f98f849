"""The safety parts of personal data: masking, redaction, the archive, and erasure in the shop."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

_DATA = "tests/outbox/privacy/test_subjects.py::"
_REDACTED = "tests/outbox/privacy/test_sensitive.py::TestRedaction::"
_FORGOTTEN = "tests/flows/test_erasure.py::"

PRIVACY = [
    Mutant(
        name="patterns-of-addresses",
        without="an e-mail address that nobody declared stays in the text of a failure",
        edits=(
            Edit(
                "outbox/privacy/masking.py", "    return _EMAIL.sub(MASK, text)", "    return text"
            ),
        ),
        noticed_by=(f"{_DATA}TestAPattern::test_masks_addresses_and_long_numbers",),
    ),
    Mutant(
        name="numbers-beside-letters",
        without="a number that stands beside a letter stays in the text of a failure",
        edits=(
            Edit(
                "outbox/privacy/masking.py",
                r'rf"[+\uff0b]?[(\uff08]?{_DIGIT}',
                r'rf"(?<!\w)[+\uff0b]?[(\uff08]?{_DIGIT}',
            ),
        ),
        noticed_by=(f"{_DATA}TestAPattern::test_masks_a_number_beside_letters",),
    ),
    Mutant(
        name="dates-within-numbers",
        without="a number that begins as a date stays in the text of a failure",
        edits=(
            Edit(
                "outbox/privacy/masking.py",
                r'(?:{_TIME})?(?![\d{re.escape(_HYPHENS)}])"',
                '(?:{_TIME})?"',
            ),
        ),
        noticed_by=(
            f"{_DATA}TestAPattern"
            "::test_masks_a_number_that_begins_or_ends_as_a_date_or_an_ip_address",
        ),
    ),
    Mutant(
        name="separators-of-numbers",
        without="only the hyphen of ASCII separates the digits of a number",
        edits=(
            Edit("outbox/privacy/masking.py", r'_HYPHENS = "-\u00ad\u2010\u2011', '_HYPHENS = "-'),
        ),
        noticed_by=(f"{_DATA}TestAPattern::test_masks_a_number_with_any_separators",),
    ),
    Mutant(
        name="keys-of-mappings",
        without="the keys of a sensitive mapping stay in the text of a failure",
        edits=(
            Edit(
                "outbox/privacy/sensitive.py",
                "        yield from (key for key in value if key not in names)\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/outbox/privacy/test_sensitive.py::TestAFailedAttempt"
            "::test_has_no_key_of_a_sensitive_mapping",
        ),
    ),
    Mutant(
        name="lower-case-of-one-length",
        without="a letter that is longer in lower case moves the mask of a part of a value",
        edits=(
            Edit(
                "outbox/privacy/masking.py",
                "lowered, length = _lowered(text), len(text)",
                "lowered, length = text.lower(), len(text)",
            ),
        ),
        noticed_by=(f"{_DATA}TestAValue::test_is_masked_if_a_letter_is_longer_in_lower_case",),
    ),
    Mutant(
        name="each-case-of-a-letter",
        without="a value whose letters are in another case, such as a final sigma, is not masked",
        edits=(
            Edit(
                "outbox/privacy/masking.py",
                "letter.lower()[0].upper(), letter",
                "letter.lower()[0], letter",
            ),
        ),
        noticed_by=(
            f"{_DATA}TestAValue::test_is_masked_in_each_case_that_a_regular_expression_ignores",
        ),
    ),
    Mutant(
        name="callbacks-without-arguments",
        without="the log of a callback that failed has the arguments of its partial",
        edits=(
            Edit(
                "outbox/worker/callbacks.py",
                'getattr(function, "__qualname__", type(function).__qualname__)',
                'getattr(function, "__qualname__", repr(function))',
            ),
        ),
        noticed_by=(
            "tests/outbox/worker/test_callbacks.py::TestACallbackThatRaises"
            "::test_is_logged_without_its_arguments",
        ),
    ),
    Mutant(
        name="parts-of-all-forms",
        without="a part of a value is masked only as far as its shortest form goes",
        edits=(
            Edit(
                "outbox/privacy/masking.py",
                "        done = max(done, end)\n",
                "            done = end\n",
            ),
        ),
        noticed_by=(
            f"{_DATA}TestAValue::test_is_masked_up_to_the_end_of_its_longest_form[beginning]",
        ),
    ),
    Mutant(
        name="declared-values",
        without="a failure's text keeps the values that apps declare for the subject",
        edits=(Edit("outbox/privacy/cleaning.py", "in values_of(subject)", "in ()"),),
        noticed_by=(
            f"{_DATA}TestADeclaredValue::test_is_masked_in_the_failures_of_thin_events",
            "tests/flows/test_personal_data.py"
            "::TestACustomersData::test_is_in_no_channel_after_a_redaction",
        ),
    ),
    Mutant(
        name="thin-events-in-a-redaction",
        without="a redaction passes over the failures of events that declare no subject",
        edits=(
            Edit(
                "outbox/privacy/redaction.py",
                "sorted({*keys, *of_subject.found})",
                "sorted(keys)",
            ),
        ),
        noticed_by=(f"{_DATA}TestADeclaredValue::test_is_masked_in_older_failures_by_a_redaction",),
    ),
    Mutant(
        name="schemas-of-a-redaction",
        without="a redaction keeps a field that was marked since the version of its event",
        edits=(
            Edit(
                "outbox/privacy/redaction.py",
                "in reversed(schemas_of(event)):",
                "in schemas_of(event)[-1:]:",
            ),
        ),
        noticed_by=(
            f"{_REDACTED}test_blanks_a_field_that_was_marked_since_the_version_of_the_event",
        ),
    ),
    Mutant(
        name="unknown-events-in-a-redaction",
        without="a redaction counts an event of an unknown class as one without personal data",
        edits=(
            Edit(
                "outbox/privacy/redaction.py",
                "return bool(event.payload) and not is_redacted and not schemas_of(event)",
                "return False",
            ),
        ),
        noticed_by=(
            f"{_REDACTED}test_counts_unknown_events_separately",
            "tests/outbox/privacy/test_sensitive.py::TestTheCommand"
            "::test_names_the_events_that_this_code_does_not_know",
        ),
    ),
    Mutant(
        name="reasons-in-a-redaction",
        without="a redaction keeps what the reasons of pauses and breakers quote of a failure",
        edits=(
            Edit(
                "outbox/privacy/redaction.py",
                "            _clean_reasons(seqs, values, using=using)\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{_DATA}TestADeclaredValue"
            "::test_is_masked_in_pause_and_breaker_reasons_by_a_redaction",
        ),
    ),
    Mutant(
        name="pauses-without-failures",
        without="the reason of a pause by a rule quotes a failure to whoever may not see one",
        edits=(
            Edit(
                "outbox/monitor/stops.py",
                "return hidden_text() if is_failure else row.pause_reason",
                "return row.pause_reason",
            ),
        ),
        noticed_by=(
            "tests/outbox/admin/test_permissions.py::TestTheTextOfAFailure"
            "::test_is_hidden_without_the_permission_to_view_deliveries",
        ),
    ),
    Mutant(
        name="no-text-without-values",
        without="a failure's text is stored although it is not known what to mask in it",
        edits=(
            Edit(
                "outbox/privacy/cleaning.py",
                "Cleaner((), refusal=f",
                'Cleaner((), refusal="" and f',
            ),
        ),
        noticed_by=(f"{_DATA}TestADeclaredValue::test_that_cannot_be_read_hides_the_whole_text",),
    ),
    Mutant(
        name="log-without-texts",
        without="the log has the text of the exception of a declaration that cannot be read",
        edits=(
            Edit(
                "outbox/privacy/masking.py",
                "{type(one).__name__}",
                "{one!r}",
            ),
        ),
        noticed_by=(
            f"{_DATA}TestADeclaredValue::test_that_cannot_be_read_hides_the_whole_text[values]",
            f"{_DATA}TestADeclaredValue::test_that_cannot_be_read_hides_the_whole_text[of_key]",
        ),
    ),
    Mutant(
        name="archive-without-personal-data",
        without="sensitive fields are written into the archive, which no redaction reaches",
        edits=(
            Edit(
                "outbox/retention/archive.py",
                "event.payload if conf().ARCHIVE_SENSITIVE else _blanked(event)",
                "event.payload",
            ),
        ),
        noticed_by=(f"{_DATA}TestAnArchive::test_has_blanks_in_sensitive_fields",),
    ),
    Mutant(
        name="log-without-addresses",
        without="an address that a library logs is written to the console",
        edits=(
            Edit("shop/settings/logs.py", '"client_errors", "personal_data"]', '"client_errors"]'),
        ),
        noticed_by=(
            "tests/shop/test_logs.py::TestAProductionLog::test_masks_addresses_of_libraries_too",
        ),
    ),
    Mutant(
        name="erasure-ends",
        without="e-mails that cannot be sent are waited for without end",
        edits=(Edit("notifications/services.py", "    if waits:\n", "    if True:\n"),),
        noticed_by=(
            f"{_FORGOTTEN}TestAForgottenCustomer"
            "::test_is_forgotten_although_an_email_was_never_sent",
        ),
    ),
    Mutant(
        name="failed-emails-and-erasure",
        without="an e-mail that is dead, or was discarded, counts as one in hand",
        edits=(
            Edit(
                "notifications/services.py",
                "(one for one in sorted(unsent) if _is_in_flight(one))",
                "iter(sorted(unsent))",
            ),
        ),
        noticed_by=(
            f"{_FORGOTTEN}TestAForgottenCustomer"
            "::test_is_forgotten_although_an_email_was_never_sent",
        ),
    ),
    Mutant(
        name="delayed-payload-masked",
        without="the admin shows the payload of a delayed event with what is sensitive in it",
        edits=(
            Edit(
                "outbox/admin/events.py",
                "payload_text(masked(delayed))",
                "payload_text(delayed.payload)",
            ),
        ),
        noticed_by=(
            "tests/outbox/relay/test_delayed.py::TestTheAdminPageOfADelayedEvent"
            "::test_shows_the_masked_payload_and_the_due_time",
        ),
    ),
    Mutant(
        name="no-resend-to-the-forgotten",
        without="staff are promised that an e-mail is sent whose customer was forgotten",
        edits=(Edit("notifications/services.py", "    _require_resendable(email)\n", ""),),
        noticed_by=(
            "tests/notifications/test_admin.py::TestAnEmailOfAForgottenCustomer"
            "::test_is_not_sent_again",
            "tests/notifications/test_admin.py::TestResending::test_is_refused_before_the_first_sending",
        ),
    ),
    Mutant(
        name="forgetting-tries-again",
        without="a customer with an order that is not final is never forgotten",
        edits=(
            Edit(
                "orders/handlers.py",
                '"outbox.SubjectRedacted", "orders.ErasurePostponed")',
                '"outbox.SubjectRedacted")',
            ),
        ),
        noticed_by=(
            f"{_FORGOTTEN}TestAForgottenCustomer::test_is_forgotten_once_the_last_order_is_final",
        ),
    ),
    Mutant(
        name="no-email-after-forgetting",
        without="an e-mail is written beside the forgetting of its customer, and keeps the address",
        edits=(
            Edit("notifications/services.py", "contact(order_id, lock=True)", "contact(order_id)"),
        ),
        noticed_by=(f"{_FORGOTTEN}TestAConcurrentEmail::test_is_blanked_too",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="users-by-id",
        without="an order's history keeps the name of a user, which may be an address",
        edits=(
            Edit(
                "orders/action_views.py",
                'return f"user:{request.user.pk}"',
                "return request.user.get_username()",
            ),
        ),
        noticed_by=("tests/orders/test_api.py::TestCancelOrder::test_records_the_id_of_the_user",),
    ),
    Mutant(
        name="bodies-of-reports",
        without="a report of the bank keeps a customer's name and address when it is processed",
        edits=(
            Edit(
                "payments/webhooks.py",
                'report.body, report.processed_at = "", timezone.now()',
                "report.processed_at = timezone.now()",
            ),
        ),
        noticed_by=(
            "tests/payments/test_stripe.py::TestAWebhookOfStripe"
            "::test_contains_no_customer_data_after_processing",
        ),
    ),
    Mutant(
        name="webhooks-of-the-forgotten",
        without="the webhooks of a customer outlive the customer",
        edits=(
            Edit(
                "webhooks/services.py",
                "_delete(Endpoint.objects.filter(owner_id=owner))",
                "pass",
            ),
        ),
        noticed_by=(
            "tests/flows/test_personal_data.py"
            "::TestACustomersData::test_is_in_no_channel_after_a_redaction",
        ),
    ),
]
