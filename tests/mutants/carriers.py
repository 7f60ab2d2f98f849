"""The safety parts of Celery: over Amazon SQS, and beside the tasks of a project."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SQS = "tests/outbox/transports/test_sqs.py::"
CHECKS = "tests/outbox/test_sqs_checks.py::"
SETTINGS = "tests/outbox/transports/test_celery_settings.py::"
CONSUMER = "tests/outbox/transports/test_celery_consumer.py::"
CONNECTIONS = "tests/outbox/transports/test_celery_connections.py::"

CARRIERS = [
    Mutant(
        name="no-nudge-without-fanout",
        without="a nudge is sent through a broker that has no fanout",
        edits=(
            Edit(
                "outbox/transports/celery_broker.py",
                "        if not self._has_fanout:\n            return\n",
                "",
            ),
        ),
        noticed_by=(f"{SQS}TestABrokerWithoutFanout::test_receives_no_nudge",),
    ),
    Mutant(
        name="question-to-sqs",
        without="an open channel of SQS counts as an answer, although it sends no request",
        edits=(
            Edit(
                "outbox/transports/celery_broker.py",
                "    if not has_fanout(connection):\n        channel.queue_declare",
                "    if False:\n        channel.queue_declare",
            ),
        ),
        noticed_by=(f"{SQS}TestABrokerWithoutFanout::test_is_not_available_while_nobody_listens",),
    ),
    Mutant(
        name="failed-request-to-sqs",
        without="a failed request for messages raises in the worker's event loop",
        edits=(
            Edit(
                "outbox/transports/celery_sqs.py",
                "        connection._on_list_ready = partial(self._read, read, queue_name)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{SQS}TestAFailedRequestForMessages::test_returns_no_message_and_is_logged_once",
        ),
    ),
    Mutant(
        name="pause-after-a-failed-request",
        without="a worker asks SQS twenty times a second while it does not answer",
        edits=(
            Edit(
                "outbox/transports/celery_sqs.py",
                "        if self._is_failing:\n            self.hub",
                "        if False:\n            self.hub",
            ),
        ),
        noticed_by=(f"{SQS}TestAFailedRequestForMessages::test_is_repeated_after_a_pause",),
    ),
    Mutant(
        name="tls-to-another-host",
        without="requests to an endpoint of one's own are not encrypted",
        edits=(
            Edit(
                "outbox/transports/sqs.py",
                '        "is_secure": urlsplit(url).hostname not in _LOCAL_HOSTS,\n',
                '        "is_secure": None,\n',
            ),
        ),
        noticed_by=(f"{SQS}TestTheOptions::test_use_tls_except_on_this_host",),
    ),
    Mutant(
        name="visibility-of-the-longest-message",
        without="a visibility timeout need only be longer than a lease",
        edits=(
            Edit(
                "outbox/transports/sqs.py",
                "    seconds = handler.lease + calls * handler.time_limit\n",
                "    seconds = handler.lease\n",
            ),
        ),
        noticed_by=(
            f"{CHECKS}TestAVisibilityTimeout::test_must_be_longer_than_the_longest_message",
            f"{CHECKS}TestTheDoctor::test_compares_the_queue_with_its_longest_message",
        ),
    ),
    Mutant(
        name="options-after-annotations",
        without="annotations for all tasks change the acknowledgement of the outbox's messages",
        edits=(
            Edit(
                "outbox/transports/celery_settings.py",
                "        setattr(task, name, value)\n",
                "        pass\n",
            ),
        ),
        noticed_by=(f"{SETTINGS}TestATaskOfTheOutbox::test_has_its_own_options",),
    ),
    Mutant(
        name="messages-past-routes",
        without="task_routes of the project sends the outbox's messages elsewhere",
        edits=(
            Edit(
                "outbox/transports/celery_settings.py",
                'return {"queue": queue, "exchange": "", "routing_key": queue.name}',
                'return {"queue": queue}',
            ),
        ),
        noticed_by=(f"{SETTINGS}TestAMessage::test_reaches_the_queue_of_its_handler",),
    ),
    Mutant(
        name="handlers-outlive-the-connection",
        without="Celery ends the process of a handler when the connection to the broker is lost",
        edits=(
            Edit(
                "outbox/transports/celery_consumer.py",
                "                request.acknowledged = True\n",
                "                pass\n",
            ),
        ),
        noticed_by=(
            f"{CONSUMER}TestAMessageThatRunsWhileTheConnectionIsLost::"
            "test_is_not_cancelled_unlike_those_of_the_project",
        ),
    ),
    Mutant(
        name="queue-of-a-lost-connection",
        without="a worker ends with RESOURCE_LOCKED after its host was cut off",
        edits=(
            Edit(
                "outbox/transports/celery_consumer.py",
                "        own.connection_errors = (*own.connection_errors, *errors)\n",
                "        own.connection_errors = (*own.connection_errors, *errors[:0])\n",
            ),
        ),
        noticed_by=(
            f"{CONSUMER}TestAQueueThatRabbitMQHasNotReleased::test_does_not_end_the_worker",
        ),
    ),
    Mutant(
        name="connections-of-other-tasks",
        without="tasks of the project receive connections that the outbox kept",
        edits=(
            Edit(
                "outbox/transports/celery_connections.py",
                "    if not is_own(current_task):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(f"{CONNECTIONS}TestATaskOfTheProject::test_has_a_connection_of_its_own",),
    ),
    Mutant(
        name="guards-of-other-code",
        without="views of a project that asked for no guards may not send tasks",
        edits=(
            Edit(
                "outbox/guards/hooks.py",
                " and open_aliases() and _is_covered():\n            _refuse_to_send",
                " and open_aliases():\n            _refuse_to_send",
            ),
        ),
        noticed_by=(
            "tests/outbox/test_guards.py::TestATaskSentInsideATransaction::"
            "test_is_allowed_in_a_project_that_did_not_ask",
        ),
    ),
]
