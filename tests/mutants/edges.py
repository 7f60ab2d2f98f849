"""The safety parts at the edges: bulk calls, subscriptions by pattern, and sinks."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

OUTBOX = "tests/outbox/"
BULK = f"{OUTBOX}worker/test_bulk.py::"
PATTERNS = f"{OUTBOX}deliveries/test_patterns.py::"

EDGES = [
    Mutant(
        name="bulk-done-by-acknowledgement",
        without="a delivery that a bulk handler has not settled counts as done",
        edits=(
            Edit(
                "outbox/worker/bulk.py",
                "            if not one.is_done:\n",
                "            if one.error or reason:\n",
            ),
        ),
        noticed_by=(
            f"{BULK}TestADeliveryThatFailed::test_was_not_settled_by_the_handler",
            f"{BULK}TestADeliveryThatFailed::test_was_not_settled_before_the_handler_raised",
        ),
    ),
    Mutant(
        name="bulk-receipts-alone",
        without="one delivery that was lost to another worker costs all others their receipts",
        edits=(
            Edit(
                "outbox/worker/bulk.py",
                "        if len(deliveries) == 1:\n",
                "        if True:\n",
            ),
        ),
        noticed_by=(f"{BULK}TestADeliveryOfAnotherWorker::test_gets_no_receipt_and_prevents_none",),
    ),
    Mutant(
        name="bulk-replays-counted",
        without="a replay looks like the first delivery, so the other system discards its id",
        edits=(
            Edit(
                "outbox/worker/bulk.py",
                "    again = [row.pk for row in deliveries if row.token > 1]\n",
                "    again = []\n",
            ),
        ),
        noticed_by=(f"{BULK}TestAReplay::test_is_counted_for_systems_that_discard_known_ids",),
    ),
    Mutant(
        name="one-row-for-patterns",
        without="an event that two parts of a selector select has two deliveries",
        edits=(
            Edit(
                "outbox/subscriptions.py",
                "        if self.bulk or self.has_patterns:\n",
                "        if self.bulk:\n",
            ),
        ),
        noticed_by=(
            f"{PATTERNS}TestAPattern::test_makes_one_delivery_of_an_event_that_two_parts_select",
        ),
    ),
    Mutant(
        name="rows-merged-into-a-pattern",
        without="deliveries of the rows per event stay behind when a pattern takes over",
        edits=(
            Edit(
                "outbox/deliveries/joining.py",
                "    if has_several_events(selector):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(
            f"{PATTERNS}TestTheNextRelease::test_merges_the_rows_of_events_into_that_of_a_pattern",
        ),
    ),
    Mutant(
        name="row-of-a-pattern-split",
        without="deliveries of a pattern are parked when rows per event take over",
        edits=(
            Edit(
                "outbox/deliveries/sync.py",
                "    retry_transient(partial(split_rows, using=using), using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{PATTERNS}TestTheNextRelease"
            "::test_splits_the_row_of_a_pattern_into_those_of_its_events",
        ),
    ),
    Mutant(
        name="keys-released-in-bulk",
        without="the receipts of a bulk call release the next event of one key only",
        edits=(
            Edit(
                "outbox/deliveries/ordering.py",
                "        event__in=list(firsts.values()),\n",
                "        event__in=list(firsts.values())[:1],\n",
            ),
        ),
        noticed_by=(
            f"{BULK}TestAnOrderedHandler::test_releases_the_next_event_of_each_key_of_a_call",
        ),
    ),
]
