"""Mutants of tenants: each run of a handler has the tenant of its event, and no other one."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

TESTS = "tests/outbox/tenants/"
CELERY = "tests/outbox/celery_tasks/test_tenants.py::"
SOURCE = "tests/outbox/sources/test_tenants.py::"
AHEAD = "tests/outbox/relay/test_ahead.py::TestAPassWithAFullPage::"
RESTORE = f"{TESTS}test_restore.py::TestTheTenantOfAnEvent"

TENANTS = [
    Mutant(
        name="tenant-of-a-run",
        without="a handler runs without the tenant of its event",
        edits=(
            Edit(
                "outbox/worker/delivery.py",
                "        time_limit(handler.time_limit) as limit,\n"
                "        tenants.restored(delivery.event.tenant),\n"
                "    ):\n"
                "        calls.call(",
                "        time_limit(handler.time_limit) as limit,\n    ):\n        calls.call(",
            ),
        ),
        noticed_by=(f"{RESTORE}::test_is_current_in_its_handler[alone]",),
    ),
    Mutant(
        name="run-without-a-tenant",
        without="the handler of an event without a tenant has the tenant of its thread",
        edits=(
            Edit(
                "outbox/tenants.py",
                "    if conf().TENANT:\n        return",
                "    if conf().TENANT and tenant:\n        return",
            ),
        ),
        noticed_by=(f"{RESTORE}::test_is_current_before_and_in_the_receipt_of_a_handler",),
    ),
    Mutant(
        name="tenants-of-a-batch",
        without="deliveries of several tenants share a transaction, and the tenant of the first",
        edits=(
            Edit(
                "outbox/worker/batch.py",
                "        batch = _try(handler, _of_one_tenant(left), lease=lease, access=access)\n",
                "        batch = _try(handler, left, lease=lease, access=access)\n",
            ),
        ),
        noticed_by=(f"{RESTORE}::test_is_current_in_a_batch_of_several_tenants",),
    ),
    Mutant(
        name="tenants-of-a-call",
        without="a bulk call has deliveries of several tenants, and the tenant of the first",
        edits=(
            Edit(
                "outbox/worker/bulk.py",
                "    if not tenants.is_on() or tenants.is_of_all(handler.function):\n",
                "    if True:\n",
            ),
        ),
        noticed_by=(f"{RESTORE}::test_is_that_of_all_deliveries_of_a_bulk_call",),
    ),
    Mutant(
        name="tenant-of-a-callback",
        without="a callback of on_commit runs without its tenant's rights",
        edits=(
            Edit(
                "outbox/worker/callbacks.py",
                "    with databases.receipt_in(None), tenants.restored(event.tenant):\n",
                "    with databases.receipt_in(None):\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_row_security.py::TestRowLevelSecurity"
            "::test_applies_to_each_kind_of_handler[callback]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="session-of-a-batch",
        without="the variable of a tenant counts as state of a handler, so a batch runs one by one",
        edits=(
            Edit(
                "outbox/worker/batch.py",
                "        watch.is_set = False  #",
                "        pass  #",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_row_security.py::TestRowLevelSecurity"
            "::test_applies_to_each_kind_of_handler[batch]",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="schema-of-a-cursor",
        without="each run with django-tenants closes the connection",
        edits=(
            Edit(
                "outbox/worker/session_sql.py",
                'getattr(connection, "_setting_search_path", False)',
                "False",
            ),
        ),
        noticed_by=(
            "tests/outbox/worker/test_session_sql.py::TestTheSchemaOfDjangoTenants"
            "::test_is_set_by_the_backend_for_each_cursor",
        ),
    ),
    Mutant(
        name="suppressed-by-restore",
        without="a failed handler is done if the project's function suppresses its exception",
        edits=(
            Edit(
                "outbox/tenants.py",
                "        error = caught\n        raise\n",
                "        error = caught\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_restore.py::TestAHookThat"
            "::test_suppresses_an_exception_does_not_make_the_delivery_done",
        ),
    ),
    Mutant(
        name="tenant-of-a-correction",
        without="a corrected event has the tenant of the person who corrected it",
        edits=(
            Edit(
                "outbox/operations/corrections.py",
                "emission.store(fact, using=using, tenant=old.tenant)",
                "emission.store(fact, using=using)",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_capture.py::TestAnEvent::test_that_is_corrected_keeps_its_tenant",
        ),
    ),
    Mutant(
        name="tenant-of-a-delayed-event",
        without="a delayed event loses its tenant when it is due",
        edits=(Edit("outbox/relay/delayed.py", '    "tenant",\n', ""),),
        noticed_by=(f"{TESTS}test_capture.py::TestAnEvent::test_that_is_delayed_keeps_its_tenant",),
    ),
    Mutant(
        name="share-of-a-tenant",
        without="the backlog of one tenant fills the window of a handler",
        edits=(
            Edit(
                "outbox/emission.py",
                '        facts["share"] = facts["share"] or facts["tenant"]\n',
                "",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_shares.py::TestABacklogOfOneTenant"
            "::test_does_not_delay_the_event_of_another[backlog]",
        ),
    ),
    Mutant(
        name="dedupe-key-of-a-tenant",
        without="an event is not stored, because another tenant has used its deduplication key",
        edits=(
            Edit(
                "outbox/deduplication.py",
                "json.dumps([tenant, name, dedupe_key]) if tenant else",
                "json.dumps([tenant, name, dedupe_key]) if False else",
            ),
        ),
        noticed_by=(f"{TESTS}test_capture.py::TestADedupeKey::test_is_that_of_its_tenant",),
    ),
    Mutant(
        name="tenant-without-the-setting",
        without="a process without the setting runs a tenant's event without its tenant",
        edits=(
            Edit(
                "outbox/tenants.py", "    if tenant:\n        raise", "    if False:\n        raise"
            ),
        ),
        noticed_by=(
            f"{TESTS}test_restore.py::TestAProcessWithoutTheSetting"
            "::test_does_not_run_the_handler_of_an_event_with_a_tenant",
        ),
    ),
    Mutant(
        name="tenant-of-a-linked-task",
        without="a task that follows another one has the tenant of the worker",
        edits=(
            Edit(
                "outbox/celery_tasks/task.py",
                "            request.outbox_has_run = True\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{CELERY}TestATaskThatFollows::test_after_a_success_has_the_tenant_of_the_one_before",
            f"{CELERY}TestATaskThatFollows::test_in_a_chain_has_it_too",
            f"{CELERY}TestATaskThatFollows::test_after_a_failure_has_it_too",
        ),
    ),
    Mutant(
        name="tenant-of-a-finished-task",
        without="the end of a task of Django is announced within the tenant of the worker",
        edits=(
            Edit(
                "outbox/tasks_backend/finishing.py",
                "        with watch, tenants.restored(tenant):",
                "        with watch:",
            ),
        ),
        noticed_by=(
            "tests/outbox/tasks_backend/test_tenants.py::TestTheReceiverOfASignal"
            "::test_has_the_tenant_of_the_task",
        ),
    ),
    Mutant(
        name="tenant-of-a-message",
        without="a received message has the tenant of the process, whatever its mapper names",
        edits=(
            Edit(
                "outbox/sources/storing.py",
                "tenant=one.tenant or tenants.capture()",
                "tenant=tenants.capture()",
            ),
        ),
        noticed_by=(
            f"{SOURCE}TestAReceivedMessage::test_has_the_tenant_that_its_mapper_names",
            f"{SOURCE}TestTheHook::test_is_not_called_for_a_message_that_names_its_tenant",
        ),
    ),
    Mutant(
        name="dead-letter-of-a-hook",
        without="a message is stored as unreadable if the function for its tenant fails once",
        edits=(
            Edit(
                "outbox/sources/storing.py",
                "        if tenants.is_of_capture(error):",
                "        if False:",
            ),
        ),
        noticed_by=(f"{SOURCE}TestTheHook::test_that_fails_makes_no_dead_letter",),
    ),
    Mutant(
        name="tenant-of-a-subject",
        without="the subject of a failed event is looked for among the rows of another tenant",
        edits=(
            Edit(
                "outbox/privacy/cleaning.py",
                "        return {str(value) for subject in subjects_of(event)",
                "        with tenants.restored(None):\n            found = subjects_of(event)\n"
                "        return {str(value) for subject in found",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_personal_data.py::TestAFailure::test_is_masked_by_the_rows_of_the_tenant",
        ),
    ),
    Mutant(
        name="redaction-in-each-tenant",
        without="a redaction reads the rows of no tenant, and leaves the events of all",
        edits=(
            Edit(
                "outbox/privacy/all_tenants.py",
                "(None, *all_known(using=using)) if tenants.is_on() else (None,)\n",
                "(None,)\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_personal_data.py::TestARedaction::test_finds_the_events_of_each_tenant",
            f"{TESTS}test_personal_data.py::TestARedaction::test_masks_the_names_of_each_tenant",
        ),
    ),
    Mutant(
        name="fan-out-ahead",
        without="the events of a tenant wait until the backlog of another one is fanned out",
        edits=(Edit("outbox/relay/ahead.py", "    if not seqs:\n", "    if seqs:\n"),),
        noticed_by=(f"{AHEAD}test_takes_the_event_of_another_owner_too",),
    ),
    Mutant(
        name="fan-out-ahead-in-order",
        without="an event ahead of a backlog passes an earlier one of its key",
        edits=(
            Edit(
                "outbox/relay/ahead.py",
                "    return [one for one in events if firsts.get(one.key, one.seq) == one.seq]\n",
                "    return events if firsts else []\n",
            ),
        ),
        noticed_by=(f"{AHEAD}test_keeps_the_order_of_a_key",),
    ),
    Mutant(
        name="fan-out-ahead-of-few",
        without="the owner with the backlog also has its newest events fanned out ahead",
        edits=(Edit("outbox/relay/ahead.py", " if len(seqs) <= few", ""),),
        noticed_by=(f"{AHEAD}test_takes_no_newer_events_of_the_owner_with_the_backlog",),
    ),
    Mutant(
        name="fan-out-ahead-by-one-relay",
        without="two relays fan out the same event ahead of a backlog, and one of the passes fails",
        edits=(
            Edit(
                "outbox/relay/backlog.py",
                "    lock = locking(using=using, skip_locked=True)\n"
                '    return Statement(f"{_WAITING} AND e.seq IN',
                '    lock = str()\n    return Statement(f"{_WAITING} AND e.seq IN',
            ),
        ),
        noticed_by=(
            "tests/outbox/relay/test_ahead.py::TestSeveralRelays::test_fan_out_each_event_once",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="subscriptions-of-events-ahead",
        without="an event ahead of a backlog misses a subscription that was just added",
        edits=(
            Edit(
                "outbox/relay/passes.py",
                "            are_all = not others and not ahead",
                "            are_all = not others",
            ),
        ),
        noticed_by=(f"{AHEAD}test_finds_the_subscription_that_was_stored_before_the_event",),
    ),
]
