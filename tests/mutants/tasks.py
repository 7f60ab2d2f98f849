"""The safety parts of Django's tasks: refusals, priorities, return values, and lost tasks."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

_ENQUEUE = "tests/outbox/tasks_backend/test_enqueue.py::"
_RUNNING = "tests/outbox/tasks_backend/test_running.py::"
_PRIORITIES = "tests/outbox/tasks_backend/test_priorities.py::"
_RETENTION = "tests/outbox/tasks_backend/test_retention.py::"

TASKS = [
    Mutant(
        name="task-without-a-subscription",
        without="a task of a queue that no `migrate` has seen is stored, and never runs",
        edits=(
            Edit(
                "outbox/tasks_backend/backend.py",
                "            _refuse_without_subscription(queue, using=using)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{_ENQUEUE}TestARefusal::test_of_a_queue_without_a_subscription_names_the_command",
        ),
    ),
    Mutant(
        name="task-that-no-worker-imports",
        without="a task whose path leads nowhere is stored",
        edits=(
            Edit(
                "outbox/tasks_backend/backend.py",
                "        task_of(event)  # a worker imports it by its path\n",
                "",
            ),
            Edit(
                "outbox/tasks_backend/backend.py",
                "result_of(emit(event, delay=delay), event)",
                "emit(event, delay=delay)  # type: ignore[assignment]",
            ),
        ),
        noticed_by=(f"{_ENQUEUE}TestARefusal::test_of_a_task_that_no_worker_could_import",),
    ),
    Mutant(
        name="task-object",
        without="any function at the path of a stored task is called",
        edits=(
            Edit(
                "outbox/tasks_backend/results.py",
                "    if not isinstance(found, Task):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(
            f"{_RUNNING}TestATaskThatThisCodeLacks"
            "::test_because_the_name_is_another_object_is_never_called",
        ),
    ),
    Mutant(
        name="task-that-is-missing",
        without="a task that no release has is tried for much longer than ten minutes",
        edits=(
            Edit(
                "outbox/tasks_backend/running.py",
                "if missed < _DEPLOY_ATTEMPTS - 1 else PermanentFailure\n",
                "if missed < 50 else PermanentFailure\n",
            ),
        ),
        noticed_by=(
            f"{_RUNNING}TestATaskThatThisCodeLacks::test_waits_for_a_deploy_and_is_then_dead",
        ),
    ),
    Mutant(
        name="task-return-value-in-the-receipt",
        without="the return value of a task is stored before its receipt",
        edits=(
            Edit(
                "outbox/tasks_backend/registration.py",
                "        with receipt:\n            running.store(ran)\n",
                "        running.store(ran)\n        with receipt:\n            pass\n",
            ),
        ),
        noticed_by=(
            f"{_RUNNING}TestTheTransactionOfATask::test_has_its_return_value_and_its_receipt",
        ),
    ),
    Mutant(
        name="task-return-value-that-is-no-json",
        without="a task that has run is run again, since its return value cannot be stored",
        edits=(
            Edit(
                "outbox/tasks_backend/running.py",
                '        raise PermanentFailure(\n            f"{path} returned',
                '        raise TypeError(\n            f"{path} returned',
            ),
        ),
        noticed_by=(f"{_RUNNING}TestATaskThatFails::test_by_its_return_value_has_run_once",),
    ),
    Mutant(
        name="task-that-exits",
        without="a task that raises SystemExit ends its worker",
        edits=(
            Edit(
                "outbox/tasks_backend/running.py",
                "    except (SystemExit, CancelledError) as error:\n",
                "    except CancelledError as error:\n",
            ),
        ),
        noticed_by=(
            f"{_RUNNING}TestATaskThatFails::test_by_system_exit_leaves_the_worker_running",
        ),
    ),
    Mutant(
        name="task-priority",
        without="due tasks are claimed by their time only",
        edits=(
            Edit(
                "outbox/deliveries/priorities.py",
                '"priority DESC, due_at, id"',
                '"due_at, id"',
            ),
        ),
        noticed_by=(
            f"{_PRIORITIES}TestATaskOfAHigherPriority::test_is_claimed_before_earlier_ones",
        ),
    ),
    Mutant(
        name="task-priority-of-new-deliveries",
        without="of more new tasks than a window has room for, the oldest are sent",
        edits=(
            Edit(
                "outbox/relay/fan_out.py",
                "        if number < len(pending) and row.has_priorities:\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{_PRIORITIES}TestATaskOfAHigherPriority"
            "::test_is_claimed_first_of_those_that_arrive_in_one_pass",
        ),
    ),
    Mutant(
        name="task-without-a-priority",
        without="a task that a relay of the release before fanned out is never sent",
        edits=(
            Edit(
                "outbox/deliveries/priorities.py",
                '        ("IS NULL", "due_at, id"),\n',
                "",
            ),
        ),
        noticed_by=(
            f"{_PRIORITIES}TestADeliveryWithoutAPriority::test_is_claimed_after_the_others",
        ),
    ),
    Mutant(
        name="task-return-value-in-the-archive",
        without="the return value of a task, which may be personal data, is archived",
        edits=(
            Edit(
                "outbox/retention/archive.py",
                '    return {"returned": row.returned if conf().ARCHIVE_SENSITIVE else None}\n',
                '    return {"returned": row.returned}\n',
            ),
        ),
        noticed_by=(f"{_RETENTION}TestPersonalData::test_in_a_return_value_is_not_archived",),
    ),
]
