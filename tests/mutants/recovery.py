"""The engine's safety parts against interruptions, outages, failover and wrong clocks."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

OUTBOX = "tests/outbox/"

CONNECTIONS = [
    Mutant(
        name="connections-restored",
        without="a connection that a handler leaves in a transaction is used again",
        edits=(
            Edit(
                "outbox/deliveries/connections.py",
                "        if not was.is_open and (is_changed or is_interrupted):\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_connections.py::TestAnInterruptionWithinDjangosAtomic"
            "::test_leaves_a_handler_with_receipt_in_no_transaction",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="transaction-of-the-run-restored",
        without="what a handler leaves open within its own transaction stays open",
        edits=(
            Edit(
                "outbox/deliveries/connections.py",
                "        elif was.is_open and is_changed:\n",
                "        elif False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_connections.py::TestAnInterruptionWithinDjangosAtomic"
            "::test_leaves_an_atomic_handler_in_no_transaction",
            f"{OUTBOX}deliveries/test_connections.py::TestAnInterruptionWithinDjangosAtomic"
            "::test_leaves_a_batch_in_no_transaction",
            f"{OUTBOX}deliveries/test_connections.py::TestAHandlerThatLeavesATransactionOpen"
            "::test_has_failed_and_leaves_a_usable_connection",
        ),
    ),
]

OUTAGES = [
    Mutant(
        name="wait-for-the-database",
        without="a worker tries a few times to reach the database, and does not wait for it",
        edits=(
            Edit(
                "outbox/deliveries/transient_errors.py",
                "        seconds = wait_until_reachable(using=self.using, sleep=self._sleep)\n",
                "        seconds = 0.0\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_outages.py::TestAnOutage::test_before_the_start_delays_the_delivery",
            f"{OUTBOX}deliveries/test_outages.py::TestALeaseThatExpiresDuringAnOutage"
            "::test_uses_up_no_attempt_if_the_worker_survives",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="outage-is-no-attempt",
        without="a run that fails while the database cannot be reached uses up an attempt",
        edits=(Edit("outbox/deliveries/withdrawal.py", "    if is_outage:\n", "    if False:\n"),),
        noticed_by=(
            f"{OUTBOX}deliveries/test_outages.py::TestAnOutage"
            "::test_that_a_handler_hides_behind_another_error_uses_up_no_attempt",
            f"{OUTBOX}deliveries/test_outages.py::TestAnOutage::test_in_an_atomic_handler_uses_up_no_attempt",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="withdrawn-deaths",
        without="a worker that survives an outage stays dead in the books",
        edits=(
            Edit(
                "outbox/deliveries/withdrawal.py",
                "    access.after_reconnect(withdraw_now)\n",
                "    del withdraw_now\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_start.py::TestAStartWhoseAnswerIsLostForLongerThanItsLease"
            "::test_uses_up_no_attempt",
            f"{OUTBOX}worker/test_start.py::TestAStartWhoseAnswerIsLostForLongerThanItsLease"
            "::test_uses_up_no_attempt_of_an_ordered_handler",
            f"{OUTBOX}relay/test_outages.py::TestAnInlineDeliveryWhoseCommitIsNotAnswered"
            "::test_uses_up_no_attempt",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="grace-after-an-outage",
        without="relays judge leases as soon as the database is back",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "            elif outage is None or row.due_at < outage:\n",
                "            else:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_outages.py::TestALeaseThatExpiresDuringAnOutage"
            "::test_is_not_judged_while_workers_may_still_report",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="bound-of-database-errors",
        without="an error of the database never uses up an attempt",
        edits=(
            Edit(
                "outbox/deliveries/withdrawal.py",
                "count_since_retry(row, excuse, using=using) < _MAX_DATABASE_ERRORS",
                "count_since_retry(row, excuse, using=using) < 1000",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_delivery.py::TestAnAtomicHandler"
            "::test_has_failed_if_the_database_stays_locked_for_long",
        ),
    ),
    Mutant(
        name="whose-database-failed",
        without="an error of any database is taken for one of the outbox's",
        edits=(
            Edit(
                "outbox/deliveries/transient_errors.py",
                "    if database not in (using, None):\n        return False\n",
                "    database = using\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_outages.py::TestAnErrorOfTheDatabase"
            "::test_of_another_database_is_an_ordinary_failure",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="lease-between-tries",
        without="the lease is not renewed, nor looked at, before a run is tried again",
        edits=(
            Edit(
                "outbox/worker/delivery.py",
                "                return\n            lease.extend(delivery)\n",
                "                return\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_lost_answers.py::TestATransientErrorAfterALongRun"
            "::test_is_retried_with_a_whole_lease",
            f"{OUTBOX}deliveries/test_lost_answers.py::TestATransientErrorAfterALongRun"
            "::test_is_not_retried_if_another_worker_has_the_delivery",
        ),
        database=POSTGRESQL,
    ),
]

FAILOVER = [
    Mutant(
        name="start-of-the-receipt",
        without="a receipt names its delivery by id and token",
        edits=(
            Edit(
                "outbox/deliveries/lease.py",
                "started_token = token AND started_at = %s AND worker = %s",
                "(%s IS NULL OR %s <> '')",
            ),
        ),
        noticed_by=tuple(
            f"{OUTBOX}deliveries/test_failover.py::TestAWorkerWhoseEventWasLost"
            f"::test_settles_no_delivery_of_a_new_event_with_the_same_ids[{how}]"
            for how in ("gives its receipt", "extends")
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="start-of-the-failure",
        without="a failure names its delivery by id and token",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "        started_token=delivery.token,\n"
                "        started_at=delivery.started_at,\n"
                "        worker=delivery.worker,\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_failover.py::TestAWorkerWhoseEventWasLost"
            "::test_settles_no_delivery_of_a_new_event_with_the_same_ids[raises]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="event-of-the-failure",
        without="a lost lease is recorded with whichever delivery has the id now",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "rows.filter(pk=delivery.pk, event__id=delivery.event.id)",
                "rows.filter(pk=delivery.pk)",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_failover.py::TestAWorkerWhoseEventWasLost"
            "::test_settles_no_delivery_of_a_new_event_with_the_same_ids[raises]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="clock-of-the-database",
        without="each host goes by its own clock",
        edits=(
            Edit(
                "outbox/clock.py",
                '    return connections[using].vendor == "postgresql" and not _is_host_time\n',
                "    return False\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_clock.py::TestAHostWhoseClockIsAhead"
            "::test_declares_no_healthy_worker_dead",
            f"{OUTBOX}test_clock.py::TestAHostWhoseClockIsAhead"
            "::test_writes_shared_times_by_the_databases_clock",
        ),
        database=POSTGRESQL,
    ),
]

CALLBACKS = [
    Mutant(
        name="callbacks-guarded",
        without="an error in an on_commit callback is the delivery's",
        edits=(
            Edit(
                "outbox/worker/callbacks.py",
                "        if not is_its_own(self._connection):\n",
                "        if True:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_callbacks.py::TestACallbackThatRaises"
            "::test_does_not_prevent_other_callbacks_if_one_rolls_back_a_savepoint",
            f"{OUTBOX}worker/test_callbacks.py::TestACallbackThatHangs"
            "::test_is_interrupted_and_costs_no_neighbour_its_lease",
        ),
        hangs=True,
    ),
    Mutant(
        name="limit-of-callbacks",
        without="an on_commit callback runs for as long as it likes",
        edits=(
            Edit(
                "outbox/worker/callbacks.py",
                "with watch, unchanged_connections(), time_limit(self._handler.time_limit):",
                "with watch, unchanged_connections():",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_callbacks.py::TestACallbackThatHangs"
            "::test_is_interrupted_and_costs_no_neighbour_its_lease",
        ),
        hangs=True,
    ),
    Mutant(
        name="receipt-before-the-error",
        without="an error after the receipt is recorded as a lost lease",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "    if receipts.given_to([delivery], using=using):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_callbacks.py::TestAHandlerThatRaisesAfterItsReceipt"
            "::test_is_done_and_is_logged",
        ),
    ),
    Mutant(
        name="hidden-error-in-a-batch",
        without="a handler that hides the short wait of a batch has its fallback stored",
        edits=(
            Edit(
                "outbox/worker/batch.py",
                "            if is_own and connection.errors_occurred:\n",
                "            if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_batch.py::TestARowLockedByAnotherTransaction"
            "::test_is_waited_for_by_a_handler_that_would_hide_the_error",
        ),
        database=POSTGRESQL,
    ),
]

OTHERS = [
    Mutant(
        name="acknowledged-when-old",
        without="a message is acknowledged when it is done, however long that takes",
        edits=(
            Edit(
                "outbox/transports/celery_worker.py",
                "                request.acknowledge()\n",
                "                pass\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}transports/test_acknowledgement.py::TestARunningMessage"
            "::test_is_acknowledged_once_when_it_is_old",
        ),
    ),
    Mutant(
        name="bound-of-a-pass",
        without="PostgreSQL waits for a relay that has disappeared in the middle of a pass",
        edits=(
            Edit(
                "outbox/relay/backlog.py",
                "        *bounds(idle_seconds, using=using),\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/chaos/test_lost_hosts.py::TestAHostThatDisappears"
            "::test_in_a_pass_stops_no_other_relay",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="bound-of-a-run",
        without="PostgreSQL waits for a worker that has disappeared in the middle of a handler",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "        bound_transaction(handler.lease, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/chaos/test_lost_hosts.py::TestAHostThatDisappears"
            "::test_in_a_handler_leaves_its_delivery_to_another_worker",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="end-behind-every-pass",
        without="a subscription ends while a pass has read it as active",
        edits=(
            Edit(
                "outbox/operations/handlers.py",
                "            lock_subscriptions(using=using)  # a fan-out may have read them\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestASubscriptionThatEnds"
            "::test_gets_no_delivery_from_a_pass_that_had_read_it_as_active",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="replay-beside-an-end",
        without="a replay does not keep its subscriptions from ending",
        edits=(
            Edit(
                "outbox/operations/bulk.py",
                "        share_subscriptions(using=self.using)  # so that none of them ends\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestASubscriptionThatEnds::test_gets_no_delivery_from_a_replay",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="backfill-beside-an-end",
        without="a backfill does not keep its subscription from ending",
        edits=(
            Edit(
                "outbox/operations/backfills.py",
                "        share_subscriptions(using=self.using)  # so that none of them ends\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestASubscriptionThatEnds::test_gets_no_delivery_from_a_backfill",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="names-joined-for-good",
        without="two names of one handler keep both deliveries of an event",
        edits=(
            Edit(
                "outbox/deliveries/joining.py",
                "    moved.update(subscription=row)\n",
                "    kept = Delivery.objects.using(using).filter(subscription=row)\n"
                '    moved.exclude(event__in=kept.values("event")).update(subscription=row)\n',
            ),
            Edit("outbox/deliveries/joining.py", "\n    old.delete(using=using)\n", "\n"),
            Edit(
                "outbox/deliveries/joining.py",
                "    deliveries.filter(pk__in=dropped).delete()\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_sync.py::TestARenameThatIsRolledBack"
            "::test_repeats_no_delivery_when_it_is_deployed_again",
        ),
    ),
    Mutant(
        name="ordered-backfill-holds",
        without="an ordered handler runs while its backfill is not complete",
        edits=(
            Edit(
                "outbox/operations/backfills.py",
                "                self.hold.begin(operation)\n",
                "                pass\n",
            ),
            Edit(
                "outbox/operations/backfills.py",
                "        self.hold.refuse_resumed(operation)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestABackfill"
            "::test_holds_new_events_until_it_has_added_all_old_ones",
        ),
    ),
    Mutant(
        name="ordered-backfill-refused",
        without="a backfill delivers old events after new ones of their key",
        edits=(
            Edit(
                "outbox/operations/backfills.py",
                "        if not self.in_order:\n",
                "        if True:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_ordering.py::TestABackfill"
            "::test_is_refused_if_a_later_event_of_a_key_is_handled",
        ),
    ),
]

STATE = "worker/test_isolation.py::"
REPLICA = f"{OUTBOX}test_replica.py::"
ON_COMMIT = f"{OUTBOX}worker/test_callbacks.py::"

LEAKS = [
    Mutant(
        name="context-of-a-delivery",
        without="what a handler activates stays active in its worker",
        edits=(
            Edit(
                "outbox/worker/calls.py",
                "    returned = copy_context().run(handler.function, **arguments)\n",
                "    returned = handler.function(**arguments)\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}{STATE}TestTheContext::test_of_a_delivery_ends_with_it[batch-language]",
            f"{OUTBOX}{STATE}TestTheContext::test_of_a_handler_with_receipt_ends_with_it",
        ),
    ),
    Mutant(
        name="session-state-in-a-batch",
        without="what a delivery sets for its transaction is seen by the next one in its batch",
        edits=(
            Edit(
                "outbox/worker/batch.py",
                "            if watch.is_set:\n",
                "            if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}{STATE}TestTheDatabaseSession"
            "::test_with_state_makes_its_handler_run_one_by_one",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="session-state-that-lasts",
        without="a session keeps what a delivery has set",
        edits=(
            Edit("outbox/worker/delivery.py", "        watch.drop_changed()\n", "        pass\n"),
        ),
        noticed_by=(
            f"{OUTBOX}{STATE}TestTheDatabaseSession"
            "::test_of_a_delivery_is_not_used_by_the_next_one[alone-SET shop.tenant = 'acme']",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="session-state-in-any-statement",
        without="the watch of the session looks at the first word of a text only",
        edits=(
            Edit(
                "outbox/worker/session_sql.py",
                '        statements = PARTS.sub(" ", statements[0]).split(";")\n',
                "        pass\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}{STATE}TestTheDatabaseSession"
            "::test_is_discarded_wherever_the_statement_sets_state"
            "[SELECT 1; SET shop.tenant = 'acme']",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="session-state-of-a-rollback",
        without="a session keeps what a batch has set that was rolled back",
        edits=(Edit("outbox/worker/batch.py", "        watch.drop_changed()\n", "        pass\n"),),
        noticed_by=(
            f"{OUTBOX}{STATE}TestTheSessionOfAnotherDatabase"
            "::test_keeps_nothing_of_a_call_within_a_batch[True]",
            f"{OUTBOX}{STATE}TestTheSessionOfAnotherDatabase"
            "::test_holds_no_lock_that_outlasts_the_rollback_of_a_batch",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="session-of-a-new-connection",
        without="nobody watches a database that a handler is the first to use",
        edits=(
            Edit(
                "outbox/worker/calls.py",
                "in connections.all():  # the block",
                "in connections.all(initialized_only=True):  # the block",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}{STATE}TestTheSessionOfAnotherDatabase"
            "::test_keeps_nothing_of_the_first_delivery_that_uses_it",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="session-of-a-pool",
        without="a session with what a delivery has set goes back to its pool",
        edits=(
            Edit(
                "outbox/deliveries/connections.py", "        session.finish()\n", "        pass\n"
            ),
        ),
        noticed_by=(
            f"{OUTBOX}{STATE}TestASessionOfAPool::test_is_not_reused_with_its_state[pool]",
            f"{OUTBOX}{STATE}TestASessionOfAPool::test_is_not_reused_with_its_state[close-returns]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="context-of-a-callback",
        without="an on_commit callback runs in the worker's own context",
        edits=(
            Edit(
                "outbox/worker/callbacks.py",
                "                context.copy().run(_call, function, event)\n",
                "                _call(function, event)\n",
            ),
        ),
        noticed_by=(
            f"{ON_COMMIT}TestACallbackThatSetsState::test_leaves_the_context_unchanged[batch]",
            f"{ON_COMMIT}TestACallbackThatSetsState::test_leaves_the_context_unchanged[alone]",
            f"{ON_COMMIT}TestAnEventThatACallbackEmits"
            "::test_has_the_event_of_its_delivery_as_its_cause[batch]",
        ),
    ),
    Mutant(
        name="session-of-a-callback",
        without="a session keeps what an on_commit callback has set",
        edits=(
            Edit(
                "outbox/worker/callbacks.py",
                "            watch.drop_changed()\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{ON_COMMIT}TestACallbackThatSetsState::test_leaves_the_session_unchanged[batch]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="statements-that-are-no-str",
        without="the watch of the session takes each statement for a str",
        edits=(
            Edit(
                "outbox/worker/calls.py",
                "        scope = scope_of(sql, params, connection)\n",
                "        scope = scope_of(str(sql.lower()), params, connection)\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}{STATE}TestAStatementThatIsNotAStr::test_runs_as_without_the_outbox[batch-composed]",
            f"{OUTBOX}{STATE}TestAStatementThatIsNotAStr"
            "::test_runs_as_without_the_outbox[alone-composed]",
            f"{OUTBOX}{STATE}TestAStatementThatIsNotAStr"
            "::test_is_detected_if_it_sets_state_of_the_session[bytes]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="caches-after-a-rollback",
        without="a row that was rolled back stays in Django's caches",
        edits=(
            Edit(
                "outbox/worker/calls.py",
                '    if apps.is_installed("django.contrib.contenttypes"):\n',
                "    if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}{STATE}TestACacheOfRows::test_holds_no_row_that_was_rolled_back[batch]",
            f"{OUTBOX}{STATE}TestACacheOfRows::test_holds_no_row_that_was_rolled_back[alone]",
        ),
    ),
    Mutant(
        name="what-runs-nothing",
        without="a generator is registered as a handler",
        edits=(Edit("outbox/subscriptions.py", "    _refuse_generators(handler)\n", ""),),
        noticed_by=(f"{OUTBOX}test_checks.py::TestAFunction::test_must_not_be_a_generator",),
    ),
    Mutant(
        name="returned-coroutine",
        without="a handler that returns a coroutine is done",
        edits=(
            Edit(
                "outbox/worker/calls.py",
                "    if returned is not None and any(",
                "    if False and any(",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}{STATE}TestAHandlerThatReturnsACoroutineOrGenerator::test_has_failed[async_generator]",
        ),
    ),
    Mutant(
        name="storable-values",
        without="an event is stored with what PostgreSQL would refuse",
        edits=(
            Edit(
                "outbox/emission.py",
                "storable_payload(facts, lengths=_lengths())",
                "storable_payload(facts, lengths={})",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_emission.py::TestAValueThatNoDatabaseStores"
            "::test_includes_a_key_that_is_too_long",
        ),
    ),
    Mutant(
        name="signs-of-unstorable-values",
        without="the quick search of an event's JSON text finds NUL",
        edits=(Edit("outbox/storable.py", '_SIGNS = ("\\\\u0000", ', "_SIGNS = ("),),
        noticed_by=(
            f"{OUTBOX}test_emission.py::TestAValueThatNoDatabaseStores"
            "::test_is_refused_with_its_name",
        ),
    ),
    Mutant(
        name="green-pools",
        without="the outbox runs in a pool of greenlets",
        edits=(
            Edit(
                "outbox/transports/celery_worker.py",
                "        if kind in GREEN_POOLS and ours:\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}transports/test_pools.py::TestAGreenPool"
            "::test_is_refused_for_a_queue_of_the_outbox[depot-gevent]",
        ),
    ),
    Mutant(
        name="database-of-the-router",
        without="the relay, workers and commands look into the default database",
        edits=(
            Edit(
                "outbox/databases.py",
                '    return router.db_for_write(apps.get_model("outbox", "Event"))\n',
                '    return "default"\n',
            ),
        ),
        noticed_by=(
            "tests/chaos/test_router.py::TestAnOutboxInAnotherDatabase"
            "::test_is_relayed_delivered_and_examined_there",
        ),
    ),
    Mutant(
        name="level-of-isolation",
        without="the checks accept transactions that read old snapshots",
        edits=(
            Edit(
                "outbox/checks/settings.py",
                "    if given in (None, IsolationLevel.READ_COMMITTED):\n",
                "    if True:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_checks.py::TestPostgresql::test_must_not_read_old_snapshots[77-77]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="correction-of-a-replica",
        without="a correction reads the event that it corrects where the router says",
        edits=(
            Edit(
                "outbox/operations/corrections.py",
                '    row = rows.select_related("event", "subscription").get()\n',
                "    row = rows.get()\n",
            ),
        ),
        noticed_by=(
            f"{REPLICA}TestACorrection::test_stores_no_value_that_the_replica_has_not_redacted_yet",
            f"{REPLICA}TestAModuleThatDecidesOrStores::test_does_not_read_through_a_router",
        ),
    ),
    Mutant(
        name="archive-of-a-replica",
        without="an archive has the deliveries that a replica knows",
        edits=(
            Edit(
                "outbox/retention/archive.py",
                "    rows = with_numbers(Delivery.objects.using(using), ",
                "    rows = with_numbers(Delivery.objects.all(), ",
            ),
        ),
        noticed_by=(f"{REPLICA}TestAnArchive::test_has_the_deleted_deliveries_and_failures",),
    ),
    Mutant(
        name="columns-of-a-replica",
        without="a deferred column is read where the router says",
        edits=(
            Edit(
                "outbox/models/rows.py",
                "        using = using if using or from_queryset is not None else self._state.db\n",
                "",
            ),
        ),
        noticed_by=(
            f"{REPLICA}TestAModuleThatDecidesOrStores::test_does_not_read_through_a_router",
        ),
    ),
    Mutant(
        name="minutes-of-a-replica",
        without="what is counted is added in a transaction of the database that is read",
        edits=(
            Edit(
                "outbox/counting/minutes.py",
                "    rows = Minute.objects.using(using)\n    with transaction",
                "    rows = Minute.objects.all()\n    using = rows.db\n    with transaction",
            ),
        ),
        noticed_by=(f"{REPLICA}TestMinutes::test_are_added_in_a_transaction_of_the_primary",),
    ),
]

SHARES = [
    Mutant(
        name="share-window-of-a-backlog",
        without="one owner's backlog fills the window of a handler",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "        if self.row.share_window is None:\n            text = ",
                "        if True:\n            text = ",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_shares.py::TestAShare"
            "::test_has_a_limited_number_in_flight_and_delays_no_other_share[backlog]",
        ),
    ),
    Mutant(
        name="share-window-of-new-events",
        without="one owner's new events fill the window of a handler",
        edits=(
            Edit(
                "outbox/relay/fan_out.py",
                "            pending = [one for one in pending if "
                "subscription_pass.has_share(one.share)]\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_shares.py::TestAShare"
            "::test_has_a_limited_number_in_flight_and_delays_no_other_share[new events]",
        ),
    ),
    Mutant(
        name="room-of-each-share",
        without="a share with one free place uses up the limit of a pass",
        edits=(
            Edit(
                "outbox/deliveries/shares.py",
                "[0, 1]\n    while levels[-1] < most:",
                "[0, most]\n    while levels[-1] < most:",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_shares.py::TestAShare"
            "::test_is_sent_its_next_delivery_whichever_ends_first",
        ),
    ),
    Mutant(
        name="messages-of-one-share",
        without="a message holds deliveries of several shares, which wait for each other",
        edits=(Edit("outbox/relay/dispatch.py", "self.share_of.get(one[0])", "None"),),
        noticed_by=(
            f"{OUTBOX}deliveries/test_shares.py::TestAShare"
            "::test_has_separate_messages[new events]",
        ),
    ),
    Mutant(
        name="turn-of-each-share",
        without="each pass begins with the same share",
        edits=(
            Edit(
                "outbox/deliveries/shares.py",
                '    start = _stopped_at.get((using, row.pk), "")\n',
                '    start = ""\n',
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_shares.py::TestAShare"
            "::test_gets_its_turn_if_there_are_more_shares_than_the_window_holds",
        ),
    ),
    Mutant(
        name="share-of-a-webhooks-owner",
        without="one customer's slow receivers occupy every worker of the webhooks",
        edits=(
            Edit(
                "webhooks/handlers.py",
                "    share_window=sending.MOST_OF_ONE_OWNER,\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/chaos/test_slow_receivers.py::TestACustomerWhoseReceiversHang"
            "::test_does_not_delay_the_webhooks_of_others",
        ),
    ),
]

RECOVERY = [*CONNECTIONS, *OUTAGES, *FAILOVER, *CALLBACKS, *OTHERS, *LEAKS, *SHARES]
