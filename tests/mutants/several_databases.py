"""Mutants of several databases: messages, receipts and pages stay in their own database."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

TESTS = "tests/outbox/databases/"

SEVERAL_DATABASES = [
    Mutant(
        name="database-of-a-message",
        without="a worker runs the messages of all databases in the default one",
        edits=(
            Edit(
                "outbox/tasks.py",
                "    using = database or databases.aliases()[0]\n",
                "    using = databases.aliases()[0]\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_delivering.py::TestAMessageOfCelery::test_is_run_in_its_database",
        ),
    ),
    Mutant(
        name="pairs-for-an-old-worker",
        without="a worker of an earlier release runs deliveries of another database",
        edits=(
            Edit(
                "outbox/transports/celery_broker.py",
                "    if message.database == databases.aliases()[0]:\n",
                "    if True:\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_delivering.py::TestAMessageOfCelery"
            "::test_has_no_pairs_for_a_worker_that_knows_only_the_default_database",
        ),
    ),
    Mutant(
        name="unlisted-database",
        without="a worker runs a message of a database that its settings do not list",
        edits=(
            Edit(
                "outbox/tasks.py", "    if using not in databases.aliases():\n", "    if False:\n"
            ),
        ),
        noticed_by=(
            f"{TESTS}test_delivering.py::TestAMessageOfCelery"
            "::test_for_an_unlisted_database_starts_nothing",
        ),
    ),
    Mutant(
        name="write-beside-the-receipt",
        without="a handler writes to another database, and its receipt rolls back",
        edits=(
            Edit(
                "outbox/deliveries/beside.py",
                "    if isinstance(text, str) and _WRITE.match(text):\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(f"{TESTS}test_emission.py::TestAHandler::test_may_not_write_elsewhere",),
    ),
    Mutant(
        name="event-beside-the-receipt",
        without="a handler emits into another database, and its receipt rolls back",
        edits=(
            Edit(
                "outbox/databases.py", "    if receipt not in (None, using):\n", "    if False:\n"
            ),
        ),
        noticed_by=(f"{TESTS}test_emission.py::TestAHandler::test_may_not_emit_elsewhere",),
    ),
    Mutant(
        name="several-transactions",
        without="an event is stored in the first of several databases with an open transaction",
        edits=(Edit("outbox/databases.py", "    if len(found) > 1:\n", "    if False:\n"),),
        noticed_by=(
            f"{TESTS}test_emission.py::TestEmit"
            "::test_names_the_databases_if_several_have_a_transaction",
        ),
    ),
    Mutant(
        name="database-of-a-page",
        without="a button acts on the default database, whichever the page shows",
        edits=(
            Edit(
                "outbox/admin/in_database.py",
                "        with databases.working_on(using):\n",
                "        with databases.working_on(known[0]):\n",
            ),
        ),
        noticed_by=(f"{TESTS}test_monitor.py::TestAPage::test_acts_only_on_its_database",),
    ),
    Mutant(
        name="action-on-a-replica",
        without="a button acts on the replica that its page has read",
        edits=(
            Edit(
                "outbox/admin/in_database.py",
                'is_read = request.method in ("GET", "HEAD") and not',
                "is_read = not",
            ),
        ),
        noticed_by=(f"{TESTS}test_replica_pages.py::TestAPage::test_acts_on_the_primary",),
    ),
    Mutant(
        name="arrival-in-another-shard",
        without="a killed handler stores an event in another shard twice",
        edits=(
            Edit(
                "tests/outbox/shards/stock/handlers.py",
                "emit(arrived, using=to, dedupe_key=str(event_id))",
                "emit(arrived, using=to)",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_transfers.py::TestATransferBetweenTwoShards"
            "::test_arrives_once_while_workers_are_killed",
        ),
    ),
]
