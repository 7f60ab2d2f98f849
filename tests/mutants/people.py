"""The safety parts of what people do: deploys, and their actions on handlers and deliveries."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

OUTBOX = "tests/outbox/"
JOINING = "outbox/engine/joining.py"
JOINED = f"{OUTBOX}test_rolling_deploy.py::TestARenameThatIsRolledBack::"

JOINS = [
    Mutant(
        name="active-of-joined-names",
        without="two names of one handler become one that has ended, where either has",
        edits=(Edit(JOINING, "    if old.active:\n", "    if False:\n"),),
        noticed_by=(f"{JOINED}test_goes_on_where_the_new_name_was_ended_meanwhile",),
    ),
    Mutant(
        name="pause-of-joined-names",
        without="the pause of a handler's former name is dropped",
        edits=(
            Edit(JOINING, "    if _weight_of_pause(old) > _weight_of_pause(row):", "    if False:"),
        ),
        noticed_by=(
            f"{JOINED}test_stays_paused_where_a_person_has_paused_either_name[tests.count]",
            f"{JOINED}test_takes_a_pause_by_a_person_for_more_than_one_by_a_backfill",
        ),
    ),
    Mutant(
        name="breaker-of-joined-names",
        without="the open breaker of a handler's former name is dropped",
        edits=(Edit(JOINING, "        _copy(breaker.CLOSED, old, row)\n", ""),),
        noticed_by=(f"{JOINED}test_keeps_the_breaker_open_that_the_old_name_has_opened",),
    ),
    Mutant(
        name="places-of-joined-names",
        without="what a handler's former name is owed gets no place in line",
        edits=(Edit(JOINING, "    line_up(row, using=using)\n", ""),),
        noticed_by=(f"{JOINED}test_keeps_the_order_of_a_key_where_the_new_name_is_ordered",),
    ),
    Mutant(
        name="shares-of-joined-names",
        without="what a handler's former name is owed gets no share",
        edits=(Edit(JOINING, "    fill_shares(row, using=using)\n", ""),),
        noticed_by=(f"{JOINED}test_stores_the_shares_of_what_the_old_name_was_owed",),
    ),
    Mutant(
        name="workers-before-the-table",
        without="a deploy that joins two names waits for a worker with the table locked",
        edits=(Edit(JOINING, "    _wait_for_workers((old, row), using=using)\n", ""),),
        noticed_by=(
            f"{OUTBOX}test_concurrency.py::TestADeploy"
            "::test_stops_no_relay_while_it_joins_two_names_and_waits_for_a_worker",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="short-tries-for-the-table",
        without="relays queue behind a transaction that waits for the table of subscriptions",
        edits=(
            Edit(
                "outbox/engine/locks.py",
                '        cursor.execute(f"SET LOCAL lock_timeout = {int(_TRY_SECONDS * 1000)}")\n',
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

PEOPLE: list[Mutant] = [*JOINS]
