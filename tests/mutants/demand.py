"""The wanted number of workers."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

FILE = "outbox/monitor/demand.py"
TESTS = "tests/outbox/monitor/test_demand.py::"

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
]
