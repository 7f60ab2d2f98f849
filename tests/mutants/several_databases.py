"""Mutants of several databases: messages, receipts and pages stay in their own database."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

TESTS = "tests/outbox/databases/"
SILENT = f"{TESTS}test_silent_database.py::"

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
                "    if text is None or _writes(text):\n",
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
        name="thread-of-a-start-during-an-outage",
        without="the only thread of `outbox work` waits for a database that is down, and the "
        "others wait, too",
        edits=(
            Edit(
                "outbox/transports/local.py",
                "            self.pool.release()\n            self._has_lent = True\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_delivering.py::TestAProcessWithoutABroker"
            "::test_lends_the_thread_of_a_start_while_its_database_cannot_be_reached",
        ),
    ),
    Mutant(
        name="hand-back-of-each-database",
        without="a stopped process hands nothing back to the other databases while one is down",
        edits=(
            Edit(
                "outbox/local/process.py",
                "            thread.start()\n        for thread in threads:\n"
                "            thread.join()\n\n"
                "    def _hand_back_last",
                "            thread.run()\n\n    def _hand_back_last",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_delivering.py::TestAProcessWithoutABroker"
            "::test_hands_back_what_waits_in_the_others_while_one_cannot_be_reached",
        ),
    ),
    Mutant(
        name="database-of-an-alert",
        without="the text and the commands of an alert do not name its database",
        edits=(
            Edit(
                "outbox/alerts/findings.py",
                "    if len(databases.listed()) < 2:\n        return problem\n",
                "    if True:\n        return problem\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_one_down.py::TestAnAlert"
            "::test_names_its_database_in_text_link_and_command",
        ),
    ),
    Mutant(
        name="metrics-of-the-others",
        without="`/metrics` fails for all databases while one is down",
        edits=(
            Edit(
                "outbox/metrics/each_database.py",
                "        _log_missing(using, error)\n",
                "        raise\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_one_down.py::TestTheMetricsWhileOneDatabaseIsDown"
            "::test_have_the_others_and_say_which_is_down",
        ),
    ),
    Mutant(
        name="metrics-beside-a-silent-database",
        without="`/metrics` waits for a database that does not answer",
        edits=(
            Edit(
                "outbox/metrics/asking.py",
                "        question.join(max(0.0, until - time.monotonic()))\n",
                "        while question.is_alive():\n            time.sleep(0.01)\n",
            ),
        ),
        noticed_by=(f"{SILENT}TestAScrape::test_has_the_numbers_of_the_others",),
    ),
    Mutant(
        name="one-thread-for-a-silent-database",
        without="each scrape during an outage leaves another thread that waits",
        edits=(
            Edit(
                "outbox/metrics/asking.py",
                "    return before is None or before.is_over\n",
                "    return True\n",
            ),
        ),
        noticed_by=(f"{SILENT}TestAScrape::test_starts_no_thread_while_an_earlier_one_waits",),
    ),
    Mutant(
        name="two-scrapes-at-a-time",
        without="of two scrapes at the same time, one reports databases as down that answer",
        edits=(Edit("outbox/metrics/asking.py", "if now < limits[name]}", "if False}"),),
        noticed_by=(f"{SILENT}TestTwoScrapesAtTheSameTime::test_have_all_answers",),
        hangs=True,
    ),
    Mutant(
        name="counts-of-each-database",
        without="a scrape stores the counts of one database after the other, and waits for each",
        edits=(
            Edit(
                "outbox/metrics/page.py",
                "    if len(databases.listed()) > 1:\n",
                "    counters.flush()\n    if len(databases.listed()) > 1:\n",
            ),
        ),
        noticed_by=(f"{SILENT}TestAScrape::test_stores_the_counts_of_the_others",),
    ),
    Mutant(
        name="connections-of-a-scrape",
        without="each scrape of several databases leaves a connection open to each",
        edits=(
            Edit(
                "outbox/metrics/asking.py",
                "            connections.close_all()\n",
                "            pass\n",
            ),
        ),
        noticed_by=(f"{SILENT}TestAScrape::test_closes_its_connections",),
    ),
    Mutant(
        name="commands-of-the-others",
        without="a command for all databases ends with the first one that is down",
        edits=(
            Edit(
                "outbox/management/cli/in_databases.py",
                "        except errors.EXPLAINED as error:\n",
                "        except ZeroDivisionError as error:\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_one_down.py::TestACommandWhileOneDatabaseIsDown"
            "::test_shows_the_others_and_names_it",
        ),
    ),
    Mutant(
        name="light-of-the-worst",
        without="the light shows the first database, and hides trouble of the others",
        edits=(
            Edit(
                "outbox/monitor/light.py",
                "    return min(found, key=lambda one: _SEVERITY.index(one[0].condition))\n",
                "    return found[0]\n",
            ),
        ),
        noticed_by=(f"{TESTS}test_one_down.py::TestTheLight::test_is_that_of_the_worst_database",),
    ),
    Mutant(
        name="alarm-of-an-older-release",
        without="deliveries that old workers hand back for ever raise no alarm",
        edits=(
            Edit(
                "outbox/monitor/unserved.py",
                "        Q(note__endswith=OLDER_RELEASE) | Q(note__startswith=REMOVED),\n",
                '        Q(note=""),\n',
            ),
        ),
        noticed_by=(
            "tests/outbox/deliveries/test_sync.py::TestAHandlerThatOnlyTheNextReleaseHas::test_raises_an_alarm_if_no_running_worker_has_it_for_long",
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
    Mutant(
        name="report-in-another-database",
        without="a report of a settlement is recorded in the source's database only",
        edits=(
            Edit(
                "outbox/sources/storing.py",
                "elsewhere = record_elsewhere(",
                "elsewhere = (lambda *_given, **_more: set())(",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_receiving.py::TestAReport::test_settles_an_event_of_another_database",
        ),
    ),
    Mutant(
        name="report-while-a-database-is-down",
        without="messages before a report that cannot be recorded are stored without it",
        edits=(
            Edit(
                "outbox/sources/storing.py",
                "if isinstance(error, ReportsNotRecorded) or is_transient(error, using=using):",
                "if is_transient(error, using=using):",
            ),
        ),
        noticed_by=(f"{TESTS}test_receiving.py::TestAReport::test_waits_with_the_whole_batch",),
    ),
    Mutant(
        name="report-beside-a-missing-migration",
        without="a report becomes a dead letter if the database of its event lacks a migration",
        edits=(
            Edit(
                "outbox/settlements/recording.py",
                "    except (Error, WaitGivenUp) as error:\n",
                "    except WaitGivenUp as error:\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_receiving.py::TestAReport"
            "::test_is_received_again_if_the_other_database_lacks_a_migration",
        ),
    ),
    Mutant(
        name="database-of-an-address",
        without="an HTTP source stores in the first database, whichever its address names",
        edits=(
            Edit(
                "outbox/sources/http.py",
                "    using = database or databases.alias()\n",
                "    using = databases.alias()\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_receiving.py::TestAnHttpSource"
            "::test_stores_in_the_database_of_its_address",
        ),
    ),
    Mutant(
        name="databases-of-a-source",
        without="a recorded request can be stored in each database, whatever its source lists",
        edits=(
            Edit(
                "outbox/sources/http.py",
                "    return database is None or database in _authenticity(config).databases\n",
                "    return database is None or database in databases.aliases()\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_receiving.py::TestAnHttpSource"
            "::test_refuses_a_database_that_the_source_may_not_name[default]",
        ),
    ),
]
