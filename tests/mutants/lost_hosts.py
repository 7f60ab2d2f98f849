"""Options of connections with which a lost host is noticed."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

_OPTIONS = "outbox/lost_hosts.py"
_CHECKS = "tests/outbox/test_lost_host_checks.py::"
_CONNECTION = "tests/outbox/transports/test_celery_settings.py::TestTheConnection::"

LOST_HOSTS = [
    Mutant(
        name="unacknowledged-statement",
        without="a statement to a lost PostgreSQL waits for a quarter of an hour",
        edits=(Edit(_OPTIONS, '        "tcp_user_timeout": ACKNOWLEDGE_MILLISECONDS,\n', ""),),
        noticed_by=(f"{_CHECKS}TestPostgreSQLOnAnotherHost::test_with_all_options_has_no_problem",),
    ),
    Mutant(
        name="silent-postgresql",
        without="a process waits two hours for the answer of a lost PostgreSQL",
        edits=(Edit(_OPTIONS, '        "keepalives_idle": IDLE_SECONDS,\n', ""),),
        noticed_by=(f"{_CHECKS}TestPostgreSQLOnAnotherHost::test_with_all_options_has_no_problem",),
    ),
    Mutant(
        name="beat-connects-again",
        without="beat sends no task after RabbitMQ has closed its connection",
        edits=(Edit("outbox/celery.py", "app.conf.task_publish_retry = True", "pass"),),
        noticed_by=(
            "tests/outbox/deliveries/test_heartbeat.py::"
            "TestTheProcessOfBeat::test_publishes_with_retries",
        ),
    ),
    Mutant(
        name="writable-host",
        without="one of several hosts of PostgreSQL may be a standby",
        edits=(Edit(_OPTIONS, '{**options, "target_session_attrs": "read-write"}', "options"),),
        noticed_by=(f"{_CHECKS}TestSeveralHosts::test_are_no_problem_with_all_options",),
    ),
    Mutant(
        name="next-sentinel",
        without="the relay asks a lost Sentinel eleven times before the next one",
        edits=(Edit(_OPTIONS, '            "retry": None,\n', ""),),
        noticed_by=(f"{_CONNECTION}test_asks_the_next_sentinel_if_one_does_not_answer",),
    ),
    Mutant(
        name="next-node-of-rabbitmq",
        without="the relay sends nothing while the first of several RabbitMQ nodes is lost",
        edits=(
            Edit(
                "outbox/transports/celery_settings.py",
                "rabbitmq_options(nodes=_number_of_hosts(connection))",
                "rabbitmq_options()",
            ),
        ),
        noticed_by=(f"{_CONNECTION}test_has_time_for_each_node_of_rabbitmq",),
    ),
]
