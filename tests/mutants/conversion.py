"""The command `partition` and `flush`: what is created meanwhile, rights, and numbers of events."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

PARTITIONS_OF = "tests/outbox/partitions/"

CONVERSION: list[Mutant] = [
    Mutant(
        name="created-during-a-conversion",
        without="a conversion drops a foreign key that was created while it built indexes",
        edits=(
            Edit(
                "outbox/partitions/swap.py",
                "    if reasons := refusals(using=using):\n",
                "    if reasons := []:\n",
            ),
        ),
        noticed_by=(
            f"{PARTITIONS_OF}test_conversion.py::TestTheSwap"
            "::test_is_refused_if_it_would_lose_what_was_created_meanwhile",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="wait-before-a-check",
        without="a conversion blocks emitters while a dump has the table that gets a check",
        edits=(
            Edit(
                "outbox/partitions/preparation.py",
                "    wait_for_users([table], until=inf, report=report, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{PARTITIONS_OF}test_conversion.py::TestACheck"
            "::test_requests_no_lock_while_a_transaction_uses_the_table",
        ),
        database=POSTGRESQL,
        hangs=True,
    ),
    Mutant(
        name="bounds-of-a-check",
        without="a lost host keeps the exclusive lock of a table that gets a check for two hours",
        edits=(
            Edit(
                "outbox/partitions/preparation.py",
                "    bound_transaction(_IDLE_SECONDS, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{PARTITIONS_OF}test_conversion.py::TestACheck"
            "::test_bounds_how_long_a_lost_host_keeps_its_lock",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="bounds-of-the-swap",
        without="a lost host keeps the locks of a conversion, and each emit waits for hours",
        edits=(
            Edit(
                "outbox/partitions/swap.py",
                "    bound_transaction(_IDLE_SECONDS, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{PARTITIONS_OF}test_conversion.py::TestTheSwap"
            "::test_bounds_how_long_a_lost_host_keeps_its_locks",
        ),
        database=POSTGRESQL,
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
        name="lock-of-a-run-without-a-snapshot",
        without="with parameters of the server, the build of an index waits for the command itself",
        edits=(
            Edit(
                "outbox/partitions/conversion.py",
                '            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")\n',
                "",
            ),
        ),
        noticed_by=(
            f"{PARTITIONS_OF}test_conversion.py::TestTheLockOfARun"
            "::test_keeps_no_snapshot_that_an_index_would_wait_for",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="rights-of-the-daily-command",
        without="a daily command of a role without rights ends well, and creates no partition",
        edits=(
            Edit(
                "outbox/partitions/conversion.py",
                "        if reasons := missing_rights(using=using):\n",
                "        if reasons := []:\n",
            ),
        ),
        noticed_by=(
            f"{PARTITIONS_OF}test_command.py::TestTheCommand"
            "::test_is_refused_for_a_role_that_may_create_no_partition",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="numbers-after-flush",
        without="each emit fails after flush, since the numbers of the first partition are given",
        edits=(
            Edit(
                "outbox/apps.py",
                "        post_migrate.connect(_number_by_day, sender=self)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{PARTITIONS_OF}test_ahead.py::TestTheLastNumber"
            "::test_is_of_the_present_day_after_the_tables_are_flushed",
        ),
        database=POSTGRESQL,
    ),
]
