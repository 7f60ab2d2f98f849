"""Partitions: what a conversion, a jump of the sequence and a later index must not do."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

PARTITIONS_OF = "tests/outbox/partitions/"
AHEAD = f"{PARTITIONS_OF}test_ahead.py::"
CONVERSION = f"{PARTITIONS_OF}test_conversion.py::"
GRANTS = f"{PARTITIONS_OF}test_grants.py::"
REFUSALS = f"{PARTITIONS_OF}test_refusals.py::TestAConversionIsRefused::"

#: The jump of the sequence, and partitions of the coming days.
DAYS: list[Mutant] = [
    Mutant(
        name="jump-forward-only",
        without="the sequence is set to the range of the day although it is beyond",
        edits=(Edit("outbox/partitions/ahead.py", " WHERE last < %(last)s", ""),),
        noticed_by=(
            f"{AHEAD}TestTheJump::test_never_goes_back",
            f"{AHEAD}TestTheJump::test_is_done_once_a_day_also_before_the_first_event",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="jump-by-one-process",
        without="two processes let the sequence jump at the same time",
        edits=(
            Edit(
                "outbox/partitions/ahead.py",
                "        if not _is_alone(using=using):\n            return False\n",
                "",
            ),
        ),
        noticed_by=(
            f"{AHEAD}TestTheJump::test_waits_for_another_process_that_lets_the_sequence_jump",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="jump-to-a-partition",
        without="the sequence jumps to a day without partitions, and each emit fails",
        edits=(
            Edit(
                "outbox/partitions/ahead.py",
                "    if not has_partitions(today, using=using) or not _may(",
                "    if not _may(",
            ),
        ),
        noticed_by=(f"{AHEAD}TestTheJump::test_needs_the_partitions_of_the_day",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="jump-by-a-reader-of-the-sequence",
        without="a role that cannot read the last number takes the sequence for unused",
        edits=(
            Edit(
                "outbox/partitions/ahead.py",
                "\nAND has_sequence_privilege({_SEQUENCE}, 'USAGE')",
                "",
            ),
        ),
        noticed_by=(
            f"{AHEAD}TestTheJump::test_is_not_done_by_a_role_that_may_not_read_the_sequence",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="parameters-of-a-partition",
        without="a new partition has PostgreSQL's default storage parameters",
        edits=(
            Edit(
                "outbox/partitions/leaves.py",
                "    if stored:\n",
                "    if not stored:\n",
            ),
        ),
        noticed_by=(
            f"{CONVERSION}TestPropertiesOfTheTables"
            "::test_include_storage_parameters_of_each_partition",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="attach-without-a-long-lock",
        without="a partition is created under a lock that waits for all emitters",
        edits=(
            Edit(
                "outbox/partitions/leaves.py",
                "    low, high = first_seq(day)",
                '    yield f"LOCK TABLE {parent} IN ACCESS EXCLUSIVE MODE"\n'
                "    low, high = first_seq(day)",
            ),
        ),
        noticed_by=(
            f"{AHEAD}TestPartitionsAhead::test_are_created_beside_a_transaction_that_has_emitted",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="newest-of-yesterday",
        without="rates after midnight leave out the events of the day before",
        edits=(
            Edit(
                "outbox/partitions/newest.py",
                "while last is not None and (day := day_of(last)) is not None:",
                "while (day := None) is not None:",
            ),
        ),
        noticed_by=(
            f"{PARTITIONS_OF}test_newest.py::TestTheNewestEvents"
            "::test_include_those_of_earlier_days[9]",
        ),
        database=POSTGRESQL,
    ),
]

#: The conversion of the tables, and later indexes.
CONVERTED: list[Mutant] = [
    Mutant(
        name="indexes-before-the-swap",
        without="PostgreSQL builds an index of all events while everybody waits",
        edits=(
            Edit(
                "outbox/partitions/preparation.py",
                '    Prepared(EVENT, f"{first_partition(EVENT)}_id", "id"),\n',
                "",
            ),
        ),
        noticed_by=(
            f"{CONVERSION}TestAConversion::test_writes_no_file_of_a_table_or_index_in_the_swap",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="maintenance-before-the-swap",
        without="a conversion waits for maintenance with locks that block emitters",
        edits=(
            Edit(
                "outbox/partitions/swap.py",
                "IN SHARE UPDATE EXCLUSIVE MODE",
                "IN ACCESS EXCLUSIVE MODE",
            ),
        ),
        noticed_by=(
            f"{CONVERSION}TestTheSwap::test_waits_for_maintenance_without_blocking_others",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="invalid-index-is-rebuilt",
        without="an index that an interrupted conversion has left invalid is taken for built",
        edits=(Edit("outbox/partitions/preparation.py", " AND indisvalid", ""),),
        noticed_by=(
            f"{CONVERSION}TestAnInterruptedConversion::test_builds_an_invalid_index_again",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="publications-of-the-table",
        without="a converted table leaves its publications",
        edits=(
            Edit(
                "outbox/partitions/swap.py",
                "    yield from publications(table, first, using=using)\n",
                "",
            ),
        ),
        noticed_by=(f"{CONVERSION}TestPropertiesOfTheTables::test_include_publications",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="publications-by-the-table",
        without="a subscriber reads rows of partitions whose names it does not know",
        edits=(
            Edit(
                "outbox/partitions/table_refusals.py",
                "if not one.is_via_root:",
                "if one.is_via_root is None:",
            ),
        ),
        noticed_by=(f"{REFUSALS}test_with_a_publication_that_names_partitions",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="numbers-of-one-statement",
        without="sessions that keep numbers of a past day insert into a partition that is gone",
        edits=(Edit("outbox/partitions/refusals.py", "elif cache > 1:", "elif cache > 1000:"),),
        noticed_by=(f"{REFUSALS}test_with_numbers_that_sessions_keep",),
        database=POSTGRESQL,
    ),
]

#: Rights, two runs at a time, and rows that no foreign key keeps.
KEPT: list[Mutant] = [
    Mutant(
        name="numbers-of-those-who-insert",
        without="roles that may insert events have no right on the sequence, and each emit fails",
        edits=(
            Edit(
                "outbox/partitions/swap.py",
                "    yield from numbering(table, sequence, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{GRANTS}TestARoleThatMayInsert::test_stores_events_after_the_conversion",
            f"{GRANTS}TestARoleThatMayInsert::test_is_everybody_if_it_was_before",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="rights-of-a-partition",
        without="a backup role may not read the partitions of new days",
        edits=(
            Edit(
                "outbox/partitions/leaves.py",
                "    yield from grants(parent, to=table, using=using)\n",
                "",
            ),
        ),
        noticed_by=(f"{GRANTS}TestANewPartition::test_has_the_rights_of_its_table",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="check-of-a-converted-table",
        without="a second run adds a check to the partitioned table, and later days are refused",
        edits=(
            Edit(
                "outbox/partitions/preparation.py",
                "        if is_partitioned(table, using=using):\n            return\n",
                "",
            ),
        ),
        noticed_by=(
            f"{CONVERSION}TestTwoRunsAtATime::test_leave_no_check_that_refuses_later_days",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="prepared-under-the-lock",
        without="the swap reads all rows under its locks if a step before was undone",
        edits=(
            Edit(
                "outbox/partitions/swap.py",
                "    if not is_prepared(high, using=using):\n        raise NotPrepared\n",
                "",
            ),
        ),
        noticed_by=(f"{CONVERSION}TestTheSwap::test_prepares_again_what_was_undone_before_it",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="wait-before-the-locks",
        without="a swap requests locks, and blocks emitters, while a long transaction has them",
        edits=(
            Edit(
                "outbox/partitions/in_use.py",
                "    while left and time.monotonic() < until:\n",
                "    while False:\n",
            ),
            Edit("outbox/partitions/in_use.py", "    return left\n", "    return {}\n"),
        ),
        noticed_by=(
            f"{CONVERSION}TestTheSwap::test_requests_no_lock_while_a_transaction_uses_the_tables",
        ),
        database=POSTGRESQL,
        hangs=True,
    ),
    Mutant(
        name="jump-before-creation",
        without="a partition of next week that cannot be created delays the jump of today",
        edits=(
            Edit(
                "outbox/partitions/ahead.py",
                "    jump(today, using=using)  # first: the creation of a later day may fail\n",
                "",
            ),
        ),
        noticed_by=(
            f"{AHEAD}TestTheJump::test_is_done_although_a_later_partition_cannot_be_created",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="event-of-a-new-target",
        without="pruning removes an event while a worker stores a delivery for a new target of it",
        edits=(
            Edit(
                "outbox/worker/targets.py",
                " or not _is_kept(delivery.event_id, using=using)",
                "",
            ),
        ),
        noticed_by=(
            "tests/outbox/worker/test_partitioned_targets.py::TestANewTarget"
            "::test_keeps_its_event_from_pruning",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="locks-in-the-order-of-ids",
        without="two workers with the same message lock its deliveries in different orders",
        edits=(
            Edit(
                "outbox/deliveries/event_ranges.py",
                '    if events is None or connections[using].vendor != "postgresql":\n',
                "    if True:\n",
            ),
        ),
        noticed_by=(
            "tests/outbox/deliveries/test_lock_order.py::TestDeliveriesOfAPartition"
            "::test_are_locked_in_the_order_of_ids",
        ),
        database=POSTGRESQL,
    ),
]

PARTITIONS: list[Mutant] = [*DAYS, *CONVERTED, *KEPT]
