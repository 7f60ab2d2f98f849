"""The safety parts of the sinks of NATS, SNS and SQS."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

AWS = "outbox/sinks/aws/"
NATS = "outbox/sinks/nats/"
TESTS = "tests/outbox/sinks/"
ANSWERS = f"{TESTS}test_aws_errors.py::"

BROKERS = [
    Mutant(
        name="aws-result-of-each-message",
        without="a message that SNS or SQS refuses within an accepted request counts as stored",
        edits=(
            Edit(
                f"{AWS}sinks.py",
                '        for one in answer.get("Failed", ()):\n',
                "        for one in ():\n",
            ),
            Edit(
                f"{AWS}sinks.py",
                "{entry.id: unknown for entry in request.entries}",
                "{entry.id: None for entry in request.entries}",
            ),
        ),
        noticed_by=(
            f"{ANSWERS}TestAPartlyFailedBatch::test_settles_each_message_by_its_own_result",
            f"{ANSWERS}TestAPartlyFailedBatch::"
            "test_leaves_a_message_owed_that_the_answer_does_not_name",
        ),
    ),
    Mutant(
        name="aws-destination-is-no-message",
        without="a wrong region makes each event dead",
        edits=(
            Edit(
                f"{AWS}errors.py",
                "any(part in message for part in _ABOUT_THE_DESTINATION)",
                "False",
            ),
        ),
        noticed_by=(
            f"{ANSWERS}TestARefusedRequest::test_for_a_foreign_topic_is_not_the_fault_of_a_message",
        ),
    ),
    Mutant(
        name="aws-poison-alone",
        without="one message that makes SNS or SQS refuse a request makes the others dead",
        edits=(
            Edit(
                f"{AWS}sinks.py",
                "if len(request.entries) == 1 or not is_about_the_message(reason):",
                "if True:",
            ),
        ),
        noticed_by=(
            f"{ANSWERS}TestARefusedRequest::test_for_one_of_its_messages_is_split",
            f"{TESTS}test_aws.py::TestASizeLimit::test_of_the_queue_refuses_only_the_large_message",
        ),
    ),
    Mutant(
        name="aws-fifo-ids",
        without="FIFO discards a requested replay, since its deduplication id is the event's id",
        edits=(
            Edit(
                f"{AWS}entries.py",
                "deduplication_id=fifo_text(message.id),",
                "deduplication_id=fifo_text(str(message.event.id)),",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_aws.py::TestAFifoDestination::"
            "test_discards_a_known_id_and_stores_a_replays_number",
            f"{TESTS}test_publishing_to_brokers.py::TestAFifoQueue::test_receives_a_replay",
        ),
    ),
    Mutant(
        name="aws-clients-of-the-process",
        without="a forked child uses the parent's threads, which do not exist in it",
        edits=(
            Edit(f"{AWS}clients.py", "if self._pid != os.getpid():", "if self._threads is None:"),
        ),
        noticed_by=(
            f"{TESTS}test_aws.py::TestAForkedChild::test_publishes_with_clients_of_its_own",
        ),
    ),
    Mutant(
        name="nats-message-id",
        without="a retry after a lost acknowledgement is stored twice",
        edits=(
            Edit(
                f"{NATS}sink.py",
                "headers = {**message.headers, MESSAGE_ID: message.id}",
                "headers = dict(message.headers)",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_nats.py::TestAMessage::"
            "test_is_acknowledged_and_not_stored_again_if_its_id_is_known",
        ),
    ),
    Mutant(
        name="nats-acknowledgement",
        without="a message counts as stored once it was written to the socket",
        edits=(
            Edit(
                f"{NATS}sink.py",
                "            await context.publish(message.topic, message.body, headers=headers)\n",
                "            await connection.client.publish(\n"
                "                message.topic, message.body, headers=headers\n"
                "            )\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_nats.py::TestAServer::"
            "test_that_is_frozen_is_unavailable_and_used_again_later",
            f"{TESTS}test_nats.py::TestASubjectWithoutStream::test_is_an_error_with_the_next_step",
        ),
    ),
    Mutant(
        name="nats-interrupted-call",
        without="a message is sent to NATS after the time limit of its call",
        edits=(
            Edit(
                f"{NATS}sink.py",
                "finally:  # also if the caller's time limit cancels this",
                "except ImportError:",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_nats.py::TestATimeLimitOfTheCaller::"
            "test_leaves_no_message_that_is_sent_later",
        ),
    ),
    Mutant(
        name="nats-size-with-headers",
        without="a message with large headers makes the server close the connection",
        edits=(
            Edit(
                f"{NATS}sink.py",
                "size = len(message.body) + _header_bytes(headers)",
                "size = len(message.body)",
            ),
        ),
        noticed_by=(f"{TESTS}test_nats.py::TestASizeLimit::test_of_the_server_counts_the_headers",),
    ),
    Mutant(
        name="nats-connection-of-the-process",
        without="a forked child waits for the parent's thread, which does not exist in it",
        edits=(
            Edit(
                f"{NATS}connection.py",
                "if self._loop is None or self._loop.pid != os.getpid():",
                "if self._loop is None:",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_nats.py::TestAForkedChild::test_publishes_with_a_connection_of_its_own",
        ),
    ),
    Mutant(
        name="nats-key-is-one-token",
        without="a dot in a key moves an event to the subject of another one",
        edits=(
            Edit(
                f"{NATS}sink.py",
                "        return token(key)\n",
                "        return key\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_publishing_to_brokers.py::TestNats::"
            "test_stores_the_events_of_a_key_in_order",
        ),
    ),
]
