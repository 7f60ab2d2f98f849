"""The engine's safety parts: relay, delivery, settlement, retention."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

OUTBOX = "tests/outbox/"
MODEL = f"{OUTBOX}model/test_model.py::TestTheEngine::test_does_as_its_model_whatever_happens"

RELAY = [
    Mutant(
        name="emit-in-a-transaction",
        without="`emit()` works where no transaction is open",
        edits=(
            Edit("outbox/emission.py", "    if not is_open(connections[using]):", "    if False:"),
        ),
        noticed_by=(
            f"{OUTBOX}test_emission.py::TestEmit::test_outside_a_transaction_raises_and_stores_nothing",
        ),
    ),
    Mutant(
        name="claim-by-state",
        without="events are found above the last one that was fanned out, not by their state",
        edits=(
            Edit(
                "outbox/relay/backlog.py",
                "FROM outbox_event e WHERE e.fanned_out_at IS NULL",
                "FROM outbox_event e WHERE e.seq > (SELECT coalesce(max(seq), 0) "
                "FROM outbox_event WHERE fanned_out_at IS NOT NULL)",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestAnEventWhoseCommitIsLate"
            "::test_is_delivered_although_a_later_event_was_delivered_before",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="lease-sweep",
        without="nobody looks for leases that have passed",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "lost = self._settle_lapsed() if self.work.has_lapsed else 0",
                "lost = 0",
            ),
        ),
        noticed_by=(
            MODEL,
            f"{OUTBOX}test_transactions.py::TestTheRelay"
            "::test_that_dies_before_it_publishes_leaves_the_deliveries_to_the_next",
            f"{OUTBOX}relay/test_passes.py::TestALostMessage"
            "::test_is_sent_again_with_a_new_token_and_does_not_count_as_an_attempt",
        ),
    ),
    Mutant(
        name="receipt-in-a-transaction",
        without="a receipt is given within a transaction that the handler rolls back",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "    if is_open(connections[using]):\n        raise RuntimeError(",
                "    if False:\n        raise RuntimeError(",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_delivery.py::TestAHandlerWithReceipt"
            "::test_has_failed_if_it_enters_its_receipt_within_a_transaction",
        ),
    ),
    Mutant(
        name="empty-key-in-order",
        without="deliveries with an empty key are not ordered",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "for row in deliveries if row.order_key is not None]\n",
                "for row in deliveries if row.order_key]\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestAnEmptyKey::test_is_a_key_like_any_other",
        ),
    ),
    Mutant(
        name="other-queues-of-a-broker",
        without="one queue that the broker refuses stops the handlers behind it",
        edits=(
            Edit(
                "outbox/relay/publishing.py",
                "        if message.queue in refused or is_late:\n",
                "        if refused:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_publishing.py::TestABrokerThatRefusesOneQueue"
            "::test_gets_the_messages_of_other_queues",
        ),
    ),
    Mutant(
        name="window",
        without="a handler has no limit of what is in flight",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "return free_slots(window=self.row.window_now, in_flight=in_flight, "
                "batch=self.batch)",
                "return 1000",
            ),
        ),
        noticed_by=(
            MODEL,
            f"{OUTBOX}relay/test_passes.py::TestAPass::test_keeps_a_handler_within_its_window",
        ),
    ),
    Mutant(
        name="rest-beside-dead-workers",
        without="fewer deliveries than a message wait for the leases of those whose workers died",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "self.sends_rest = since is not None and self.now - since >= _REST_AFTER",
                "self.sends_rest = False",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_dispatch.py::TestNewDeliveriesBesideThoseOfDeadWorkers"
            "::test_are_sent_after_a_second",
        ),
    ),
    Mutant(
        name="window-after-a-lease",
        without="a delivery whose lease has passed gives up its place before a pass settles it",
        edits=(
            Edit(
                "outbox/relay/backlog.py",
                "AND d.state = 'sent'),",
                "AND d.state = 'sent' AND d.due_at > clock_timestamp()),",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_dispatch.py::TestADeliveryWhoseLeaseHasPassed"
            "::test_has_its_place_in_the_window_until_a_pass_settles_it[True]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="refusing-queues-last",
        without="each pass waits for the queues without a leader before it asks the others",
        edits=(
            Edit(
                "outbox/relay/publishing.py",
                "            _refusing.add(message.queue)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_publishing.py::TestABrokerThatRefusesOneQueue"
            "::test_gets_the_messages_of_other_queues_first_in_the_next_pass",
        ),
    ),
    Mutant(
        name="reduced-window-grows",
        without="the reduced window of a handler with long runs never grows again",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "if is_reduced and not lost and self._may_probe_for_workers:",
                "if not self.work:",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_dispatch.py::TestAReducedWindowOfASlowHandler"
            "::test_grows_while_each_message_is_started_at_once",
        ),
    ),
    Mutant(
        name="lock-of-the-lane",
        without="two relays may work on one subscription at a time",
        edits=(
            Edit(
                "outbox/relay/backlog.py",
                "    lock = locking(using=using, skip_locked=True, no_key=True)\n",
                '    lock = ""\n',
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestTwoRelays::test_keep_a_handler_within_one_window",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="subscription-rows",
        without="fan-out asks the process's own registry instead of the subscription rows",
        edits=(
            Edit(
                "outbox/relay/fan_out.py",
                "    return {name: [row for row in rows if selects(row.event, name)] "
                "for name in names}\n",
                "    from outbox.subscriptions import registry\n\n"
                "    mine = [handler.name for handler in registry]\n"
                "    rows = [row for row in rows if row.handler in mine]\n"
                "    return {name: [row for row in rows if selects(row.event, name)] "
                "for name in names}\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_sync.py::TestAHandlerThatOnlyTheNextReleaseHas"
            "::test_gets_deliveries_from_an_old_relay",
        ),
    ),
    Mutant(
        name="page-by-its-index",
        without="PostgreSQL is free to read all that waits, and to sort it, for one page",
        edits=(
            Edit(
                "outbox/deliveries/statements.py",
                "return [_NO_SORT, one, _SORT] if is_by_index",
                "return [_NO_SORT, _SORT, one] if is_by_index",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_plans.py::TestTheRelay::test_sorts_no_backlog_without_statistics",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="inline-waits-for-the-disk",
        without="the relay runs a delivery that a crash of the database may take along",
        edits=(
            Edit(
                "outbox/relay/fan_out.py",
                "    if chosen:  # its COMMIT",
                "    if False:  # its COMMIT",
            ),
            Edit(
                "outbox/relay/fan_out.py",
                "read_last(mark, *stored, using=using)",
                "read_last(\n            mark, *stored, "
                "*([event_of(chosen.seq)] if chosen else []), using=using\n        )",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_lost_passes.py::TestAPass::test_waits_for_the_disk_if_it_starts_an_inline_delivery",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="commit-of-its-own",
        without="a pass within somebody's transaction commits it",
        edits=(
            Edit(
                "outbox/deliveries/statements.py",
                "if not (_takes_many(using) and is_its_own(connections[using])):",
                "if not _takes_many(using):",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_lost_passes.py::TestAPass::test_leaves_the_transaction_of_a_caller_open",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="events-before-subscriptions",
        without="a relay reads the subscriptions before it reads the waiting events",
        edits=(
            Edit(
                "outbox/relay/backlog.py",
                "    *_, events, subscriptions, work = read_each(\n"
                "        *bounds(idle_seconds, using=using),\n"
                "        waiting_events(page=page, using=using),\n"
                "        free_subscriptions(using=using),\n"
                "        work_statement(using=using, is_brief=is_brief),\n",
                "    *_, subscriptions, work, events = read_each(\n"
                "        *bounds(idle_seconds, using=using),\n"
                "        free_subscriptions(using=using),\n"
                "        work_statement(using=using, is_brief=is_brief),\n"
                "        waiting_events(page=page, using=using),\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestAnEventDuringADeploy"
            "::test_is_delivered_to_a_handler_that_was_just_added",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="short-pages-end",
        without="pages stay short while the backlog grows faster than they fan it out",
        edits=(
            Edit(
                "outbox/relay/passes.py",
                "            if is_short and done.lag >= self._lag:\n",
                "            if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_ahead.py::TestPassesAfterOneThatTookEventsAhead"
            "::test_are_full_for_ten_seconds_if_the_lag_does_not_fall",
        ),
    ),
    Mutant(
        name="random-order-of-a-slow-broker",
        without="while the broker is slow, each pass begins with the same messages of a handler",
        edits=(
            Edit(
                "outbox/relay/publishing.py",
                "            random.shuffle(some)\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_publishing.py::TestASlowBroker::test_gets_messages_of_each_share",
            f"{OUTBOX}relay/test_publishing.py::TestASlowBroker::test_gets_messages_of_retries",
        ),
    ),
    Mutant(
        name="floor-of-the-nudge",
        without="the relay looks only when it is nudged",
        edits=(
            Edit(
                "outbox/relay/loop.py",
                "if self._stopping.is_set() else conf().POLL_SECONDS",
                "if self._stopping.is_set() else 3600.0",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_loop.py::TestTheLoop::test_polls_after_the_poll_interval",
        ),
    ),
    Mutant(
        name="batch-one-by-one",
        without="a batch whose worker died is sent again whole",
        edits=(
            Edit(
                "outbox/deliveries/decisions.py",
                "    fresh = [(id, token) for id, token, attempts in claimed if not attempts]\n",
                "    fresh = [(id, token) for id, token, attempts in claimed]\n    claimed = ()\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_dead_workers.py::TestAnEventThatKillsItsWorker"
            "::test_leaves_the_neighbours_in_a_second_message_alive",
            f"{OUTBOX}relay/test_passes.py::TestADeadWorker"
            "::test_costs_no_neighbour_an_attempt_when_the_batch_is_sent_again",
        ),
    ),
]

DELIVERY = [
    Mutant(
        name="receipt-in-the-transaction",
        without="the receipt is written after the transaction of the effects",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "        failpoints.reach(failpoints.BEFORE_RECEIPT)\n",
                "    failpoints.reach(failpoints.BEFORE_RECEIPT)\n    if True:\n",
            ),
        ),
        noticed_by=(
            MODEL,
            f"{OUTBOX}test_transactions.py::TestAHandlerWhoseProcessDies"
            "::test_before_the_commit_leaves_no_effect_and_is_repeated_once",
        ),
    ),
    Mutant(
        name="receipt-given",
        without="a handler that returns without its receipt has succeeded",
        edits=(Edit("outbox/worker/delivery.py", "    if not receipt.is_given:", "    if False:"),),
        noticed_by=(
            f"{OUTBOX}worker/test_delivery.py::TestAHandlerWithReceipt"
            "::test_has_failed_if_it_returns_without_its_receipt",
        ),
    ),
    Mutant(
        name="token-of-the-start",
        without="a message starts a delivery that has started since it was sent",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "row.started_token < token <= row.token",
                "row.started_token < row.token",
            ),
            Edit(
                "outbox/worker/start_sql.py",
                "%s BETWEEN started_token + 1 AND token",
                "%s > 0 AND started_token < token",
            ),
        ),
        noticed_by=(
            MODEL,
            f"{OUTBOX}worker/test_delivery.py::TestAMessage"
            "::test_is_ignored_if_its_delivery_has_started_since_and_was_sent_again",
        ),
    ),
    Mutant(
        name="late-message-starts",
        without="a message starts nothing once another one was sent",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "row.started_token < token <= row.token",
                "row.started_token < token == row.token",
            ),
            Edit(
                "outbox/worker/start_sql.py",
                "%s BETWEEN started_token + 1 AND token",
                "%s = token AND started_token < token",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_delivery.py::TestAMessage"
            "::test_runs_although_another_one_was_sent_since[False]",
            f"{OUTBOX}worker/test_delivery.py::TestAMessage"
            "::test_runs_although_another_one_was_sent_since[True]",
            f"{OUTBOX}relay/test_dispatch.py::TestASlowQueue"
            "::test_of_a_slow_broker_delivers_the_retries_of_many_handlers",
        ),
    ),
    Mutant(
        name="subscription-of-the-message",
        without="a message from before a crash starts a delivery of another handler",
        edits=(
            Edit("outbox/worker/start.py", 'AND {where}{whose}"', 'AND {where}"'),
            Edit(
                "outbox/worker/start.py", "return is_theirs and row.started", "return row.started"
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_lost_passes.py::TestAMessageOfAnotherDelivery"
            "::test_starts_no_delivery_of_another_subscription",
        ),
    ),
    Mutant(
        name="token-of-the-receipt",
        without="a run whose lease was lost writes its receipt all the same",
        edits=(
            Edit(
                "outbox/deliveries/lease.py",
                'HELD = f"{STARTED} AND {SENT}"',
                "HELD = f\"(%s <> -1 OR %s IS NULL OR %s = '') AND {SENT}\"",
            ),
        ),
        noticed_by=(
            MODEL,
            f"{OUTBOX}test_transactions.py::TestALostLease"
            "::test_rolls_back_a_handler_that_hides_it",
            f"{OUTBOX}worker/test_batch.py::TestALostToken"
            "::test_rolls_back_its_run_without_an_effect_on_its_neighbours",
        ),
    ),
    Mutant(
        name="token-of-the-failure",
        without="a late failure changes a delivery that is in other hands",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                '    rows = _same_start(delivery, using=using).select_related("subscription")\n',
                "    rows = _same(delivery, using=using)\n",
            ),
            Edit(
                "outbox/deliveries/settlement.py",
                "if row is None or isinstance(error, LeaseLost):",
                "if row is None:",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_transactions.py::TestALostLease"
            "::test_rolls_back_a_handler_that_hides_it",
        ),
    ),
    Mutant(
        name="start-marker",
        without="nobody remembers that a worker started",
        edits=(Edit("outbox/worker/start_sql.py", "SET started_token = token, ", "SET "),),
        noticed_by=(
            MODEL,
            f"{OUTBOX}worker/test_dead_workers.py::TestAnEventThatKillsItsWorker"
            "::test_ends_as_dead_and_leaves_its_neighbours_alive",
        ),
    ),
    Mutant(
        name="lock-of-the-start",
        without="two workers that have one message both look before either writes",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "WHERE {where}{locking(using=using, of=('d',))}",
                "WHERE {where}",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestAMessageThatTwoWorkersHave"
            "::test_is_started_by_one_of_them",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="start-once",
        without="a message that comes twice starts its deliveries twice",
        edits=(
            Edit(
                "outbox/worker/start_sql.py",
                "%s BETWEEN started_token + 1 AND token",
                "%s <= token",
            ),
            Edit(
                "outbox/worker/start.py",
                "row.started_token < token <= row.token",
                "token <= row.token",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestAMessageThatTwoWorkersHave"
            "::test_is_started_by_one_of_them",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="start-found-again",
        without="a start whose answer was lost is forgotten, and counts as a death",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "            self.is_doubtful = True\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_lost_answers.py::TestAStart::test_whose_answer_is_lost_is_recognised",
            f"{OUTBOX}deliveries/test_lost_answers.py::TestAStart::test_of_an_ordered_handler_is_recognised_too",
        ),
    ),
    Mutant(
        name="receipt-that-finds-nothing",
        without="a run whose lease was lost keeps what it did, without a receipt",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "    if given != len(deliveries):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_transactions.py::TestALostLease::test_rolls_back_an_atomic_handler",
        ),
    ),
    Mutant(
        name="pause-before-the-start",
        without="what was sent before a pause starts during it",
        edits=(
            Edit("outbox/worker/start_sql.py", "SELECT s.paused_at IS NULL AND ", "SELECT "),
            Edit(
                "outbox/worker/start.py",
                "    settlement.park([row for row in rows if row.subscription.paused_at]",
                "    paused_at = None\n    settlement.park([row for row in rows if paused_at]",
            ),
            Edit(
                "outbox/worker/start.py",
                "    rows = [row for row in rows if not row.subscription.paused_at]\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_transactions.py::TestAnOperationDuringARun"
            "::test_pause_lets_the_run_end_and_starts_no_other",
        ),
    ),
    Mutant(
        name="order-keys-are-completed",
        without="a killed `migrate` leaves deliveries of an ordered handler without an order key",
        edits=(
            Edit(
                "outbox/deliveries/sync.py",
                "if changes or _was_not_completed(handler, using=using):",
                "if changes:",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_concurrent_sync.py::TestAHandlerThatBecomesOrdered"
            "::test_is_completed_by_the_migrate_after_one_that_died",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="hand-back-under-the-token",
        without="an old worker hands back what another one has in hand",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "id__in=ids, token=token, started_token__lt=token, state=State.SENT",
                "id__in=ids",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_sync.py::TestARenamedHandler"
            "::test_gets_no_delivery_that_an_old_worker_still_handles",
        ),
    ),
    Mutant(
        name="transient-is-no-attempt",
        without="a locked database uses up attempts",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "        if excuse and is_excused(excuse, row, using=using):",
                "        if False:",
            ),
        ),
        noticed_by=(
            MODEL,
            f"{OUTBOX}worker/test_delivery.py::TestAnAtomicHandler"
            "::test_is_released_if_the_database_stays_locked",
        ),
    ),
    Mutant(
        name="breaker",
        without="failures of the other side open no breaker",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "if handler.breaker is not None and isinstance(error, handler.breaker.on):",
                "if False:",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_breaker.py::TestAnUnavailableBank"
            "::test_gets_one_probe_at_a_time_at_growing_intervals",
        ),
    ),
    Mutant(
        name="lost-probe-again",
        without="the next probe is another delivery than the one whose message is late",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "[self.lost_probe] if is_probe and self.lost_probe else self._due(limit)",
                "self._due(limit)",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_breaker.py::TestAnUnavailableBank"
            "::test_is_available_again_although_its_queue_takes_longer_than_a_lease",
        ),
    ),
    Mutant(
        name="breaker-before-the-start",
        without="what was sent before the breaker opened starts all the same",
        edits=(
            Edit("outbox/worker/start_sql.py", " AND s.breaker_opened_at IS NULL\n", "\n"),
            Edit(
                "outbox/worker/start.py",
                "held = {row.pk for row in rows if breaker.holds(row)}",
                "held: set[int] = set()",
            ),
            Edit("outbox/deliveries/lease.py", " OR s.breaker_opened_at IS NOT NULL)", ")"),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_breaker.py::TestAnUnavailableBank::test_gets_no_call_from_deliveries_that_were_in_flight",
        ),
    ),
    Mutant(
        name="order-of-upcasters",
        without="a chain of upcasters runs from its end",
        edits=(
            Edit(
                "outbox/contracts/upcasting.py",
                "for version in range(event.version, known.event_version):",
                "for version in reversed(range(event.version, known.event_version)):",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}contracts/test_upcasting.py::TestAnEventOfAnOlderRelease"
            "::test_is_read_through_each_step_of_the_chain",
        ),
    ),
    Mutant(
        name="second-look-of-prune",
        without="prune does not look again, under the lock, at owed deliveries",
        edits=(
            Edit(
                "outbox/retention/batches.py",
                "        locked -= "
                "{event for _, event, state in deliveries if state in Delivery.OWED}\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}operations/test_operations.py::TestPruneBesideSomeoneElse"
            "::test_keeps_events_that_have_just_become_owed",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="prune-beside-an-emitter",
        without="prune keeps its large batches while events are emitted",
        edits=(
            Edit(
                "outbox/retention/pace.py",
                "if newest != self._newest or self._is_work_due():",
                "if self._is_work_due():",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}retention/test_pace.py::TestAPruneBesideOthers::test_yields_to_an_emitter",
        ),
    ),
    Mutant(
        name="prune-beside-a-backlog",
        without="prune keeps its large batches while workers have deliveries",
        edits=(Edit("outbox/retention/pace.py", " or self._is_work_due():", ":"),),
        noticed_by=(
            f"{OUTBOX}retention/test_pace.py::TestAPruneBesideOthers::test_yields_to_a_backlog",
            f"{OUTBOX}retention/test_pace.py::TestAPruneBesideOthers"
            "::test_yields_to_deliveries_in_flight",
        ),
    ),
    Mutant(
        name="locks-of-pruned-deliveries",
        without="prune does not lock the deliveries whose states it looks at",
        edits=(
            Edit(
                "outbox/deliveries/locks.py",
                "rows.select_for_update().values_list(",
                "rows.values_list(",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}operations/test_operations.py::TestPruneBesideSomeoneElse"
            "::test_keeps_events_that_are_replayed_at_the_same_time",
            f"{OUTBOX}privacy/test_sensitive.py::TestRedactionDuring::test_a_replay_blanks_nothing",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="redaction-of-the-owed",
        without="an event is blanked although a handler still has to read it",
        edits=(
            Edit(
                "outbox/privacy/redaction.py",
                "if (event.seq in owed or event.fanned_out_at is None) and not force:",
                "if False:",
            ),
        ),
        noticed_by=(f"{OUTBOX}privacy/test_sensitive.py::TestRedaction::test_skips_owed_events",),
    ),
    Mutant(
        name="redaction-reads-under-the-lock",
        without="a redaction reads the deliveries before it has locked their events",
        edits=(
            Edit(
                "outbox/privacy/redaction.py",
                "        found = list(rows.select_for_update())\n",
                "        found = list(rows)\n",
            ),
        ),
        noticed_by=tuple(
            f"{OUTBOX}privacy/test_sensitive.py::TestRedactionDuring::test_{name}_blanks_nothing"
            for name in ("a_pass_of_the_relay", "a_backfill")
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="correction-reads-under-the-lock",
        without="a correction reads its event before it has locked the delivery",
        edits=(
            Edit(
                "outbox/operations/corrections.py",
                "    if rows.select_for_update().first() is None:\n",
                '    joined = rows.select_related("event", "subscription")\n'
                '    row = joined.select_for_update(of=("self",)).first()\n'
                "    if row is None:\n",
            ),
            Edit(
                "outbox/operations/corrections.py",
                '    row = rows.select_related("event", "subscription").get()\n',
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}privacy/test_sensitive.py::TestRedactionDuring"
            "::test_a_correction_keeps_blanked_fields_blank",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="place-in-the-projects-code",
        without="the place of a failure is the innermost line, the outbox's own included",
        edits=(
            Edit(
                "outbox/deliveries/attempts.py",
                "    return 2 if module.startswith(_PROCESS_ROOMS) else 1\n",
                "    return 0\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_places_of_failures.py::TestAnErrorOfTheDatabase"
            "::test_is_at_the_line_of_the_handler_that_caused_it",
            f"{OUTBOX}test_places_of_failures.py::TestAnErrorOfTheDatabase"
            "::test_has_a_separate_group_for_each_line",
        ),
    ),
    Mutant(
        name="deaths-that-came-back",
        without="a worker that comes back too late hides the death of one before it",
        edits=(
            Edit(
                "outbox/deliveries/attempts.py",
                "        .exclude(outcome=Attempt.Outcome.LEASE_LOST)\n",
                "",
            ),
            Edit(
                "outbox/deliveries/attempts.py",
                'in attempts.order_by("-id").values_list(',
                'in attempts.order_by("-id")[: row.attempts].values_list(',
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_passes.py::TestADeadWorker"
            "::test_counts_as_dead_although_it_returns_later",
        ),
    ),
]

SHARED_TRANSACTION = [
    Mutant(
        name="receipts-in-the-batchs-transaction",
        without="the receipts of many deliveries are written after the transaction of the effects",
        edits=(
            Edit(
                "outbox/worker/batch.py",
                "            failpoints.reach(failpoints.BEFORE_RECEIPT)\n"
                "            receipts.give(batch.deliveries, using=using)\n",
                "        if True:\n"
                "            failpoints.reach(failpoints.BEFORE_RECEIPT)\n"
                "            receipts.give(batch.deliveries, using=using)\n",
            ),
        ),
        noticed_by=(
            MODEL,
            f"{OUTBOX}worker/test_batch.py::TestAWorkerThatDies"
            "::test_leaves_all_or_no_effects_and_each_delivery_is_done_once",
        ),
    ),
    Mutant(
        name="count-of-a-batchs-receipts",
        without="nobody looks whether every delivery of a batch got its receipt",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "    if given != len(deliveries):\n",
                "    if not given:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_batch.py::TestALostToken"
            "::test_rolls_back_its_run_without_an_effect_on_its_neighbours",
        ),
    ),
    Mutant(
        name="failure-in-a-batch",
        without="a batch is kept although a call in it raised",
        edits=(
            Edit(
                "outbox/worker/batch.py",
                "            traced = _call(handler, call, callbacks, limit, using=using)\n",
                "            try:\n"
                "                traced = _call(handler, call, callbacks, limit, using=using)\n"
                "            except Exception:\n"
                "                break\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_batch.py::TestACallThatRaises"
            "::test_is_rolled_back_without_an_effect_on_its_neighbours",
        ),
    ),
    Mutant(
        name="bound-of-a-batch",
        without="a transaction takes further deliveries however old it is",
        edits=(
            Edit(
                "outbox/worker/batch.py",
                "            if now - began > MOST_SECONDS:\n",
                "            if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_batch.py::TestAMessage"
            "::test_is_delivered_in_several_transactions_if_it_takes_long",
        ),
    ),
]

ORDER = [
    Mutant(
        name="order-at-birth",
        without="an ordered handler's deliveries are all born pending, and start when they come",
        edits=(
            Edit("outbox/relay/fan_out.py", "    if is_behind:\n", "    if False:\n"),
            Edit(
                "outbox/worker/start.py",
                "    if behind:\n",
                "    behind = set()\n    if behind:\n",
            ),
        ),
        noticed_by=(
            MODEL,
            f"{OUTBOX}deliveries/test_ordering.py::TestAKey"
            "::test_is_handled_in_sequence_and_in_parallel_with_other_keys",
        ),
    ),
    Mutant(
        name="order-before-the-start",
        without="a worker does not ask whether it is a delivery's turn",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "    if behind:\n",
                "    behind = set()\n    if behind:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestTheCheckBeforeAStart"
            "::test_blocks_a_delivery_that_is_out_of_turn",
        ),
    ),
    Mutant(
        name="order-of-what-waits",
        without="an earlier event that waits for fan-out is overlooked",
        edits=(
            Edit(
                "outbox/deliveries/key_rows.py",
                "            for key, event, seq in self.waiting\n",
                "            for key, event, seq in ()\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestTwoRelays"
            "::test_keep_the_order_although_the_later_event_is_fanned_out_first",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="dead-head-holds",
        without="a dead delivery holds its key for nobody",
        edits=(
            Edit(
                "outbox/deliveries/key_rows.py",
                "for state in Delivery.OWED)",
                "for state in Delivery.OWED if state != Delivery.State.DEAD)",
            ),
        ),
        noticed_by=(
            MODEL,
            f"{OUTBOX}deliveries/test_ordering.py::TestADeadHead::test_blocks_its_key_until_a_person_retries_it",
        ),
    ),
    Mutant(
        name="dead-head-passes",
        without="a dead delivery holds its key although its handler says that it passes",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "return mine.filter(on_dead=Subscription.OnDead.PASS).exists()",
                "return False",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestADeadHead"
            "::test_lets_later_deliveries_pass_if_the_handler_allows_it",
        ),
    ),
    Mutant(
        name="second-look-at-the-blocked",
        without="nobody looks again at what is blocked",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "if self.work.has_blocked and ordering.recheck(",
                "if False and ordering.recheck(",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestTwoRelays"
            "::test_leave_no_delivery_blocked_that_is_created_while_the_head_commits",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="lock-of-the-key",
        without="two emitters of one key may get their `seq` in another order than they commit",
        edits=(
            Edit(
                "outbox/emission.py",
                'is_ordered_event(facts["name"]) and has_key_locks(connection)',
                "False",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestEmitters"
            "::test_of_one_key_wait_for_each_other_so_that_seq_follows_commit_order",
            f"{OUTBOX}deliveries/test_ordering.py::TestACorrectedEvent"
            "::test_gets_its_seq_after_an_open_transaction_that_emits_for_its_key",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="one-in-hand-per-key",
        without="a replay runs beside a later delivery of its key",
        edits=(
            Edit(
                "outbox/deliveries/ordering.py",
                " or running.get(ordered_key, row.pk) != row.pk\n",
                "\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestAReplay"
            "::test_does_not_run_during_a_later_delivery_of_its_key",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="lock-of-the-line",
        without="two starts of one line may miss each other",
        edits=(
            Edit(
                "outbox/deliveries/ordering.py",
                "    lock_ordered_keys(set(ordered_keys.values()), "
                "connection=connections[using])\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestAReplay"
            "::test_does_not_run_during_a_delivery_that_starts_at_the_same_time",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="release-after-a-failure",
        without="a delivery that fails and stays in its line releases nobody",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "    if ordered_key:\n        ordering.release(ordered_key, using=using)\n",
                "    if ordered_key and row.order_key is None:\n"
                "        ordering.release(ordered_key, using=using)\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestAReplay"
            "::test_continues_when_the_running_delivery_has_failed",
        ),
        database=POSTGRESQL,
    ),
]

ENGINE = [*RELAY, *DELIVERY, *SHARED_TRANSACTION, *ORDER]
