"""The safety parts of the sinks of RabbitMQ, Redis streams and HTTP."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SINKS = "tests/outbox/sinks/"
AMQP = f"{SINKS}test_amqp.py::"
REDIS = f"{SINKS}test_redis_streams.py::"
HTTP = f"{SINKS}test_http.py::"

AMQP_REDIS_HTTP = [
    Mutant(
        name="amqp-mandatory",
        without="RabbitMQ confirms a message that no queue takes",
        edits=(Edit("outbox/sinks/amqp_link.py", "mandatory=True", "mandatory=False"),),
        noticed_by=(
            f"{AMQP}TestAnUnroutableMessage::test_is_an_error_and_the_others_are_stored",
            f"{AMQP}TestAnUnroutableMessage::test_is_an_error_once_per_message",
        ),
    ),
    Mutant(
        name="amqp-returned-message",
        without="a returned message is taken for the first one of its call",
        edits=(
            Edit(
                "outbox/sinks/amqp_link.py",
                "            if message.id == message_id and self.is_open[index]",
                "            if self.is_open[index]",
            ),
        ),
        noticed_by=(f"{AMQP}TestAnUnroutableMessage::test_is_an_error_and_the_others_are_stored",),
    ),
    Mutant(
        name="amqp-refusals",
        without="a message that RabbitMQ refused counts as confirmed",
        edits=(
            Edit(
                "outbox/sinks/amqp_link.py",
                'self._settle(tag, multiple, MessageRefused("RabbitMQ refused the message '
                '(basic.nack)."))',
                "self._settle(tag, multiple, None)",
            ),
        ),
        noticed_by=(f"{AMQP}TestARefusedMessage::test_of_a_full_queue_is_an_error",),
    ),
    Mutant(
        name="amqp-persistent",
        without="messages are kept in RabbitMQ's memory only",
        edits=(Edit("outbox/sinks/amqp_link.py", "_PERSISTENT = 2", "_PERSISTENT = 1"),),
        noticed_by=(f"{AMQP}TestAPublishedMessage::test_survives_a_killed_server",),
    ),
    Mutant(
        name="amqp-time-limit",
        without="RabbitMQ may let a publisher wait without end",
        edits=(
            Edit(
                "outbox/sinks/amqp_link.py",
                "        self._connection.transport.sock.settimeout(deadline.left())\n",
                "        pass\n",
            ),
        ),
        noticed_by=(
            f"{AMQP}TestAServerThatStops::test_answering_is_unavailable_within_the_time_limit",
        ),
        hangs=True,
    ),
    Mutant(
        name="amqp-probes-during-an-alarm",
        without="each probe during RabbitMQ's memory alarm leaves one more copy of its message",
        edits=(
            Edit(
                "outbox/sinks/amqp.py",
                "        if self._link.is_blocked:\n",
                "        if False:\n",
            ),
            Edit(
                "outbox/sinks/amqp_link.py",
                "            if self.is_blocked:\n                return\n",
                "",
            ),
        ),
        noticed_by=(f"{AMQP}TestAServerThatStops::test_taking_messages_gets_each_of_them_once",),
    ),
    Mutant(
        name="amqp-one-by-one",
        without="a message that RabbitMQ closes the channel for costs the others of its call",
        edits=(
            Edit(
                "outbox/sinks/amqp.py",
                "        if refused and len(messages) > 1:\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{AMQP}TestARefusedMessage::test_that_is_too_large_for_the_server_leaves_the_others",
        ),
    ),
    Mutant(
        name="amqp-after-a-fork",
        without="a child closes the connection of its parent",
        edits=(
            Edit(
                "outbox/sinks/amqp.py",
                "        if self._link is not None and self._link.pid != os.getpid():\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{AMQP}TestAForkedProcess::test_without_a_server_leaves_the_connection_of_its_parent",
        ),
    ),
    Mutant(
        name="redis-own-results",
        without="an entry that Redis refused counts as appended",
        edits=(
            Edit(
                "outbox/sinks/redis_streams.py",
                "        if not isinstance(answer, Exception):\n            return None\n"
                "        if isinstance(answer, SinkUnavailable):\n",
                "        if not isinstance(answer, SinkUnavailable):\n            return None\n"
                "        if isinstance(answer, SinkUnavailable):\n",
            ),
        ),
        noticed_by=(
            f"{REDIS}TestARefusedEntry::test_leaves_the_others_of_its_call",
            f"{REDIS}TestAServerThatStops::test_taking_entries_is_unavailable",
        ),
    ),
    Mutant(
        name="redis-copies",
        without="an entry counts as appended with fewer copies than required",
        edits=(
            Edit(
                "outbox/sinks/redis_streams.py",
                "        if replicas < self._replicas:\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(f"{REDIS}TestCopies::test_on_too_few_replicas_are_an_error",),
    ),
    Mutant(
        name="redis-after-a-failover",
        without="a connection to a server that became a replica is kept",
        edits=(
            Edit(
                "outbox/sinks/redis_streams.py",
                "            self.close()  # so that the next call finds the new primary after a "
                "failover\n",
                "            pass\n",
            ),
        ),
        noticed_by=(f"{REDIS}TestAServerThatStops::test_being_a_primary_is_unavailable",),
    ),
    Mutant(
        name="http-slow-answers",
        without="an answer that comes byte by byte has no time limit",
        edits=(
            Edit(
                "outbox/sinks/http.py",
                "        return TimedStream(stream, self._left)\n",
                "        return stream\n",
            ),
        ),
        noticed_by=(f"{HTTP}TestAnAnswer::test_that_is_late_is_unavailable",),
        hangs=True,
    ),
    Mutant(
        name="http-refusals",
        without="an answer of 4xx about the URL makes an event dead",
        edits=(
            Edit(
                "outbox/sinks/http_answers.py",
                "    if status in REJECTED:\n",
                "    if 400 <= status < 500:\n",
            ),
        ),
        noticed_by=(f"{HTTP}TestAnAnswer::test_has_a_meaning[404-AnswerRefused]",),
    ),
]
