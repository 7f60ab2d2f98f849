"""The safety parts at the edges: bulk calls, subscriptions by pattern, and sinks."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

OUTBOX = "tests/outbox/"
BULK = f"{OUTBOX}worker/test_bulk.py::"
TARGETS = f"{OUTBOX}worker/test_targets.py::"
ORDER = f"{OUTBOX}worker/test_bulk_order.py::"
SINKS = f"{OUTBOX}sinks/test_publishing.py::"
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
        name="bulk-call-is-an-answer",
        without="the failures of a bulk call that was answered in part open the breaker",
        edits=(
            Edit(
                "outbox/worker/bulk.py",
                "    for_breaker = not acknowledged\n",
                "    for_breaker = True\n",
            ),
        ),
        noticed_by=(
            f"{BULK}TestTheBreaker::test_takes_a_call_with_an_acknowledgement_for_an_answer[2]",
        ),
    ),
    Mutant(
        name="bulk-call-fails-once",
        without="a failed bulk call counts for the breaker as often as it has deliveries",
        edits=(
            Edit(
                "outbox/worker/bulk.py",
                "                for_breaker = False\n",
                "                pass\n",
            ),
        ),
        noticed_by=(f"{BULK}TestTheBreaker::test_counts_a_call_without_an_acknowledgement_once",),
    ),
    Mutant(
        name="one-row-for-patterns",
        without="an event that two parts of a selector select has two deliveries",
        edits=(
            Edit(
                "outbox/subscriptions.py",
                "        if self.bulk or self.has_patterns or self.targets:\n",
                "        if self.bulk or self.targets:\n",
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
        name="targets-with-the-receipt",
        without="the deliveries of targets commit before the receipt of their finder",
        edits=(
            Edit(
                "outbox/worker/targets.py",
                "        store(targets(**arguments))\n",
                "        store(targets(**arguments))\n        transaction.commit()\n",
            ),
        ),
        noticed_by=(f"{TARGETS}TestFindingTargets::test_is_one_transaction_with_its_receipt",),
    ),
    Mutant(
        name="target-of-a-correction",
        without="a corrected event goes to all targets, also those that had the first one",
        edits=(
            Edit(
                "outbox/operations/corrections.py",
                "        target=row.target,\n",
                "",
            ),
        ),
        noticed_by=(
            f"{TARGETS}TestACorrection::test_is_delivered_only_to_the_target_of_the_dead_delivery",
        ),
    ),
    Mutant(
        name="sink-done-by-acknowledgement",
        without="an event counts as published although the other system refused it",
        edits=(
            Edit(
                "outbox/sinks/publishing.py",
                "            one.done() if error is None else one.failed(error)\n",
                "            one.done()\n",
            ),
        ),
        noticed_by=(f"{SINKS}TestAnEvent::test_is_done_only_by_its_own_acknowledgement",),
    ),
    Mutant(
        name="sink-in-order",
        without="a sink sends a later event of a key while an earlier one has no acknowledgement",
        edits=(
            Edit(
                "outbox/sinks/publishing.py",
                "            ordered=config.ordered,\n",
                "            ordered=False,\n",
            ),
        ),
        noticed_by=(f"{SINKS}TestOrder::test_lets_no_later_event_of_a_key_overtake",),
    ),
    Mutant(
        name="merged-row-selects-both",
        without="events of a merged row are missed until the sync after the merge",
        edits=(Edit("outbox/deliveries/joining.py", "    _select_both(row, old)\n", ""),),
        noticed_by=(
            f"{PATTERNS}TestTheNextRelease::test_misses_no_event_between_the_merge_and_the_sync",
        ),
    ),
    Mutant(
        name="split-row-narrowed",
        without="each later event has a second delivery, parked under the row of the pattern",
        edits=(
            Edit(
                "outbox/deliveries/joining.py",
                "        _narrow(old, {row.event for row in rows}, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{PATTERNS}TestTheNextRelease"
            "::test_leaves_no_second_delivery_of_later_events_after_a_split",
        ),
    ),
    Mutant(
        name="order-of-split-rows",
        without="deliveries that move to the row of an event have no order of keys",
        edits=(
            Edit(
                "outbox/deliveries/joining.py",
                "            set_order_keys(row, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{PATTERNS}TestTheNextRelease::test_keeps_the_order_of_keys_that_the_split_rows_have",
        ),
    ),
    Mutant(
        name="events-of-a-later-release",
        without="an old worker makes events dead that only the next release handles",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "    elif not handler.handles(event.name):\n",
                "    elif False:\n",
            ),
        ),
        noticed_by=(
            f"{PATTERNS}TestTheNextRelease"
            "::test_is_handed_events_that_the_present_one_does_not_handle",
        ),
    ),
    Mutant(
        name="targets-of-a-later-release",
        without="an old worker runs its whole function for each target of the next release",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "    elif row.target and not handler.targets:\n",
                "    elif False:\n",
            ),
        ),
        noticed_by=(
            f"{TARGETS}TestAnOlderRelease::test_does_not_run_its_function_for_each_target",
        ),
    ),
    Mutant(
        name="breaker-of-a-finder",
        without="a delivery that finds targets counts as an answer of the external system",
        edits=(
            Edit(
                "outbox/worker/targets.py",
                "        breaker=None,  # it calls no external system\n",
                "",
            ),
        ),
        noticed_by=(
            f"{TARGETS}TestABreaker::test_opens_although_targets_are_found_between_failures",
            f"{TARGETS}TestABreaker::test_stays_open_if_its_probe_finds_targets",
        ),
    ),
    Mutant(
        name="targets-of-an-ended-subscription",
        without="targets are stored that no relay will ever send",
        edits=(
            Edit(
                "outbox/worker/targets.py",
                "filter(deliveries=delivery.pk, active=True)",
                "filter(deliveries=delivery.pk)",
            ),
        ),
        noticed_by=(f"{TARGETS}TestAnEndedSubscription::test_gets_no_targets",),
    ),
    Mutant(
        name="lease-of-stored-failures",
        without="a bulk call with many failures loses the leases of the last ones",
        edits=(
            Edit(
                "outbox/worker/bulk.py",
                "            access.run(lease.keep)  # of those that follow\n",
                "",
            ),
        ),
        noticed_by=(f"{BULK}TestTheLease::test_is_kept_while_many_failures_are_stored",),
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
    Mutant(
        name="sink-awaited-briefly",
        without="a thread waits for a dead system behind others until its lease passes",
        edits=(
            Edit(
                "outbox/sinks/publishing.py",
                "        if not lock.acquire(timeout=config.timeout):\n",
                "        if not lock.acquire():\n",
            ),
        ),
        noticed_by=(f"{SINKS}TestASinkThatIsBusy::test_is_not_awaited_longer_than_a_call",),
    ),
    Mutant(
        name="sink-down-for-all",
        without="one call of a message after the other waits for a system that is down",
        edits=(
            Edit(
                "outbox/sinks/publishing.py",
                "    if results and all(isinstance(one, SinkUnavailable) for one in results):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(
            f"{SINKS}TestACall::test_is_the_last_one_if_the_system_was_unavailable_for_all",
        ),
    ),
    Mutant(
        name="sink-within-the-lease",
        without="a sink sends on after its lease, so another worker sends its events, too",
        edits=(
            Edit(
                "outbox/sinks/publishing.py",
                "    if limit.left() < config.lease * (_END - _LAST_START):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(f"{SINKS}TestACall::test_does_not_begin_after_half_of_the_lease",),
    ),
    Mutant(
        name="sink-call-within-the-lease",
        without="the last call of a sink may wait until the lease has passed",
        edits=(
            Edit(
                "outbox/sinks/publishing.py",
                "        timeout = min(config.timeout, limit.left())\n",
                "        timeout = config.timeout\n",
            ),
        ),
        noticed_by=(f"{SINKS}TestACall::test_ends_before_the_lease",),
    ),
    Mutant(
        name="bulk-start-in-turn",
        without="the UPDATE that starts a message starts deliveries that are out of turn, too",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "    return where.replace(UNORDERED, IN_TURN), (*values, handler.name)\n",
                '    return where.replace(UNORDERED, "%s IS NOT NULL"), (*values, handler.name)\n',
            ),
        ),
        noticed_by=(
            f"{ORDER}TestAStart::test_blocks_a_delivery_behind_one_that_has_not_started",
            f"{ORDER}TestAStart::test_starts_only_the_first_of_a_key_that_a_message_has_twice",
        ),
    ),
    Mutant(
        name="bulk-start-behind-waiting",
        without="a message starts deliveries behind an event that waits for its fan-out",
        edits=(
            Edit(
                "outbox/worker/start_sql.py",
                "    AND e.seq + 0 < outbox_delivery.event_id\n",
                "    AND e.seq + 0 < 0\n",
            ),
        ),
        noticed_by=(
            f"{ORDER}TestAStart::test_blocks_a_delivery_behind_an_event_that_waits_for_its_fan_out",
        ),
    ),
    Mutant(
        name="bulk-start-beside-running",
        without="a replay in a message starts beside a later delivery of its key",
        edits=(
            Edit(
                "outbox/worker/start_sql.py",
                " OR (o.state = 'sent' AND o.started_token = o.token))",
                ")",
            ),
        ),
        noticed_by=(f"{ORDER}TestAReplay::test_does_not_run_during_a_later_delivery_of_its_key",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="lock-of-all-keys",
        without="two starts of messages with one key may miss each other",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "            lock_all_keys(handler.name, using=using)\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{ORDER}TestAReplay::test_does_not_run_during_a_delivery_that_starts_at_the_same_time",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="lock-of-one-key-and-of-all",
        without="the start of one delivery and that of a message may miss each other",
        edits=(
            Edit(
                "outbox/deliveries/key_locks.py",
                "    shared = sorted(",
                "    shared = 0 * sorted(",
            ),
        ),
        noticed_by=(f"{ORDER}TestAStartOfOneKey::test_is_awaited_by_the_start_of_a_message",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="blocked-keys-of-a-call",
        without="the receipts of a bulk call release nothing",
        edits=(
            Edit(
                "outbox/deliveries/key_rows.py",
                "AND d.state || '' = 'blocked'\n",
                "AND d.state || '' = 'parked'\n",
            ),
        ),
        noticed_by=(
            f"{BULK}TestAnOrderedHandler::test_releases_the_next_event_of_each_key_of_a_call",
        ),
    ),
]
