"""Safety parts of settlements across services: none is lost, and none is reported too early."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

HERE = "tests/outbox/settlements/"
EXPECTING = f"{HERE}test_expecting.py::"
REPORTING = f"{HERE}test_reporting.py::"
RACES = f"{HERE}test_races.py::"

SETTLEMENTS = [
    Mutant(
        name="early-report",
        without="a report that arrives before the receipt is overwritten by the receipt",
        edits=(
            Edit(
                "outbox/settlements/expecting.py",
                "WHERE outbox_settlement.state <> 'settled'\n",
                "",
            ),
        ),
        noticed_by=(
            f"{EXPECTING}TestAReport::test_before_the_receipt_is_committed_is_kept",
            f"{RACES}TestAReportBesideTheReceipt::test_that_is_stored_within_the_run_is_kept",
        ),
    ),
    Mutant(
        name="late-report",
        without="a report that arrives after the deadline leaves the dead letter as it is",
        edits=(
            Edit(
                "outbox/settlements/recording.py",
                "for one in late if one.state == State.MISSING}",
                "for one in late if one.state == State.OPEN}",
            ),
        ),
        noticed_by=(f"{EXPECTING}TestADeadLetter::test_is_closed_by_a_late_report",),
    ),
    Mutant(
        name="duplicate-report",
        without="a report that came before the sink expected it, and comes again, is dropped",
        edits=(
            Edit(
                "outbox/settlements/recording.py",
                "    here = wanted.union(duplicates).difference(elsewhere)\n",
                "    here = wanted.difference(elsewhere)\n",
            ),
        ),
        noticed_by=(
            f"{HERE}test_duplicates.py::TestADuplicateReport::test_settles_a_missing_settlement",
        ),
    ),
    Mutant(
        name="report-beside-the-deadline",
        without="a report does not wait for the step that makes its delivery a dead letter",
        edits=(
            Edit(
                "outbox/settlements/recording.py",
                'rows.select_related("event", "subscription").select_for_update'
                '(of=("self",), no_key=True)',
                'rows.select_related("event", "subscription")',
            ),
        ),
        noticed_by=(
            f"{RACES}TestAReportBesideTheDeadline"
            "::test_that_begins_within_the_step_is_stored_after_it",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="relay-beside-settlements",
        without="a fault of the settlements stops the relay",
        edits=(
            Edit(
                "outbox/relay/passes.py",
                "            if is_transient(error, using=using):\n                raise\n"
                "            logger.exception(",
                "            raise\n            logger.exception(",
            ),
        ),
        noticed_by=(
            f"{EXPECTING}TestAMissedDeadline::test_stops_no_other_delivery_if_it_cannot_be_stored",
        ),
    ),
    Mutant(
        name="missing-settlement-holds-no-key",
        without="an event that a consumer does not settle holds the later events of its key",
        edits=(
            Edit(
                "outbox/settlements/overdue.py",
                "    # Without an order key: it was published",
                "    replays.join_queue(_delivery(row, using))\n"
                "    # Without an order key: it was published",
            ),
        ),
        noticed_by=(f"{EXPECTING}TestADeadLetter::test_does_not_hold_later_events_of_its_key",),
    ),
    Mutant(
        name="id-of-a-replay",
        without="after a dead letter of a missing settlement, a known deduplication id is sent",
        edits=(
            Edit(
                "outbox/models/deliveries.py",
                "PUBLISHED_BEFORE = (Outcome.REPLAYED, Outcome.UNSETTLED)",
                "PUBLISHED_BEFORE = (Outcome.REPLAYED,)",
            ),
        ),
        noticed_by=(f"{EXPECTING}TestADeadLetter::test_starts_again_with_a_retry",),
    ),
    Mutant(
        name="retention-of-settlements",
        without="an event is pruned although a consumer has not settled it",
        edits=(
            Edit(
                "outbox/retention/batches.py",
                ".filter(owed_delivery=None, settlement=None, report=None)",
                ".filter(owed_delivery=None)",
            ),
            Edit(
                "outbox/retention/batches.py",
                "        locked &= _without_open_settlements(id_of, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{RACES}TestRetention::test_waits_for_an_open_settlement",
            f"{RACES}TestRetention::test_waits_for_the_report_of_a_received_event",
        ),
    ),
    Mutant(
        name="report-after-fan-out",
        without="an event is reported as settled before its deliveries exist",
        edits=(
            Edit(
                "outbox/settlements/reporting.py",
                "            if is_owed or fanned_out_at is None:\n",
                "            if is_owed:\n",
            ),
        ),
        noticed_by=(f"{REPORTING}TestAnEventOfASource::test_is_settled_when_the_last_delivery_is",),
    ),
    Mutant(
        name="report-after-correction",
        without="an event is reported as settled while its corrected event is owed",
        edits=(
            Edit(
                "outbox/settlements/reporting.py",
                "for id, corrected in corrections if corrected}",
                "for id, corrected in corrections if False}",
            ),
        ),
        noticed_by=(
            f"{REPORTING}TestAnEventOfASource"
            "::test_whose_dead_delivery_is_corrected_waits_for_the_correction",
        ),
    ),
    Mutant(
        name="report-once",
        without="an event is reported as settled in each pass of the relay",
        edits=(
            Edit(
                "outbox/settlements/reporting.py",
                "        _mark(settled, now=now, using=using)\n",
                "",
            ),
        ),
        noticed_by=(f"{REPORTING}TestAnEventOfASource::test_is_reported_once",),
    ),
    Mutant(
        name="report-after-a-replay",
        without="a lost report is never repeated, whatever the other system requests",
        edits=(
            Edit(
                "outbox/settlements/reporting.py",
                "        if one.replay:\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(f"{REPORTING}TestARequestedReplay::test_is_reported_once_more",),
    ),
]
