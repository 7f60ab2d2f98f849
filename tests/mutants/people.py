"""The safety parts of deploys, and of operations on handlers and deliveries."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

OUTBOX = "tests/outbox/"
JOINING = "outbox/deliveries/joining.py"
JOINED = f"{OUTBOX}deliveries/test_sync.py::TestARenameThatIsRolledBack::"

JOINS = [
    Mutant(
        name="active-of-joined-names",
        without="two names of one handler become one that has ended, where either has",
        edits=(Edit(JOINING, "    if old.active:\n", "    if False:\n"),),
        noticed_by=(f"{JOINED}test_is_repeated_if_the_new_name_was_ended_meanwhile",),
    ),
    Mutant(
        name="pause-of-joined-names",
        without="the pause of a handler's former name is dropped",
        edits=(
            Edit(JOINING, "    if _weight_of_pause(old) > _weight_of_pause(row):", "    if False:"),
        ),
        noticed_by=(
            f"{JOINED}test_stays_paused_if_a_person_has_paused_either_name[tests.count]",
            f"{JOINED}test_prefers_a_pause_by_a_person_to_one_by_a_backfill",
        ),
    ),
    Mutant(
        name="breaker-of-joined-names",
        without="the open breaker of a handler's former name is dropped",
        edits=(Edit(JOINING, "        _copy(breaker.CLOSED, old, row)\n", ""),),
        noticed_by=(f"{JOINED}test_keeps_the_open_breaker_of_the_old_name",),
    ),
    Mutant(
        name="places-of-joined-names",
        without="what a handler's former name is owed gets no place in line",
        edits=(Edit(JOINING, "\n    set_order_keys(row, using=using)\n", "\n"),),
        noticed_by=(f"{JOINED}test_keeps_the_order_of_a_key_if_the_new_name_is_ordered",),
    ),
    Mutant(
        name="shares-of-joined-names",
        without="what a handler's former name is owed gets no share",
        edits=(Edit(JOINING, "\n    set_shares(row, using=using)\n", "\n"),),
        noticed_by=(f"{JOINED}test_stores_the_shares_of_deliveries_of_the_old_name",),
    ),
    Mutant(
        name="log-of-joined-names",
        without="the log says that two names are joined before that is committed",
        edits=(
            Edit(
                JOINING,
                "            transaction.on_commit(done, using=using)\n",
                "            done()\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_log_after_commit.py::TestAMergeOfTwoNames"
            "::test_is_not_logged_if_it_is_rolled_back",
        ),
    ),
    Mutant(
        name="pause-of-a-new-event",
        without="a paused handler runs for an event to which a deploy subscribes it",
        edits=(
            Edit(
                "outbox/deliveries/sync.py",
                "        _pause_like_the_others(row, rows, handler)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_sync.py::TestAPausedHandler"
            "::test_stays_paused_when_the_next_release_subscribes_it_to_another_event",
        ),
    ),
    Mutant(
        name="workers-before-the-table",
        without="a deploy that joins two names waits for a worker with the table locked",
        edits=(Edit(JOINING, "    _wait_for_workers((old, row), using=using)\n", ""),),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestADeploy"
            "::test_stops_no_relay_while_it_merges_two_names_and_waits_for_a_worker",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="one-handler-at-a-time",
        without="a deploy waits for one handler's workers with all subscriptions locked",
        edits=(
            Edit(
                "outbox/deliveries/sync.py",
                "        if changes or _was_not_completed(handler, using=using):\n",
                "        if False:\n",
            ),
        ),
        noticed_by=tuple(
            f"{OUTBOX}test_concurrency.py::TestADeploy"
            f"::test_stops_no_other_handler_while_it_waits_for_the_worker_of_one[change{number}]"
            for number in range(2)
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="short-tries-of-a-migration",
        without="emitters queue behind a migration that waits for the lock of their table",
        edits=(
            Edit(
                "outbox/schema.py",
                'lock_table(table, mode="ACCESS EXCLUSIVE", using=connection.alias)',
                "assert table",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_migrations_beside_orders.py::TestAMigrationBesideOrders"
            "::test_blocks_none_of_them",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="short-tries-for-the-table",
        without="relays queue behind a transaction that waits for the table of subscriptions",
        edits=(
            Edit(
                "outbox/deliveries/locks.py",
                '        cursor.execute(f"SET LOCAL lock_timeout = {int(seconds * 1000)}")\n',
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestASubscriptionThatEnds"
            "::test_stops_no_relay_while_it_waits_for_another_transaction",
        ),
        database=POSTGRESQL,
    ),
]

OPERATIONS = "outbox/operations/progress.py"
TEST_OPERATIONS = f"{OUTBOX}operations/test_progress.py::"

ACTIONS = [
    Mutant(
        name="action-begun-again",
        without="an action that was killed swallows a later one of the same choice",
        edits=(
            Edit(
                OPERATIONS, "            give_up(same, using=using)\n", "            return same\n"
            ),
        ),
        noticed_by=(
            f"{TEST_OPERATIONS}TestAnOperationThatIsKilled"
            "::test_is_begun_again_from_the_first_row[retry-pending]",
        ),
    ),
    Mutant(
        name="replay-begun-twice",
        without="a replay that was killed is begun again, and replays its first part twice",
        edits=(
            Edit(
                OPERATIONS,
                "            if action == Operation.Action.REPLAY:",
                "            if False:",
            ),
        ),
        noticed_by=(
            f"{TEST_OPERATIONS}TestAnOperationThatIsKilled"
            "::test_that_is_a_replay_is_not_begun_again",
            f"{OUTBOX}admin/test_actions.py::TestDiscardingAndReplaying"
            "::test_shows_an_error_if_the_same_replay_is_not_finished",
        ),
    ),
    Mutant(
        name="correction-discards",
        without="a corrected event is owed beside the one that it corrects",
        edits=(
            Edit(
                "outbox/operations/corrections.py",
                "        discard_locked(Delivery.objects.using(using).filter(pk=row.pk), by=by, "
                "reason=why)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{TEST_OPERATIONS}TestACorrection"
            "::test_discards_the_dead_delivery_whatever_else_is_unfinished",
        ),
    ),
    Mutant(
        name="clock-of-an-action",
        without="an action goes by the clock of the database that the router names",
        edits=(
            Edit(
                OPERATIONS,
                "row.finished_at = row.seen_at = clock.now(using=using)",
                "row.finished_at = row.seen_at = clock.now()",
            ),
        ),
        noticed_by=(
            f"{TEST_OPERATIONS}TestTheClock"
            "::test_is_that_of_the_database_that_the_action_is_about[end]",
        ),
    ),
]

GROUPS = [
    Mutant(
        name="overtaken-with-the-died",
        without="a retry of those whose workers died runs out of order what was overtaken",
        edits=(
            Edit(
                "outbox/operations/selection.py",
                "rows.exclude(state=Delivery.State.DEAD, ended__in=Attempt.EXCUSED)",
                "rows",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_overtaken_dead_letters.py::TestTheGroups"
            "::test_name_commands_that_change_only_the_group",
        ),
    ),
]

BACKFILLING = "outbox/operations/backfills.py"
BACKFILLS = f"{OUTBOX}operations/test_backfills.py::"

CORRECTIONS = f"{OUTBOX}operations/test_corrections.py::"

HOLDS = [
    Mutant(
        name="backfill-without-corrections",
        without="a backfill delivers a corrected event to a handler that has the original",
        edits=(
            Edit(
                BACKFILLING,
                "fanned_out_at__isnull=False, corrects=None)",
                "fanned_out_at__isnull=False)",
            ),
        ),
        noticed_by=(
            f"{CORRECTIONS}TestABackfillOfAnotherHandler::test_leaves_out_the_corrected_event",
            f"{CORRECTIONS}TestABackfillOfAnotherHandler"
            "::test_leaves_it_out_when_the_original_is_pruned",
            f"{CORRECTIONS}TestABackfillOfAnotherHandler"
            "::test_delivers_the_original_alone_to_a_later_handler[True]",
            f"{CORRECTIONS}TestABackfillOfAnotherHandler"
            "::test_is_not_refused_for_an_ordered_handler",
        ),
    ),
    Mutant(
        name="reconciliation-of-corrections",
        without="a reconciliation expects a delivery of a corrected event to each handler",
        edits=(Edit("outbox/invariants.py", "    events = events.filter(corrects=None)\n", ""),),
        noticed_by=(
            f"{CORRECTIONS}TestReconciliation::test_reports_no_handler_without_the_corrected_event",
        ),
    ),
    Mutant(
        name="corrections-without-delivery",
        without="a reconciliation overlooks a corrected event that has no delivery",
        edits=(
            Edit(
                "outbox/invariants.py",
                "    yield from _corrections_without_delivery(events)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{CORRECTIONS}TestReconciliation::test_reports_a_corrected_event_without_any_delivery",
        ),
    ),
    Mutant(
        name="duplicates-without-corrections",
        without="a corrected event counts as a second event of its key",
        edits=(Edit("outbox/reconciliation/__init__.py", ".filter(corrects=None)", ""),),
        noticed_by=(
            f"{CORRECTIONS}TestReconciliation::test_counts_no_correction_as_a_duplicate_event",
        ),
    ),
    Mutant(
        name="workers-of-a-backfill",
        without="an ordered backfill does not wait for what a worker has in hand",
        edits=(
            Edit(
                BACKFILLING,
                "            wait_while(self.hold.running, operation, report=report, "
                "using=self.using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{BACKFILLS}TestALaterEventThatIsInHand"
            "::test_is_waited_for_and_the_backfill_is_refused_if_it_is_handled",
        ),
        database=POSTGRESQL,
        hangs=True,
    ),
    Mutant(
        name="look-after-the-pause",
        without="an ordered backfill looks for later events only before it pauses the handler",
        edits=(
            Edit(BACKFILLING, "                self.refuse_disorder()\n", "                pass\n"),
        ),
        noticed_by=(
            f"{BACKFILLS}TestALaterEvent"
            "::test_that_is_handled_between_the_first_look_and_the_pause_is_found",
        ),
    ),
    Mutant(
        name="end-of-a-backfill",
        without="the handler is not resumed by the step that finishes its backfill",
        edits=(Edit(OPERATIONS, "        task.finish(row)\n", ""),),
        noticed_by=(
            f"{BACKFILLS}TestABackfillThatIsKilled"
            "::test_at_its_last_step_leaves_the_handler_paused_only_while_it_is_unfinished[after_step]",
        ),
    ),
    Mutant(
        name="pause-over-a-backfill",
        without="the end of a backfill ends the pause of a person or a rule",
        edits=(
            Edit(
                "outbox/deliveries/pauses.py",
                "rows.filter(Q(paused_at=None) | own)",
                "rows.filter(Q(paused_at=None) & ~own)",
            ),
        ),
        noticed_by=(
            f"{BACKFILLS}TestAPause::test_by_a_person_outlasts_the_backfill",
            f"{BACKFILLS}TestAPause::test_by_a_rule_outlasts_the_backfill",
        ),
    ),
    Mutant(
        name="resumed-during-a-backfill",
        without="a backfill goes on though its handler ran meanwhile",
        edits=(
            Edit(
                "outbox/deliveries/pauses.py",
                " or row.paused_at == operation.started_at",
                " or row.paused_at is not None",
            ),
        ),
        noticed_by=(f"{BACKFILLS}TestAPause::test_that_comes_after_a_resumption_does_not_hide_it",),
    ),
    Mutant(
        name="ended-during-a-backfill",
        without="the end of a backfill makes active what a person has ended",
        edits=(
            Edit(
                "outbox/operations/handlers.py",
                'paused_by, "", using, _NO_PAUSE)',
                'paused_by, "", using, {**_NO_PAUSE, "active": True})',
            ),
        ),
        noticed_by=(
            f"{BACKFILLS}TestAPause::test_of_a_handler_that_has_ended_meanwhile_leaves_it_ended",
        ),
    ),
    Mutant(
        name="held-by-a-backfill",
        without="a person resumes by mistake a handler whose backfill is not complete",
        edits=(
            Edit(
                "outbox/operations/handlers.py",
                "        if backfill is not None and not force:\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_held_handlers.py::TestResuming::test_is_refused_and_changes_nothing",
            f"{OUTBOX}test_held_handlers.py::TestResuming"
            "::test_is_also_refused_if_a_person_has_taken_over_the_pause",
        ),
    ),
    Mutant(
        name="locked-before-a-resumption",
        without="a resumption looks for a backfill before one that takes the pause over commits",
        edits=(
            Edit(
                "outbox/operations/handlers.py",
                'rows.order_by("pk").select_for_update(no_key=True)',
                'rows.order_by("pk")',
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_held_handlers.py::TestResuming"
            "::test_is_refused_if_a_backfill_takes_the_pause_over_at_the_same_time",
        ),
        database=POSTGRESQL,
    ),
]

BULK = "outbox/operations/bulk.py"
ORDERING = "outbox/deliveries/ordering.py"

LOCKS = [
    Mutant(
        name="locked-by-a-worker",
        without="an action waits for a worker's lock, and who waits for the table waits for it",
        edits=(Edit(BULK, 'of=("self",), skip_locked=True', 'of=("self",)'),),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestASubscriptionThatEnds"
            "::test_does_not_wait_for_another_one_whose_worker_is_in_its_receipt",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="before-what-is-locked",
        without="an action goes past what another transaction has locked, and leaves it out",
        edits=(Edit(BULK, "        if busy is not None:\n", "        if False:\n"),),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestAnOperation"
            "::test_stops_at_locked_rows_and_continues_when_they_are_free",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="two-discards-of-a-key",
        without="two that discard deliveries of one key wait for each other",
        edits=(
            Edit(
                ORDERING,
                'blocked.order_by("pk").select_for_update(skip_locked=True)',
                'blocked.order_by("pk").select_for_update()',
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestTwoTransactionsThatDiscardDeliveriesOfOneKey"
            "::test_do_not_wait_for_each_other",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="due-after-the-commit",
        without="what was locked when the head of its key was discarded waits for minutes",
        edits=(
            Edit(
                ORDERING,
                "        transaction.on_commit(partial(_release_each, keys, using=using), "
                "using=using, robust=True)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestTwoTransactionsThatDiscardDeliveriesOfOneKey"
            "::test_also_make_deliveries_due_that_a_relay_has_locked",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="old-tables",
        without="migrate skips tables from before the first release and reports success",
        edits=(
            Edit(
                "outbox/apps.py",
                "        pre_migrate.connect(refuse_old_tables, sender=self)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_old_tables.py::TestTablesFromBeforeTheFirstRelease"
            "::test_are_refused_in_one_sentence_and_stay_as_they_are",
        ),
    ),
    Mutant(
        name="reversal-that-loses",
        without="migrate back to an earlier migration deletes stored values without a word",
        edits=(
            Edit(
                "outbox/apps.py",
                "        pre_migrate.connect(refuse_losses, sender=self)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_migrations.py::TestAReversal"
            "::test_that_would_lose_the_values_of_a_column_is_refused_and_changes_nothing",
        ),
    ),
    Mutant(
        name="numbers-of-locks",
        without="during a deploy, two releases start two deliveries of one key at the same time",
        edits=(Edit("outbox/deliveries/key_locks.py", "person=kind)", 'person=b"v2" + kind)'),),
        noticed_by=(
            f"{OUTBOX}deliveries/test_key_locks.py::TestTheNumberOfALock"
            "::test_is_that_of_each_earlier_release",
        ),
    ),
]

PEOPLE: list[Mutant] = [*JOINS, *ACTIONS, *GROUPS, *HOLDS, *LOCKS]
