"""The removal of days: what is closed, what stays, and whom it waits for."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

RETENTION = "tests/outbox/retention/"
WHOLE = f"{RETENTION}test_whole_days.py::"
BESIDE = f"{RETENTION}test_days_beside_others.py::"
INTERRUPTED = f"{RETENTION}test_interrupted_days.py::"
RUNS = f"{RETENTION}test_runs_of_days.py::"
TRANSACTIONS = f"{RETENTION}test_days_and_transactions.py::"
KEPT = f"{RETENTION}test_days_that_are_kept.py::"
DAYS = "outbox/retention/whole_days.py"
ONE_DAY = "outbox/retention/one_day.py"
RECORD = "outbox/retention/record.py"
SLICES = "outbox/retention/slices.py"
DROPPING = "outbox/partitions/dropping.py"
COPIES = "outbox/partitions/copies.py"
STAYING = "outbox/retention/staying.py"
EMPTYING = "outbox/partitions/emptying.py"


def _mutant(name: str, without: str, edit: Edit, *noticed_by: str, hangs: bool = False) -> Mutant:
    return Mutant(
        name=name,
        without=without,
        edits=(edit,),
        noticed_by=noticed_by,
        database=POSTGRESQL,
        hangs=hangs,
    )


PAST_DAYS: list[Mutant] = [
    _mutant(
        "present-day",
        "the partition of the present day is dropped when it is empty",
        Edit(
            "outbox/partitions/past.py",
            "    return [day for day in days if day.high - 1 <= last]\n",
            "    return [day for day in days if last]\n",
        ),
        f"{WHOLE}TestThePresentDay::test_is_never_emptied_or_dropped",
    ),
    _mutant(
        "writers-of-a-past-day",
        "a day is closed while a transaction may still store one of its events",
        Edit(
            DAYS,
            "        if not has_no_writers(day, until=until, using=self._using):\n",
            "        if until < 0:\n",
        ),
        f"{BESIDE}TestALongTransaction::test_that_has_stored_an_event_of_the_day_is_waited_for",
    ),
    _mutant(
        "replays-before-a-day-is-closed",
        "a day is closed while a replay of its deliveries is in progress",
        Edit(
            DAYS,
            "            lock_subscriptions(using=self._using, tries=self._tries)\n",
            "",
        ),
        f"{BESIDE}TestAReplay::test_that_has_begun_before_is_waited_for_and_its_event_stays",
    ),
    _mutant(
        "replay-of-a-closed-day",
        "a replay begins with deliveries of a day that is being removed",
        Edit(
            "outbox/operations/bulk.py",
            "        chosen(Action.REPLAY, choice, using=using)\n    ).exists():\n",
            "        chosen(Action.REPLAY, choice, using=using)\n    ).exists() and False:\n",
        ),
        f"{BESIDE}TestAReplay::test_of_a_closed_day_is_refused_and_writes_nothing",
        hangs=True,  # the replay waits for the removal, and the test for the replay
    ),
    _mutant(
        "step-of-a-replay-of-a-closed-day",
        "a replay that has begun before makes deliveries of a closed day owed again",
        Edit(
            "outbox/operations/bulk.py",
            "        return set(_pks(day.of_deliveries(rows))) if day else set()\n",
            "        return set()\n",
        ),
        f"{BESIDE}TestAReplay::test_that_is_carried_out_stops_before_a_closed_day",
    ),
    _mutant(
        "step-of-a-backfill-of-a-closed-day",
        "a backfill that has begun before adds deliveries to events of a closed day",
        Edit(
            "outbox/operations/backfills.py",
            "takewhile(lambda seq: not day.covers(seq), pks)",
            "takewhile(lambda seq: seq or day, pks)",
        ),
        f"{BESIDE}TestABackfill::test_that_is_carried_out_stops_before_a_closed_day",
    ),
    _mutant(
        "owed-under-the-locks-of-a-day",
        "a delivery that has become owed since the day was examined is removed",
        Edit(
            EMPTYING,
            "    staying = {*kept, *owed_in(day, using=using, further=further)}\n",
            "    staying = {*kept}\n",
        ),
        f"{BESIDE}TestADeliveryThatBecomesOwed::test_is_found_under_the_locks",
    ),
    _mutant(
        "copies-under-the-locks-of-a-day",
        "thousands of rows are copied while relays wait",
        Edit(EMPTYING, "    if len(seqs) > MOST_EVENTS:\n", "    if len(seqs) < 0:\n"),
        f"{WHOLE}TestAnEvent::test_stays_with_others_if_too_many_would_have_to_be_copied",
    ),
    _mutant(
        "settlements-of-a-day",
        "an event is removed whose settlement a consumer owes",
        Edit(STAYING, "WHERE s.state = 'open'", "WHERE s.state = ''"),
        f"{WHOLE}TestAnEvent::test_stays_while_a_settlement_is_open",
    ),
    _mutant(
        "retention-of-each-event",
        "an event is removed that is younger than the later ones of its day",
        Edit(STAYING, "h.before IS NULL OR e.emitted_at >= h.before", "h.before IS NULL"),
        f"{WHOLE}TestAnEvent::test_stays_if_it_is_younger_than_later_ones",
    ),
    _mutant(
        "retention-raised-meanwhile",
        "the removal of a day goes on after its retention was raised",
        Edit(RECORD, " and at <= self.horizons[name]\n", " and at\n"),
        f"{WHOLE}TestARetentionThatIsRaised::test_reopens_the_day_that_is_being_removed",
    ),
    _mutant(
        "archive-set-meanwhile",
        "the archive lacks the events of a day whose removal began without one",
        Edit(RECORD, "self.archive == other.archive and all(", "all("),
        f"{WHOLE}TestAnArchive::test_that_is_set_while_a_day_is_closed_has_all_its_events",
    ),
    _mutant(
        "rows-of-a-closed-day",
        "pruning row by row removes events of a day that is being removed",
        Edit(
            "outbox/retention/batches.py",
            "    day = closed_day(using=using)\n",
            "    day = None\n",
        ),
        f"{RUNS}TestPruningRowByRow::test_leaves_the_events_of_a_day_that_was_closed_meanwhile",
    ),
    _mutant(
        "horizon-before-a-day",
        "events of a day are missing before the horizon says so",
        Edit(
            "outbox/retention/__init__.py",
            "        _remember_horizon(max(ages.values()), using=using)\n",
            "        pass\n",
        ),
        f"{WHOLE}TestAPastDay::test_has_a_horizon_before_any_event_is_missing",
    ),
    _mutant(
        "rows-added-to-a-closed-day",
        "a settlement that is reported again has no delivery",
        Edit(
            ONE_DAY,
            "            rest = sweep(left[0], using=self._using)\n",
            "            rest = None\n",
        ),
        f"{BESIDE}TestAReportOfASettlement::test_that_arrives_again_for_a_closed_event_leaves_no_row",
    ),
    _mutant(
        "locks-before-a-snapshot",
        "reconciliation misses all events of a day that is emptied meanwhile",
        Edit(
            "outbox/reconciliation/examination.py",
            "                    cursor.execute(_LOCK)\n",
            "                    cursor.execute('SELECT 1')\n",
        ),
        f"{BESIDE}TestAReconciliation::test_keeps_its_rows_until_its_end",
    ),
    _mutant(
        "interrupted-detach",
        "a partition whose removal was interrupted prevents all later ones",
        Edit(
            "outbox/partitions/dropping.py",
            'how = "FINALIZE" if is_pending else "CONCURRENTLY"',
            'how = "CONCURRENTLY"',
        ),
        f"{INTERRUPTED}TestARemovalThatIsKilled::test_within_detach_is_finished_by_the_next_run",
    ),
    _mutant(
        "rows-of-a-detached-table",
        "a table is dropped that has rows",
        Edit(
            "outbox/partitions/dropping.py",
            "        if _has_rows(name, using=using):\n",
            "        if not name:\n",
        ),
        f"{INTERRUPTED}TestATableThatHasRowsAfterItWasDetached::test_is_kept_and_logged",
    ),
    _mutant(
        "run-of-a-removal",
        "two runs remove a day, and each forgets what the other one has found",
        Edit(
            RECORD,
            "        if row is None or row.choice[RUN] != self._run:\n",
            "        if row is None:\n",
        ),
        f"{RUNS}TestTwoRunsWithTheSameAges"
        "::test_of_which_the_first_seemed_dead_and_the_second_has_not_ended",
    ),
    _mutant(
        "lease-of-a-removal",
        "a run takes the removal of one that is alive",
        Edit(
            RECORD,
            "        if self.choice[RUN] and unseen < LEASE:\n",
            "        if not self.choice and unseen < LEASE:\n",
        ),
        f"{RUNS}TestTwoRunsWithTheSameAges::test_of_which_one_removes_the_day",
    ),
    _mutant(
        "ages-of-a-removal",
        "a run continues a removal by its own ages, of which the next one knows nothing",
        Edit(
            ONE_DAY,
            "slice_of(day, operation.cursor, ages,",
            "slice_of(day, operation.cursor, dict.fromkeys(ages, max(ages.values())),",
        ),
        f"{RUNS}TestARunWithShorterAges::test_continues_by_the_ages_of_the_first_one",
    ),
    _mutant(
        "removal-that-nobody-continues",
        "a day stays closed for ever if no run has the ages of its removal",
        Edit(RECORD, "        elif unseen > STALE:\n", "        elif unseen < -STALE:\n"),
        f"{RUNS}TestARunWithLongerAges::test_opens_a_day_again_that_nobody_has_continued_for_long",
    ),
    _mutant(
        "removal-that-is-held-up",
        "one session that is idle keeps a day closed, and all other days from being removed",
        Edit(
            ONE_DAY,
            "            if self._record.is_held_up():\n",
            "            if not self._record.is_held_up:\n",
        ),
        f"{RUNS}TestARemovalThatOthersHoldUp::test_is_given_up_after_an_hour_and_pruned_row_by_row",
    ),
    _mutant(
        "frozen-rows-of-a-day",
        "a dump that began before a day was emptied lacks the owed rows",
        Edit(COPIES, "(FORMAT binary, FREEZE)", "(FORMAT binary)"),
        f"{TRANSACTIONS}TestAnOlderSnapshot::"
        "test_that_reads_the_day_afterwards_sees_the_rows_that_stay",
    ),
    _mutant(
        "limit-of-detach",
        "a run waits as long as any transaction uses the tables",
        Edit(DROPPING, "    canceller.start()\n", "    has_ended.set()\n    canceller.start()\n"),
        f"{TRANSACTIONS}TestATransactionThatUsesTheTables::"
        "test_does_not_delay_a_run_that_detaches_a_partition",
        hangs=True,
    ),
    _mutant(
        "writers-one-after-the-other",
        "beside steady transactions no day is ever removed",
        Edit(
            "outbox/partitions/past.py",
            "        known = _writers.get(key, holding)\n",
            "        known = holding\n",
        ),
        f"{TRANSACTIONS}TestTransactionsThatMayHaveStoredAnEvent::"
        "test_are_waited_for_once_and_later_ones_are_not",
    ),
    _mutant(
        "settlements-under-the-locks-of-a-day",
        "an event is removed whose settlement was opened while its day was removed",
        Edit(ONE_DAY, "            further=unsettled_in(day),\n", "            further=(),\n"),
        f"{TRANSACTIONS}TestAnOverdueSettlement::"
        "test_that_is_opened_while_its_day_is_removed_keeps_its_event",
    ),
    _mutant(
        "keys-of-removed-events",
        "deduplication keys of removed events stay, by millions a day",
        Edit(
            SLICES,
            " for table in _OF_EVENTS]\n",
            " for table in _OF_EVENTS if table[-3:] != 'key']\n",
        ),
        f"{RUNS}TestRowsThatRemovedEventsHaveLeft::test_are_their_deduplication_keys_and_no_others",
    ),
    _mutant(
        "days-take-all-the-time",
        "other events are not pruned while a day is archived for hours",
        Edit(
            "outbox/retention/__init__.py",
            "        ages, end = _remembered(older_than, using=using), time.monotonic() + share\n",
            "        ages, end = _remembered(older_than, using=using), until\n",
        ),
        f"{RUNS}TestPruningRowByRow::test_goes_on_while_the_removal_of_a_day_takes_long",
    ),
    _mutant(
        "first-partition",
        "after `flush`, each emit fails until a relay lets the sequence jump",
        Edit(DROPPING, "        if not 0 < day.low < today:\n", "        if day.low >= today:\n"),
        f"{KEPT}TestTheFirstPartition::test_is_emptied_and_never_dropped",
    ),
    _mutant(
        "partitions-that-are-created-again",
        "after the clock was ahead, pruning drops partitions that relays create again, in turns",
        Edit(DROPPING, "        if not 0 < day.low < today:\n", "        if day.low == 0:\n"),
        f"{KEPT}TestAClock::test_that_was_ahead_lets_no_partition_be_dropped_that_is_created_again",
    ),
    _mutant(
        "reader-of-the-sequence-who-prunes",
        "pruning fails if its role may not read the last number",
        Edit(
            DAYS,
            "    return is_partitioned(using=using) and may_read_last(using=using)\n",
            "    return is_partitioned(using=using)\n",
        ),
        f"{KEPT}TestARoleThatMayNotReadTheSequence::test_prunes_row_by_row",
    ),
    _mutant(
        "subscribers-of-a-day",
        "subscribers of a publication keep the rows of removed days",
        Edit(
            "outbox/partitions/past.py",
            "            if one.has_changes:",
            "            if one.has_changes and not leaf:",
        ),
        f"{KEPT}TestAPublication::"
        "test_that_is_created_while_a_day_is_closed_lets_it_be_opened_again",
    ),
    _mutant(
        "foreign-key-to-a-day",
        "a foreign key to the events ends each run of pruning",
        Edit(
            "outbox/partitions/past.py",
            "            for name, other in foreign_keys_to(table, using=using):",
            "            for name, other in foreign_keys_to(table, using=using)[:0]:",
        ),
        f"{KEPT}TestAForeignKey::test_to_the_events_lets_the_day_be_pruned_row_by_row",
    ),
    _mutant(
        "removal-that-has-emptied-its-day",
        "attempts of removed events stay, and no redaction finds them",
        Edit(
            "outbox/operations/resumption.py",
            "        if operation.choice.get(STEP) == SWEEPING:\n",
            "        if operation.pk is None:\n",
        ),
        f"{INTERRUPTED}TestARemovalThatIsKilled::test_that_has_emptied_the_day_cannot_be_given_up",
    ),
    _mutant(
        "maintenance-of-a-day",
        "an autovacuum of the day keeps it closed, and its partition is never emptied",
        Edit(EMPTYING, "IN SHARE UPDATE EXCLUSIVE MODE", "IN ACCESS SHARE MODE"),
        f"{BESIDE}TestMaintenance::test_of_the_day_is_waited_for_without_blocking_others",
    ),
    Mutant(
        name="half-a-member-of-an-archive",
        without="after the disk was full, a file of the archive ends in half a batch",
        edits=(
            Edit(
                "outbox/retention/archive.py",
                "    with closing(archive):\n        yield archive\n        archive.finish()\n",
                "    try:\n        yield archive\n    finally:\n        archive.finish()\n"
                "        archive.close()\n",
            ),
        ),
        noticed_by=(
            f"{RETENTION}test_retention.py::TestTheArchive::"
            "test_has_whole_lines_after_a_write_that_failed",
        ),
    ),
]
