"""The safety parts of tasks that are stored with the transaction."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

TASK = "tests/outbox/celery_tasks/test_task.py::"
ENDS = "tests/outbox/celery_tasks/test_ends_of_refusals.py::"
REFUSED = "tests/outbox/celery_tasks/test_refused_queues.py::"
UNCONFIRMED = "tests/outbox/celery_tasks/test_unconfirmed_sends.py::"
SENDING = "tests/outbox/celery_tasks/test_sending.py::"

CELERY_TASKS = [
    Mutant(
        name="stored-call",
        without="a call in a transaction sends the task at once",
        edits=(
            Edit(
                "outbox/celery_tasks/task.py",
                'if options.get("retries") or app.conf.task_always_eager:',
                "if True:",
            ),
        ),
        noticed_by=(
            f"{TASK}TestACallInATransaction::test_is_sent_after_the_commit",
            f"{TASK}TestACallInATransaction::test_is_not_sent_after_a_rollback",
        ),
    ),
    Mutant(
        name="id-of-a-stored-call",
        without="each message of a stored call has a task id of its own",
        edits=(
            Edit(
                "outbox/celery_tasks/sending.py",
                '            task_id=stored["task_id"],\n',
                "",
            ),
        ),
        noticed_by=(f"{TASK}TestASecondDelivery::test_has_the_same_task_id",),
    ),
    Mutant(
        name="retry-of-a-task",
        without="a retry is stored, so the rollback around it removes it",
        edits=(
            Edit(
                "outbox/celery_tasks/task.py",
                'if options.get("retries") or app.conf.task_always_eager:',
                "if app.conf.task_always_eager:",
            ),
        ),
        noticed_by=(f"{SENDING}TestARetry::test_is_sent_at_once",),
    ),
    Mutant(
        name="chord-of-stored-calls",
        without="a chord may count the messages of stored calls, which may be sent twice",
        edits=(Edit("outbox/celery_tasks/options.py", '    "chord": (', '    "no chord": ('),),
        noticed_by=(f"{TASK}TestACanvas::test_refuses_a_chord_of_stored_tasks",),
    ),
    Mutant(
        name="refused-queue",
        without="a queue that the broker refuses counts as an outage of the broker",
        edits=(
            Edit(
                "outbox/celery_tasks/sending.py",
                "    if isinstance(cause, connection.channel_errors):\n        return False\n",
                "",
            ),
        ),
        noticed_by=(f"{SENDING}TestAQueueThatIsRefused::test_fails_only_its_own_calls",),
    ),
    Mutant(
        name="interrupted-send",
        without="a send that is interrupted keeps its place in kombu's pool of producers",
        edits=(
            Edit(
                "outbox/celery_tasks/sending.py",
                "    with producer(app) as taken, tracing",
                "    from kombu.pools import producers\n\n"
                "    pool = producers[own_connection(app)]\n"
                "    with pool.acquire(block=True, timeout=1) as taken, tracing",
            ),
        ),
        noticed_by=(
            f"{UNCONFIRMED}TestASendThatIsInterrupted::test_takes_no_producer_from_later_sends",
        ),
    ),
    Mutant(
        name="idle-connections-of-a-failure",
        without="after a restart of the broker, each idle connection fails a send of its own",
        edits=(Edit("outbox/transports/celery_producers.py", "        _abandon_all(idle)\n", ""),),
        noticed_by=(f"{UNCONFIRMED}TestAConnectionThatFails::test_takes_idle_ones_with_it",),
    ),
    Mutant(
        name="unconfirmed-queue",
        without="a queue for which RabbitMQ takes nothing counts as an outage of the broker",
        edits=(
            Edit(
                "outbox/celery_tasks/sending.py",
                "            self._blame_queue(error, _queue_of(self._app, event))\n",
                "",
            ),
        ),
        noticed_by=(f"{UNCONFIRMED}TestAQueueThatTakesNothing::test_fails_only_its_own_calls",),
    ),
    Mutant(
        name="queue-without-a-leader",
        without="a queue without a leader stops the relay's messages to all other queues",
        edits=(
            Edit(
                "outbox/relay/publishing.py",
                "            if isinstance(error, QueueUnavailable):",
                "            if False:",
            ),
        ),
        noticed_by=(
            "tests/outbox/relay/test_publishing.py::TestABrokerThatRefusesOneQueue::"
            "test_that_only_lacks_a_leader_delays_no_other_queue",
        ),
    ),
    Mutant(
        name="report-of-a-refused-queue",
        without="a queue that takes no message is only in the log",
        edits=(
            Edit(
                "outbox/transports/celery_queues.py",
                "    celery_refusals.note(queue, cause, using=using)\n    what",
                "    what",
            ),
        ),
        noticed_by=(
            f"{REFUSED}TestAQueueThatRefusesTheRelay::test_is_reported_with_process_cause_and_time",
            f"{REFUSED}TestAQueueThatRefusesATask::test_is_reported_until_it_takes_a_task",
        ),
        hangs=True,
    ),
    Mutant(
        name="end-of-a-refusal",
        without="a queue that takes messages again is reported for ever",
        edits=(
            Edit(
                "outbox/transports/celery_queues.py",
                "        celery_refusals.note_accepted(queue, using=using)\n",
                "        pass\n",
            ),
        ),
        noticed_by=(
            f"{REFUSED}TestAQueueThatRefusesTheRelay::test_is_over_when_it_takes_a_message",
        ),
        hangs=True,
    ),
    Mutant(
        name="refusals-of-another-broker",
        without="a relay with Redis or SQS reads the heartbeats of refused processes",
        edits=(
            Edit(
                "outbox/transports/celery_queues.py",
                "    if may_refuse(app):\n",
                "    if True:\n",
            ),
        ),
        noticed_by=(f"{ENDS}TestAnotherBroker::test_is_not_asked_for_refusals",),
    ),
    Mutant(
        name="end-of-the-refusals-of-others",
        without="a process that may never send to the queue again reports it for ever",
        edits=(
            Edit(
                "outbox/transports/celery_refusals.py",
                "    _refusals.keeper(using).end_others(queue)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{REFUSED}TestAQueueThatRefusesTheRelay"
            "::test_is_over_for_other_processes_when_it_takes_a_message_of_this_one",
        ),
        hangs=True,
    ),
    Mutant(
        name="message-before-the-refusals-were-read",
        without="a queue is reported until its next message if it took one between two reads",
        edits=(
            Edit(
                "outbox/transports/refusal_keeper.py",
                "            self._accepted[queue] = time.monotonic()\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{ENDS}TestARefusal::test_is_over_when_the_message_came_before_the_refusals_were_read",
        ),
        hangs=True,
    ),
    Mutant(
        name="full-queue",
        without="the report of a full queue ends with each message that it takes",
        edits=(
            Edit(
                "outbox/transports/refusal_keeper.py",
                "if one.is_accepted and one.latest <= latest:",
                "if one.is_accepted:",
            ),
        ),
        noticed_by=(f"{ENDS}TestARefusal::test_is_not_over_while_it_refuses_some_of_the_messages",),
    ),
    Mutant(
        name="refusals-of-a-process-that-ended",
        without="the queues that a stopped process was refused are shown for ever",
        edits=(
            Edit(
                "outbox/monitor/health.py",
                "refused_queues(row for row in senders if self._is_fresh(row))",
                "refused_queues(senders)",
            ),
        ),
        noticed_by=(
            f"{REFUSED}TestAQueueThatRefusesTheRelay"
            "::test_is_not_shown_for_a_process_that_has_ended",
        ),
    ),
    Mutant(
        name="refused-nudge",
        without="a nudge that RabbitMQ refuses is only in the log",
        edits=(
            Edit(
                "outbox/transports/celery_broker.py",
                "            _report_refusal(error)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{REFUSED}TestANudgeThatIsRefused"
            "::test_is_reported_in_each_database_until_one_is_taken",
        ),
        hangs=True,
    ),
]
