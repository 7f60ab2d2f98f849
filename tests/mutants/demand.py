"""The wanted number of workers."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

FILE = "outbox/monitor/demand.py"
TESTS = "tests/outbox/monitor/test_demand.py::"
UNSERVED = "outbox/monitor/unserved.py"
TESTS_OF_UNSERVED = "tests/outbox/monitor/test_unserved.py::"

DEMAND = [
    Mutant(
        name="workers-for-one-delivery",
        without="an autoscaler starts no worker for a few quick deliveries",
        edits=(Edit(FILE, "max(1, ceil(round(processes, 6)))", "ceil(round(processes, 6))"),),
        noticed_by=(f"{TESTS}TestTheWantedNumber::test_is_one_for_a_single_quick_delivery",),
    ),
    Mutant(
        name="workers-of-deliveries-in-flight",
        without="an autoscaler stops the last worker while its deliveries are in flight",
        edits=(Edit(FILE, "int(row.in_flight + waiting)", "int(waiting)"),),
        noticed_by=(f"{TESTS}TestTheWantedNumber::test_counts_deliveries_in_flight",),
    ),
    Mutant(
        name="workers-of-a-paused-handler",
        without="an autoscaler runs workers for deliveries of a paused handler",
        edits=(Edit(FILE, "    if row.is_held:\n        waiting = 0\n    elif", "    if"),),
        noticed_by=(
            f"{TESTS}TestADeliveryThatNoWorkerMayRun"
            "::test_does_not_count_from_the_pause_of_its_handler_on",
        ),
    ),
    Mutant(
        name="workers-beyond-the-window",
        without="an autoscaler starts more workers than the window of a handler lets run",
        edits=(Edit(FILE, "min(number * mean / target, most)", "number * mean / target"),),
        noticed_by=(
            f"{TESTS}TestTheWantedNumber::test_is_limited_by_the_window_of_each_handler",
            f"{TESTS}TestTheWantedNumber::test_is_limited_by_the_batches_of_a_bulk_handler",
        ),
    ),
    Mutant(
        name="queue-without-a-worker",
        without="a queue with due deliveries and without a worker is not reported",
        edits=(
            Edit(
                UNSERVED,
                "without - always - overdue_queues(using=using)",
                "without - always",
            ),
        ),
        noticed_by=(
            f"{TESTS_OF_UNSERVED}TestTheReports"
            "::test_name_a_queue_without_a_worker_for_which_a_delivery_waits",
        ),
    ),
    Mutant(
        name="message-that-no-worker-starts",
        without="a queue without a worker is not reported if the leases of its handlers are short",
        edits=(Edit(UNSERVED, "row.sent_due_at - leases", "row.sent_due_at"),),
        noticed_by=(
            f"{TESTS_OF_UNSERVED}TestADeliveryThatWaitsForAWorker"
            "::test_waits_from_its_first_message_on",
        ),
    ),
]
