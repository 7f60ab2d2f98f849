"""The API's bounds: what one request may cost, and what is kept of its answer."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SCHEMA = "tests/api/test_schema_view.py::TestTheSchema::"
BODY = "tests/api/test_limits_of_a_body.py::"

API = [
    Mutant(
        name="schema-generated-once",
        without="the API's schema is generated for each request",
        edits=(
            Edit("api/views.py", "import cache\n", "import lru_cache\n"),
            Edit("api/views.py", "@cache\n", "@lru_cache(maxsize=0)\n"),
        ),
        noticed_by=(f"{SCHEMA}test_is_generated_once_whoever_asks",),
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
        noticed_by=(f"{SCHEMA}test_keeps_nothing_of_a_language_that_is_not_ours",),
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
            "::test_of_a_stranger_reaches_no_header_and_breaks_nothing",
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
        noticed_by=(f"{BODY}TestAnOversizedBody::test_is_told_that_more_is_wrong_than_is_named",),
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
        noticed_by=(
            f"{BODY}TestAnOversizedBody::test_is_refused_by_a_short_answer_and_writes_nothing",
        ),
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
            f"{BODY}TestAnOversizedBody::test_names_the_first_unknown_fields_of_an_object",
        ),
    ),
    Mutant(
        name="length-before-items",
        without="a list's items are looked at although it is too long",
        edits=(Edit("api/serializers.py", "and len(data) > self.max_length:", "and False:"),),
        noticed_by=(f"{BODY}TestAnOversizedBody::test_has_its_length_looked_at_before_its_items",),
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
        noticed_by=(f"{BODY}TestALimit::test_is_where_the_reference_says",),
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
            "tests/outbox/test_long_stories.py::TestALongTimeline"
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
                "    check_correlation(partial(_first_actor, using=using))\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/outbox/test_context.py::TestACorrelationIdOfSomebodyElse"
            "::test_is_replaced_before_an_event_is_stored_under_it",
        ),
    ),
]
