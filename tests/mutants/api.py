"""Limits of the API: the cost of a request, and the stored part of its answer."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SCHEMA = "tests/api/test_schema_view.py::TestTheSchema::"
ANSWERS = "tests/api/test_stored_answers.py::"
LIMITS = "tests/notifications/test_limits.py::"
BODY = "tests/api/test_limits_of_a_body.py::"

API = [
    Mutant(
        name="schema-generated-once",
        without="the API's schema is generated for each request",
        edits=(
            Edit("api/views.py", "import cache\n", "import lru_cache\n"),
            Edit("api/views.py", "@cache\n", "@lru_cache(maxsize=0)\n"),
        ),
        noticed_by=(f"{SCHEMA}test_is_generated_once_for_all_users",),
    ),
    Mutant(
        name="language-of-the-schema",
        without="a parameter may name any language to gettext, which keeps each for good",
        edits=(
            Edit(
                "api/views.py",
                'return get_supported_language_variant(request.GET.get("lang", ""))',
                'return request.GET["lang"] if request.GET.get("lang") else "en"',
            ),
        ),
        noticed_by=(f"{SCHEMA}test_caches_no_unsupported_language",),
    ),
    Mutant(
        name="parameter-in-a-header",
        without="the schema's file is named after a parameter of the request",
        edits=(
            Edit(
                "api/views.py",
                'filename="schema.{renderer.format}"\'',
                'filename="schema{request.GET.get("version", "")}.{renderer.format}"\'',
            ),
        ),
        noticed_by=(
            "tests/shop/test_hostile_parameters.py::TestAHostileParameter"
            "::test_of_a_visitor_reaches_no_header_and_causes_no_server_error",
        ),
    ),
    Mutant(
        name="errors-of-an-answer",
        without="an answer names each wrong part of a body, however many there are",
        edits=(
            Edit(
                "shop/problems.py",
                'in islice(_flat(error.detail, "#"), MOST_ERRORS + 1)',
                'in _flat(error.detail, "#")',
            ),
            Edit("shop/problems.py", '"errors": errors[:MOST_ERRORS],', '"errors": errors,'),
        ),
        noticed_by=(
            f"{BODY}TestAnOversizedBody::test_gets_an_error_that_counts_more_errors_than_it_lists",
        ),
    ),
    Mutant(
        name="length-of-an-error",
        without="an error quotes a value of any length",
        edits=(
            Edit(
                "shop/problems.py",
                "return text if len(text) <= LONGEST_DETAIL else",
                "return text if True else",
            ),
        ),
        noticed_by=(f"{BODY}TestAnOversizedBody::test_gets_a_short_error_and_stores_nothing",),
    ),
    Mutant(
        name="unknown-fields-named",
        without="each unknown field of an object costs an error",
        edits=(
            Edit(
                "api/serializers.py", "heapq.nsmallest(_MOST_UNKNOWN, unknown)", "sorted(unknown)"
            ),
        ),
        noticed_by=(
            f"{BODY}TestAnOversizedBody::test_gets_an_error_with_the_first_unknown_fields",
        ),
    ),
    Mutant(
        name="length-before-items",
        without="a list's items are looked at although it is too long",
        edits=(Edit("api/serializers.py", "and len(data) > self.max_length:", "and False:"),),
        noticed_by=(
            f"{BODY}TestAnOversizedBody::test_is_refused_by_length_before_its_items_are_checked",
        ),
    ),
    Mutant(
        name="parts-of-a-body",
        without="a body may have any number of items, names and values",
        edits=(
            Edit("api/parsing.py", "len(value) > MOST_ITEMS", "False"),
            Edit("api/parsing.py", "len(pairs) > MOST_NAMES", "False"),
            Edit("api/parsing.py", "found > MOST_VALUES", "False"),
            Edit("api/parsing.py", "len(name) > LONGEST_NAME", "False"),
        ),
        noticed_by=(f"{BODY}TestALimit::test_has_the_value_in_the_reference",),
    ),
    Mutant(
        name="timeline-by-causes",
        without="a timeline reads all events of its correlation ids",
        edits=(
            Edit(
                "outbox/monitor/timeline.py",
                "rows.filter(causation_id__in=causes).values_list(*_LINK)[:room]",
                "[\n"
                "            (seq, id_)\n"
                "            for seq, id_, cause in rows.filter(\n"
                "                correlation_id__in=rows.filter(id__in=causes)"
                ".values('correlation_id')\n"
                "            ).values_list(*_LINK, 'causation_id')\n"
                "            if cause in causes\n"
                "        ]",
            ),
        ),
        noticed_by=(
            "tests/outbox/monitor/test_timeline.py::TestALongTimeline"
            "::test_reads_nothing_of_others_of_its_request",
        ),
    ),
    Mutant(
        name="pages-of-a-timeline",
        without="an order's timeline ends after its first page",
        edits=(
            Edit(
                "api/paging.py",
                "            self._next = self.encode_cursor(",
                "            self.encode_cursor(",
            ),
        ),
        noticed_by=(
            "tests/orders/test_api_timeline.py::TestTheTimelineOfAnOrder"
            "::test_is_paged_like_every_list",
        ),
    ),
    Mutant(
        name="owner-of-a-correlation-id",
        without="a request may store events under the correlation id of somebody else's",
        edits=(
            Edit(
                "outbox/emission.py",
                "    check_correlation(partial(_first_actor, using=using), using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/outbox/test_context.py::TestACorrelationIdOfAnotherUser"
            "::test_is_replaced_before_an_event_is_stored_under_it",
        ),
    ),
    Mutant(
        name="limit-of-a-recipient",
        without="a recipient is sent any number of e-mails",
        edits=(
            Edit(
                "notifications/limits.py",
                "        return Suppressed.LIMIT\n",
                "        return None\n",
            ),
        ),
        noticed_by=(f"{LIMITS}TestARecipient::test_gets_no_more_emails_than_the_limit",),
    ),
    Mutant(
        name="mailbox-of-a-recipient",
        without="the same mailbox in other letters is another recipient",
        edits=(
            Edit(
                "shared/mail.py",
                """    local_part, _at, domain = recipient.lower().rpartition("@")
    return f"{local_part.partition('+')[0]}@{domain}"
""",
                "    return recipient\n",
            ),
        ),
        noticed_by=(f"{LIMITS}TestARecipient::test_is_counted_without_case_and_tag",),
    ),
    Mutant(
        name="essential-emails-apart",
        without="cancellations and refunds are stopped by the limit of all e-mails",
        edits=(
            Edit(
                "notifications/limits.py",
                "    is_essential = kind in Email.ESSENTIAL\n",
                "    is_essential = False\n",
            ),
        ),
        noticed_by=(
            f"{LIMITS}TestAnEssentialEmail::test_is_sent_although_the_other_limit_is_reached",
        ),
    ),
    Mutant(
        name="essential-emails-in-the-books",
        without="the books balance although a cancellation or refund was suppressed",
        edits=(
            Edit(
                "notifications/invariants.py",
                "    yield from _suppressed_although_essential()\n",
                "",
            ),
        ),
        noticed_by=(f"{LIMITS}TestAnEssentialEmail::test_is_a_difference_if_it_is_suppressed",),
    ),
    Mutant(
        name="address-on-the-internet",
        without="an order takes whatever address Django's own validator takes",
        edits=(
            Edit(
                "orders/serializers.py",
                "    default_validators = [MailboxValidator()]\n",
                "    default_validators = [EmailValidator()]\n",
            ),
            Edit(
                "orders/serializers.py",
                "import RegexValidator\n",
                "import EmailValidator, RegexValidator\n",
            ),
        ),
        noticed_by=(
            "tests/orders/test_api_bad_input.py::TestAnInvalidOrder"
            "::test_is_refused_with_its_error_and_stores_nothing",
        ),
    ),
    Mutant(
        name="address-before-sending",
        without="an address that was stored earlier is handed to the mail server whatever it is",
        edits=(
            Edit(
                "notifications/limits.py",
                "    if not is_sendable(recipient):",
                "    if False:",
            ),
            Edit(
                "notifications/services.py",
                "    if not is_sendable(email.recipient):\n        raise PermanentFailure(",
                "    if False:\n        raise PermanentFailure(",
            ),
        ),
        noticed_by=(
            f"{LIMITS}TestAnInvalidAddress::test_never_reaches_the_mail_server_or_the_log",
            f"{LIMITS}TestAnInvalidAddress::test_is_refused_for_a_resend",
        ),
    ),
    Mutant(
        name="answer-of-the-mail-server",
        without="what a mail server says is stored and logged as it is",
        edits=(
            Edit(
                "notifications/services.py",
                '    return printable("; ".join(final))\n',
                '    return "; ".join(final)\n',
            ),
        ),
        noticed_by=(
            f"{LIMITS}TestAnInvalidAddress::test_stores_no_control_character_of_the_mail_server",
        ),
    ),
    Mutant(
        name="answers-at-rest",
        without="what is kept of an answer is in clear",
        edits=(
            Edit(
                "api/encryption.py",
                "return _cipher(key, purpose).encrypt(json.dumps(document).encode()).decode()",
                "return json.dumps(document)",
            ),
            Edit(
                "api/encryption.py",
                "json.loads(_cipher(key, purpose).decrypt(encrypted.encode()))",
                "json.loads(encrypted)",
            ),
        ),
        noticed_by=(
            f"{ANSWERS}TestAStoredAnswer::test_contains_neither_order_nor_key",
            f"{ANSWERS}TestAStoredAnswer::test_contains_no_secret_that_is_shown_once",
        ),
    ),
    Mutant(
        name="key-of-an-answer",
        without="an Idempotency-Key is kept as it is",
        edits=(
            Edit(
                "api/encryption.py",
                "    return hashlib.sha256(key.encode()).hexdigest()\n",
                "    return key\n",
            ),
        ),
        noticed_by=(f"{ANSWERS}TestAStoredAnswer::test_contains_neither_order_nor_key",),
    ),
    Mutant(
        name="secret-of-an-answer",
        without="an answer is read by its Idempotency-Key alone, which can be guessed",
        edits=(
            Edit(
                "api/encryption.py",
                "    material = hashlib.sha256(secret.encode()).digest() + ",
                "    material = ",
            ),
        ),
        noticed_by=(
            f"{ANSWERS}TestAStoredAnswer"
            "::test_is_lost_with_the_secret_key_and_the_request_is_not_repeated",
        ),
    ),
    Mutant(
        name="erased-answers",
        without="the request of an erased answer is taken for a new one",
        edits=(
            Edit(
                "api/idempotency.py",
                'kept.update(sealed="")',
                "kept.delete()[0]",
            ),
        ),
        noticed_by=(
            f"{ANSWERS}TestAnErasedAnswer::test_leaves_no_data_and_the_request_is_not_repeated",
        ),
    ),
    Mutant(
        name="answers-of-the-forgotten",
        without="the answers of a forgotten customer are kept",
        edits=(Edit("orders/erasure.py", "erase_answers_of(customer)", "pass"),),
        noticed_by=(f"{ANSWERS}TestAnErasedAnswer::test_is_erased_when_the_customer_is_forgotten",),
    ),
    Mutant(
        name="look-ups-of-hosts",
        without="a user may have any number of hosts looked up",
        edits=(
            Edit(
                "webhooks/throttles.py",
                "super().allow_request(request, view)",
                "True",
            ),
        ),
        noticed_by=("tests/webhooks/test_api.py::TestHostLookups::test_are_limited_per_user",),
    ),
    Mutant(
        name="error-behind-a-link",
        without="an order's timeline fails once the order is shipped, which no first request shows",
        edits=(
            Edit(
                "orders/views.py",
                "        pages = ForwardPagination()\n",
                '        assert order.status != "shipped"\n        pages = ForwardPagination()\n',
            ),
        ),
        noticed_by=(
            "tests/shop/test_openapi_links.py::TestSchemathesis"
            "::test_places_orders_and_follows_links",
        ),
    ),
]
