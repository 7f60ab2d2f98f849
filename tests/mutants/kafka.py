"""The safety parts of the Kafka sink."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SINK = "outbox/sinks/kafka.py"
CLIENT = "outbox/sinks/kafka_client.py"
TESTS = "tests/outbox/sinks/test_kafka.py::"
OPTIONS = "tests/outbox/sinks/test_kafka_options.py::"

KAFKA = [
    Mutant(
        name="kafka-acknowledgement",
        without="a message to Kafka counts as stored before its acknowledgement",
        edits=(
            Edit(
                SINK, "        while call.is_open and not self._is_refused:", "        while False:"
            ),
            Edit(
                SINK,
                "        self.results[number] = _TIMED_OUT\n        try:",
                "        self.results[number] = None\n        try:",
            ),
            Edit(SINK, "        if call.is_open or call.is_in_doubt:", "        if False:"),
        ),
        noticed_by=(
            f"{TESTS}TestAFrozenBroker::test_acknowledges_too_late_and_no_later_call_counts_it",
        ),
    ),
    Mutant(
        name="kafka-withdrawal",
        without="a message of a failed call is sent later, when its event may be owed again",
        edits=(
            Edit(
                SINK,
                "            producer.purge()\n            _flush(producer, _SLICE)\n",
                "            _flush(producer, _SLICE)\n",
            ),
        ),
        noticed_by=(f"{TESTS}TestACall::test_that_is_interrupted_sends_nothing_later",),
    ),
    Mutant(
        name="kafka-producer-after-a-fatal-error",
        without="a producer that Kafka has forgotten is used for ever",
        edits=(
            Edit(
                SINK,
                "        if call.is_open or call.is_in_doubt:\n",
                "        if call.is_open:\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}TestAKilledBroker::"
            "test_is_published_to_again_though_it_has_forgotten_the_producer",
        ),
    ),
    Mutant(
        name="kafka-size-of-a-request",
        without="small messages are dead since their request was too large for the topic",
        edits=(
            Edit(
                SINK,
                "        if len(self._queued) < 2:\n            return []\n",
                "        return []\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}TestACall::test_is_divided_if_only_its_sum_is_too_large_for_the_topic",
        ),
    ),
    Mutant(
        name="kafka-partition-of-a-key",
        without="the sink and a Java client send the events of a key to two partitions",
        edits=(Edit(SINK, '            "partitioner": "murmur2_random",\n', ""),),
        noticed_by=(f"{TESTS}TestAKey::test_chooses_the_partition_that_java_clients_choose",),
    ),
    Mutant(
        name="kafka-safe-options",
        without="OPTIONS may accept an acknowledgement that one replica, or none, has given",
        edits=(
            Edit(
                CLIENT,
                "        if name in options and str(options[name]).lower() not in allowed:",
                "        if False:",
            ),
        ),
        noticed_by=(f"{OPTIONS}TestAnUnsafeOption::test_is_refused_by_name",),
    ),
    Mutant(
        name="kafka-secrets-in-errors",
        without="an error of a wrong option quotes its value",
        edits=(
            Edit(
                CLIENT,
                '    refused = f"the property {found[found.lastindex or 0]}"',
                '    refused = f"the property {error}"',
            ),
        ),
        noticed_by=(f"{OPTIONS}TestARefusedOption::test_is_named_and_its_value_is_not_quoted",),
    ),
    Mutant(
        name="kafka-producer-of-the-process",
        without="a forked child uses the parent's producer, whose threads do not exist in it",
        edits=(Edit(CLIENT, "os.register_at_fork(after_in_child=_after_fork)\n", ""),),
        noticed_by=(f"{TESTS}TestAForkedProcess::test_publishes_and_ends",),
    ),
]
