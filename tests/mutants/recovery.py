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
                "outbox/engine/connections.py",
                "        if was is None and (is_changed or is_interrupted):\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_connections.py::TestAnInterruptionWithinDjangosAtomic"
            "::test_leaves_a_handler_with_receipt_in_no_transaction",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="transaction-of-the-run-restored",
        without="what a handler leaves open within its own transaction stays open",
        edits=(
            Edit(
                "outbox/engine/connections.py",
                "        elif was is not None and is_changed:\n",
                "        elif False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}test_connections.py::TestAnInterruptionWithinDjangosAtomic"
            "::test_leaves_an_atomic_handler_in_no_transaction",
            f"{OUTBOX}test_connections.py::TestAnInterruptionWithinDjangosAtomic"
            "::test_leaves_a_batch_in_no_transaction",
            f"{OUTBOX}test_connections.py::TestAHandlerThatLeavesATransactionOpen"
            "::test_has_failed_and_leaves_a_good_connection",
        ),
    ),
]

RECOVERY = [*CONNECTIONS]
