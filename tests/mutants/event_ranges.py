"""Ranges of events in statements and messages, and the partitions that a relay reads."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

RANGES = "tests/outbox/deliveries/test_event_ranges.py::"
REACH = "tests/outbox/relay/test_reach.py::"
LOCKS = "tests/outbox/partitions/test_locks.py::"
ORDER = "tests/outbox/deliveries/test_lock_order.py::TestDeliveriesOfAPartition"
MESSAGES = "tests/outbox/transports/test_tasks.py::TestAMessageOfPartitions::"

EVENT_RANGES = [
    Mutant(
        name="highest-event-of-a-range",
        without="a range ends with its lowest event, so most deliveries of a message never start",
        edits=(
            Edit(
                "outbox/deliveries/event_ranges.py",
                "    return (min(found), max(found)) if found else None\n",
                "    return (min(found), min(found)) if found else None\n",
            ),
        ),
        noticed_by=(
            f"{RANGES}TestARange::test_has_the_lowest_and_the_highest_event",
            f"{RANGES}TestAMessage::test_is_delivered_as_without_the_setting",
        ),
    ),
    Mutant(
        name="ends-of-a-range",
        without="a condition leaves out the lowest event of its range",
        edits=(
            Edit(
                "outbox/deliveries/event_ranges.py",
                'BETWEEN {first:d} AND {last:d}"',
                'BETWEEN {first + 1:d} AND {last:d}"',
            ),
        ),
        noticed_by=(
            f"{RANGES}TestACondition::test_includes_both_ends",
            f"{RANGES}TestAMessage::test_is_delivered_as_without_the_setting",
        ),
    ),
    Mutant(
        name="unknown-range-of-several",
        without="messages without a range are handed back within the range of others",
        edits=(
            Edit(
                "outbox/deliveries/event_ranges.py",
                "    if not known or len(known) < len(found):\n",
                "    if not known:\n",
            ),
        ),
        noticed_by=(f"{RANGES}TestARange::test_of_several_ranges_is_unknown_if_one_is",),
    ),
    Mutant(
        name="range-without-the-setting",
        without="projects without partitions get other statements",
        edits=(
            Edit(
                "outbox/deliveries/event_ranges.py",
                "    if not conf().PARTITION:\n        return None\n    found = list(seqs)\n",
                "    found = list(seqs)\n",
            ),
        ),
        noticed_by=(
            f"{RANGES}TestWithoutTheSetting"
            "::test_each_statement_is_as_with_it_but_without_the_conditions",
            f"{RANGES}TestAMessage::test_without_the_setting_carries_none",
        ),
    ),
    Mutant(
        name="range-in-the-broker",
        without="messages of Celery have no range, so each start reads all partitions",
        edits=(
            Edit(
                "outbox/transports/celery_broker.py",
                "    if message.events is not None:\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(f"{MESSAGES}test_has_the_lowest_and_the_highest_event",),
    ),
    Mutant(
        name="range-in-the-worker",
        without="a worker takes the highest event of a message for all of them",
        edits=(
            Edit(
                "outbox/tasks.py",
                "events=None if events is None else (events[0], events[1]),",
                "events=None if events is None else (events[1], events[1]),",
            ),
        ),
        noticed_by=(f"{MESSAGES}test_is_delivered_within_its_range",),
    ),
    Mutant(
        name="range-of-a-start",
        without="the UPDATE of a start locks all partitions",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "id IN ({numbers(ids)}){within(events)} AND {where}{whose}",
                "id IN ({numbers(ids)}) AND {where}{whose}",
            ),
        ),
        noticed_by=(f"{LOCKS}TestAMessage::test_of_50_deliveries_locks_one_partition",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="start-of-several-tokens",
        without="two workers whose messages share deliveries of several tokens find a deadlock",
        edits=(
            Edit(
                "outbox/worker/start.py",
                "if len(groups) > 1 else []",
                "if len(groups) > 9 else []",
            ),
        ),
        noticed_by=(f"{ORDER}::test_of_several_tokens_are_locked_in_the_order_of_ids[starting]",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="receipts-of-several-starts",
        without="receipts of several starts are stored in the order of starts, and find a deadlock",
        edits=(
            Edit(
                "outbox/deliveries/receipts.py",
                "    if len(starts) > 1:\n",
                "    if len(starts) > 9:\n",
            ),
        ),
        noticed_by=(f"{ORDER}::test_of_several_tokens_are_locked_in_the_order_of_ids[giving]",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="range-of-a-claim",
        without="a claim reads a whole new partition, since PostgreSQL has no statistics of it",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "        events = range_of(self.seq_of[pk] for pk in pks)\n",
                "        events = self.reach\n",
            ),
        ),
        noticed_by=(f"{REACH}TestAPass::test_claims_by_the_range_of_the_claimed_events",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="unknown-partition-in-a-relay",
        without="a partition that somebody else created ends each pass of the relay",
        edits=(
            Edit(
                "outbox/relay/reach.py",
                "    except (CannotRead, UnknownPartition):",
                "    except CannotRead:",
            ),
        ),
        noticed_by=(
            f"{REACH}TestTheReach"
            "::test_is_everything_with_a_partition_that_the_outbox_did_not_create",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="range-of-started-events",
        without="the events of a start are read in all partitions",
        edits=(Edit("outbox/deliveries/lease.py", '    given += within(events, "e.seq")\n', ""),),
        noticed_by=(f"{LOCKS}TestAMessage::test_of_50_deliveries_locks_one_partition",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="range-of-a-failure",
        without="storing a failure locks all partitions",
        edits=(
            Edit(
                "outbox/deliveries/settlement.py",
                "        worker=delivery.worker,\n        **event_ranges.of(delivery),\n    )\n",
                "        worker=delivery.worker,\n    )\n",
            ),
        ),
        noticed_by=(f"{LOCKS}TestAMessage::test_that_fails_and_is_retried_locks_one_partition",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="reach-of-the-backlog",
        without="each pass of the relay locks all partitions",
        edits=(
            Edit(
                "outbox/relay/backlog.py",
                '    of_range = within(reach, "d.event_id")\n',
                '    of_range = ""\n',
            ),
        ),
        noticed_by=(f"{LOCKS}TestAPassOfTheRelay::test_locks_the_partitions_of_three_days",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="look-at-old-partitions",
        without="a delivery of an old event that becomes due is never sent",
        edits=(
            Edit(
                "outbox/relay/reach.py",
                "return None if _has_work_before(found[0], now, using=using) else found",
                "return found",
            ),
        ),
        noticed_by=(f"{REACH}TestARelay::test_finds_an_old_delivery_that_becomes_due",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="look-again-at-old-partitions",
        without="a relay looks at old partitions once and never again",
        edits=(
            Edit(
                "outbox/relay/reach.py",
                "            self._look_at = time.monotonic() + _LOOK_SECONDS\n",
                "            self._look_at = float('inf')\n",
            ),
        ),
        noticed_by=(f"{REACH}TestARelay::test_finds_an_old_delivery_that_becomes_due",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="old-events-that-wait",
        without="an event that was committed late in an old partition never gets deliveries",
        edits=(
            Edit(
                "outbox/relay/reach.py",
                'ORDER BY seq LIMIT 1", using=using):\n        return True\n',
                'ORDER BY seq LIMIT 1", using=using):\n        pass\n',
            ),
        ),
        noticed_by=(
            f"{REACH}TestTheReach::test_is_everything_while_an_old_event_waits_for_fan_out",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="old-deliveries-in-flight",
        without="old deliveries in flight are left out of the window",
        edits=(Edit("outbox/relay/reach.py", "one.is_any or one.in_flight", "one.is_any"),),
        noticed_by=(f"{REACH}TestTheReach::test_is_everything_while_an_old_delivery_is_in_flight",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="day-before-the-newest",
        without="a relay reads only the newest day and tomorrow",
        edits=(Edit("outbox/relay/reach.py", "max(0, day - 1) * PER_DAY", "day * PER_DAY"),),
        noticed_by=(
            f"{REACH}TestTheReach::test_is_from_the_day_before_the_newest_event_to_tomorrow",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="day-of-the-jump",
        without="a relay misses new events for seconds after the sequence has jumped over days",
        edits=(
            Edit(
                "outbox/relay/reach.py", "max(coming, (day + 2) * PER_DAY)", "(day + 2) * PER_DAY"
            ),
        ),
        noticed_by=(f"{REACH}TestTheReach::test_begins_at_zero_before_the_sequence_has_jumped",),
        database=POSTGRESQL,
    ),
]
