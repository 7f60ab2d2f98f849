"""The engine's safety parts against outages, and against silent servers and networks."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

OUTBOX = "tests/outbox/"
HELD_START = (
    f"{OUTBOX}worker/test_start.py::TestAStartWhoseAnswerIsLostAndWhoseHandlerIsHeldMeanwhile"
)
LOST_FAILURE = f"{OUTBOX}deliveries/test_lost_answers.py::TestAFailure"
DELAYED_KEY = f"{OUTBOX}relay/test_delayed.py::TestAnOrderedKey"

OUTAGES = [
    Mutant(
        name="own-death-withdrawn",
        without="a run that lost its lease through the database leaves its death recorded",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py", "    if excuse and death:\n", "    if False:\n"
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_silent_networks.py::TestASilentNetwork"
            "::test_that_heals_without_an_error_uses_up_no_attempt_of_the_message",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="hung-statement",
        without="a lease that passes while a statement hangs uses up an attempt",
        edits=(
            Edit(
                "outbox/deliveries/withdrawal.py",
                "return Outcome.DATABASE if has_hung else None",
                "return None",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_silent_networks.py::TestASilentNetwork"
            "::test_that_heals_without_an_error_uses_up_no_attempt_of_the_message",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="interrupted-statement",
        without="a time limit within a statement of the database uses up an attempt",
        edits=(
            Edit(
                "outbox/deliveries/withdrawal.py",
                " or is_interrupted_statement(error, using=using):",
                ":",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_silent_networks.py::TestAStatementThatTakesLong"
            "::test_and_is_interrupted_each_time_ends_as_dead",
            f"{OUTBOX}deliveries/test_frozen_database.py::TestAServerThatStandsStill"
            "::test_uses_up_no_attempt_of_an_atomic_handler",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="bound-of-withdrawals",
        without="deaths by lost connections are withdrawn without a bound",
        edits=(
            Edit(
                "outbox/deliveries/withdrawal.py",
                "    if not is_excused(excuse, row, using=using):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_withdrawal.py::TestACrashByALostConnectionWithoutAnOutage"
            "::test_is_withdrawn_only_a_few_times",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="ended-sessions",
        without="a session that PostgreSQL ends by a timeout uses up an attempt",
        edits=(Edit("outbox/deliveries/transient_errors.py", '    "25P03",\n', ""),),
        noticed_by=(
            f"{OUTBOX}deliveries/test_silent_networks.py::TestASessionThatPostgresqlEnds"
            "::test_uses_up_no_attempt",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="every-lost-connection",
        without="deaths are withdrawn after an outage that was waited for only",
        edits=(
            Edit(
                "outbox/deliveries/transient_errors.py",
                "        if seconds or is_lost:\n",
                "        if seconds:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_silent_networks.py::TestASilentNetwork"
            "::test_that_ends_by_a_reset_uses_up_no_attempt",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="own-timeouts",
        without="a statement_timeout that a handler sets counts as a lost connection",
        edits=(
            Edit(
                "outbox/deliveries/transient_errors.py",
                "    if state and not _ended_the_session(error):",
                "    if False:",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_outages.py::TestAnErrorOfTheDatabase"
            "::test_by_a_timeout_that_the_handler_has_set_is_an_ordinary_failure[SET]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="wait-given-up",
        without="a wait that is given up counts as the end of the outage",
        edits=(
            Edit(
                "outbox/deliveries/transient_errors.py",
                "            raise WaitGivenUp(",
                "            break\n            raise WaitGivenUp(",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_outages.py::TestALoopThatIsStoppedDuringAnOutage"
            "::test_stops_waiting",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="failed-step",
        without="a step after a lost connection that fails ends the message",
        edits=(
            Edit(
                "outbox/deliveries/transient_errors.py",
                '            logger.exception("A step after',
                '            raise\n            logger.exception("A step after',
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_failures_that_cannot_be_stored.py::TestAStepAfterALostConnectionThatFails"
            "::test_costs_no_delivery_of_the_message_an_attempt",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="failure-not-stored",
        without="a failure that cannot be stored ends the message",
        edits=(
            Edit(
                "outbox/worker/delivery.py",
                "return _not_stored(delivery, error, refused, lease=lease, using=access.using)",
                "raise",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_failures_that_cannot_be_stored.py::TestAFailureThatCannotBeStored"
            "::test_costs_its_neighbours_no_attempt",
            f"{OUTBOX}worker/test_failures_that_cannot_be_stored.py::TestAFailureThatCannotBeStored"
            "::test_for_a_full_disk_costs_its_neighbours_no_attempt",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="failure-not-stored-in-the-log",
        without="a failure that cannot be stored is an information in the log",
        edits=(
            Edit(
                "outbox/worker/outcome.py",
                "        return logging.ERROR\n",
                "        return logging.INFO\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_failures_that_cannot_be_stored.py::TestTheLogOfAFailureThatCannotBeStored"
            "::test_has_the_failure_its_cause_and_its_outcome",
        ),
    ),
    Mutant(
        name="dry-run-not-counted",
        without="a dry run counts as an attempt in /metrics and in the charts",
        edits=(Edit("outbox/operations/dry_run.py", "        is_counted=False,\n", ""),),
        noticed_by=(
            f"{OUTBOX}worker/test_outcome.py::TestTheCountsOfADelivery::test_leave_out_a_dry_run",
        ),
    ),
    Mutant(
        name="old-measurement",
        without="another thread's lost connection leaves no time of the database",
        edits=(
            Edit(
                "outbox/clock.py",
                "        _measured[using] = replace(known, at=-math.inf)\n",
                "        del _measured[using]\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_clock.py::TestTheMeasurement"
            "::test_that_is_discarded_is_used_until_the_next_one",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="lease-of-each-try",
        without="the lease of a start counts from before an outage",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "        self.until = clock.now(using=using) + self.lasts\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_start.py::TestAStartThatWaitsForTheDatabase"
            "::test_has_its_whole_lease_when_it_is_stored",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="outage-read-with-locks",
        without="a relay asks for outages before it locks what it judges",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "        rows = list(lapsed[:_LAPSED_PER_PASS])\n",
                "        rows = lapsed[:_LAPSED_PER_PASS]\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_withdrawal.py::TestARelayThatCountsACrashAtTheSameTime"
            "::test_uses_up_no_attempt",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="one-outage-a-thread",
        without="a short outage of one thread hides a long one of another",
        edits=(
            Edit(
                "outbox/deliveries/heartbeat.py",
                '    name = f"{own_name()}.{threading.get_native_id()}"\n',
                '    name = "database"\n',
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_outages.py::TestTheGraceAfterAnOutage"
            "::test_covers_leases_that_expired_in_the_longest_reported_outage",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="hung-pass",
        without="a relay judges leases that passed while its own statement hung",
        edits=(Edit("outbox/relay/passes.py", ">= HUNG_SECONDS:", ">= 1e9:"),),
        noticed_by=(
            f"{OUTBOX}relay/test_outages.py::TestTheGraceAfterAnOutage"
            "::test_begins_with_a_pass_whose_statement_hung",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="forks-beside-an-outage",
        without="no process forks while the relay waits for its database",
        edits=(
            Edit(
                "outbox/relay/loop.py",
                "(access.using):\n            try:\n                access.recover()\n",
                "():\n            try:\n                access.recover()\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_outages.py::TestAnOutageBesideASecondDatabaseOnSqlite"
            "::test_lets_the_process_fork",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="retried-since",
        without="a withdrawn death gives back an attempt that a person has given back",
        edits=(
            Edit(
                "outbox/deliveries/withdrawal.py",
                "    if not _was_retried_since(death, row, newer):\n",
                "    if row.attempts:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_withdrawal.py::TestACrashThatAPersonHasRetried"
            "::test_gives_back_no_attempt_of_the_present_run",
            f"{OUTBOX}deliveries/test_withdrawal.py::TestACrashThatAPersonHasRetried"
            "::test_gives_back_no_attempt_of_a_run_that_is_done",
            f"{OUTBOX}deliveries/test_withdrawal.py::TestACrashThatAPersonHasRetried"
            "::test_gives_back_no_attempt_of_a_run_that_failed",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="numbers-since",
        without="a withdrawn death leaves the numbers of later attempts",
        edits=(
            Edit(
                "outbox/deliveries/withdrawal.py",
                '        newer.update(number=F("number") - 1)\n',
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_withdrawal.py::TestACrashThatNobodyHasRetried"
            "::test_is_withdrawn_with_a_later_one",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="passed-by-a-later-event",
        without="a withdrawn death of a line that passed it is handled after a later event",
        edits=(
            Edit(
                "outbox/deliveries/withdrawal.py",
                "    if row.state == State.DEAD and _was_passed(row, using=using):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_withdrawal.py::TestAnOrderedHandlerThatLetsTheDeadPass"
            "::test_handles_no_earlier_event_after_a_later_one",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="unheld-is-locked",
        without="a lost lease is recorded for a delivery that is pruned at that moment",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                '    row = _same(delivery, using=using).select_for_update(of=("self",)).first()\n',
                "    row = _same(delivery, using=using).first()\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_withdrawal.py::TestARunThatLostItsDelivery"
            "::test_is_recorded_although_the_event_is_pruned_at_the_same_time",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="attempt-of-a-doubtful-start",
        without="a start whose answer is lost uses up an attempt although its handler is held",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "        this.give_back([row for row in rows if row.id not in ids], ",
                "        this.give_back([], ",
            ),
        ),
        noticed_by=(
            f"{HELD_START}::test_gives_the_attempt_back_if_the_handler_is_paused[True]",
            f"{HELD_START}::test_gives_the_attempt_back_if_the_handler_is_paused[False]",
            f"{HELD_START}::test_gives_the_attempt_back_if_the_breaker_opens[True]",
            f"{OUTBOX}worker/test_start.py::TestAStartWhoseAnswerIsLostOfAnOrderedKey"
            "::test_gives_the_attempt_back_if_it_is_out_of_turn_meanwhile",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="attempt-of-another-start",
        without="a delivery that must not start is given back an attempt of an earlier start",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "[row.pk for row in rows if self.has(row)]",
                "[row.pk for row in rows]",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_start.py::TestAHeldStartWhoseAnswerIsKnown"
            "::test_keeps_its_attempt",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="attempt-given-back-twice",
        without="a start whose answer is lost gives the attempt of a withdrawn death back again",
        edits=(
            Edit(
                "outbox/worker/start.py",
                " and is_mine and row.started_token == row.token\n",
                " and is_mine\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_start.py::TestAStartWhoseAnswerIsLostForLongerThanItsLease"
            "::test_gives_the_attempt_back_once_if_it_was_sent_again_to_a_paused_handler[True]",
            f"{OUTBOX}worker/test_start.py::TestAStartWhoseAnswerIsLostForLongerThanItsLease"
            "::test_gives_the_attempt_back_once_if_it_was_sent_again_to_a_paused_handler[False]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="newer-event-of-a-doubtful-start",
        without="a start whose answer is lost is kept, of an event that only a later release reads",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "        if note and this.has(row):\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}worker/test_start.py::TestAStartWhoseAnswerIsLostOfAnEventOfALaterRelease"
            "::test_is_released_although_the_handler_was_paused_briefly",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="failure-recorded-once",
        without="a failure whose COMMIT is not answered is recorded as a lost lease, too",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "mine.exclude(outcome=Outcome.DIED).exists()",
                "mine.filter(outcome__in=(Outcome.OUTAGE, Outcome.DATABASE)).exists()",
            ),
        ),
        noticed_by=(
            f"{LOST_FAILURE}::test_whose_answer_is_lost_is_recorded_once[ValueError-failed]",
            f"{LOST_FAILURE}::test_whose_answer_is_lost_is_recorded_once[PermanentFailure-refused]",
            f"{LOST_FAILURE}::test_after_a_lost_lease_whose_answer_is_lost_is_recorded_once",
        ),
    ),
    Mutant(
        name="pages-behind-a-locked-key",
        without="delayed events of a locked key keep all others waiting",
        edits=(
            Edit(
                "outbox/relay/delayed.py",
                "        if not locked or len(page) < room:\n",
                "        if True:\n",
            ),
        ),
        noticed_by=(
            f"{DELAYED_KEY}::test_delays_no_other_key_although_it_fills_a_pass[1]",
            f"{DELAYED_KEY}::test_delays_no_other_key_although_it_fills_a_pass[2]",
            f"{DELAYED_KEY}::test_of_an_unordered_event_does_not_wait",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="pause-after-a-wait",
        without="a start that waited for a row does not see a pause",
        edits=(Edit("outbox/worker/start.py", "{pk for (pk,) in found_held}", "set()"),),
        noticed_by=(
            f"{OUTBOX}operations/test_pause.py::TestAPause"
            "::test_holds_a_start_that_waits_for_the_lock_of_a_row[False]",
            f"{OUTBOX}operations/test_pause.py::TestABreakerThatOpens"
            "::test_holds_a_start_that_waits_for_the_lock_of_a_row",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="pause-after-a-wait-in-line",
        without="a start in a line that waited for a row does not see a pause",
        edits=(Edit("outbox/worker/start.py", "    _read_subscriptions(rows, using=using)\n", ""),),
        noticed_by=(
            f"{OUTBOX}operations/test_pause.py::TestAPause"
            "::test_holds_a_start_that_waits_for_the_lock_of_a_row[True]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="longest-bound",
        without="a lease of a month is more than PostgreSQL takes for a bound",
        edits=(
            Edit(
                "outbox/deliveries/statements.py",
                "min(int(seconds * 1000), _LONGEST_BOUND)",
                "int(seconds * 1000)",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_silent_networks.py::TestASessionThatPostgresqlEnds"
            "::test_is_possible_for_a_lease_of_a_month",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="limit-within-a-receipt",
        without="a handler that hangs within its receipt is never interrupted",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "            yield\n    finally:\n",
                "            limit.pause()\n            yield\n    finally:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_time_limit.py::TestAHandlerThatHangs"
            "::test_within_its_receipt_is_interrupted",
        ),
    ),
    Mutant(
        name="limit-after-a-receipt",
        without="a handler that hangs after its receipt is never interrupted",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "    finally:\n        limit.resume()\n",
                "    finally:\n        pass\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_time_limit.py::TestAHandlerThatHangs"
            "::test_after_its_receipt_is_interrupted_and_done",
            f"{OUTBOX}deliveries/test_time_limit.py::TestAHandlerThatHangs"
            "::test_after_its_receipt_failed_is_interrupted",
        ),
    ),
    Mutant(
        name="commit-not-interrupted",
        without="a time limit interrupts a COMMIT",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "        limit.pause()\n",
                "",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}deliveries/test_time_limit.py::TestAHandlerThatHangs"
            "::test_is_never_interrupted_while_its_receipt_commits",
        ),
    ),
    Mutant(
        name="bounds-of-the-lock-of-subscriptions",
        without="a host that is lost while it ends a handler stops all relays for two hours",
        edits=(
            Edit(
                "outbox/deliveries/locks.py",
                "    bound_transaction(_IDLE_SECONDS, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/outbox/deliveries/test_table_locks.py::TestTheLockOfSubscriptions"
            "::test_bounds_how_long_a_lost_host_keeps_it",
        ),
        database=POSTGRESQL,
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
            "tests/outbox/retention/test_retention.py::TestTheArchive::"
            "test_has_whole_lines_after_a_write_that_failed",
        ),
    ),
]
