"""Mutants of what operators start: replays, prunes, and commands with a key."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

OPERATORS = [
    Mutant(
        name="two-equal-replays",
        without="two processes that begin the same replay run its handlers twice",
        database="postgresql",
        edits=(
            Edit(
                "outbox/operations/progress.py",
                "if action == Operation.Action.REPLAY:  # no other",
                "if False:  # no other",
            ),
        ),
        noticed_by=(
            "tests/outbox/test_concurrency.py::TestTheSameReplay"
            "::test_is_begun_by_one_of_two_processes",
        ),
    ),
    Mutant(
        name="records-that-add-up",
        without="of two prunes at the same time, the record has the number of one",
        edits=(
            Edit(
                "outbox/operations/progress.py",
                "operation.touched += same.touched - before if same is not None else 0",
                "pass",
            ),
        ),
        noticed_by=(
            "tests/outbox/operations/test_progress.py::TestTwoRunsWithOneRecord::test_add_up",
        ),
    ),
    Mutant(
        name="newest-events-of-a-key",
        without="`outbox why` with a key does not know the key's newest events",
        edits=(
            Edit(
                "outbox/management/cli/common.py",
                'list(rows.order_by("-seq")[:MOST_EVENTS])[::-1]',
                'list(rows.order_by("seq")[:MOST_EVENTS])',
            ),
            Edit(
                "outbox/management/cli/why.py",
                "Q(key__in=[*keys, *of_subject])",
                "Q(key__in=of_subject)",
            ),
        ),
        noticed_by=(
            "tests/outbox/test_why.py::TestAKeyWithManyEvents"
            "::test_is_explained_up_to_its_newest_problem",
        ),
    ),
    Mutant(
        name="probes-alone",
        without="an open breaker of a sink sends no probe while another message is in flight",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "if self.row.share_window is None and not is_probe:",
                "if self.row.share_window is None:",
            ),
        ),
        noticed_by=(
            "tests/outbox/deliveries/test_breaker.py::TestABulkHandler"
            "::test_gets_a_probe_while_another_call_hangs",
        ),
    ),
]
