"""Async handlers and deduplication keys."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

RUN = "tests/outbox/worker/test_coroutines.py::"
HANGS = f"{RUN}TestAnAsyncHandlerThatHangs::"
KEYS = "tests/outbox/test_deduplication.py::"
SOURCE = "outbox/worker/coroutines.py"
KEY_SOURCE = "outbox/deduplication.py"

COROUTINES = [
    Mutant(
        name="queries-of-a-coroutine",
        without="an async handler writes outside of its delivery's transaction",
        edits=(
            Edit(
                SOURCE,
                "        AsyncToSync.loop_thread_executors[self._loop] = executor\n",
                "        AsyncToSync.loop_thread_executors[self._loop] = self.pool\n",
            ),
        ),
        noticed_by=(
            f"{RUN}TestAnAtomicAsyncHandler::test_emits_in_its_transaction_with_its_cause"
            "[main thread]",
        ),
    ),
    Mutant(
        name="cancelled-again",
        without="a coroutine that swallows its cancellation continues",
        edits=(
            Edit(
                SOURCE,
                "            task.cancel()\n\n    def raise_error",
                "            if not task.cancelling():\n                task.cancel()\n\n"
                "    def raise_error",
            ),
        ),
        noticed_by=(f"{HANGS}test_is_cancelled_again_after_a_swallowed_cancellation[main thread]",),
    ),
    Mutant(
        name="tasks-of-a-coroutine",
        without="a task that a handler created continues after its delivery",
        edits=(Edit(SOURCE, "        left = self._loop.tasks()\n", "        left = set()\n"),),
        noticed_by=(
            f"{HANGS}test_ends_the_tasks_that_it_created[main thread]",
            f"{RUN}TestAnAsyncHandlerThatEnds::test_cancels_its_other_tasks",
        ),
    ),
    Mutant(
        name="threads-of-a-coroutine",
        without="a call in a thread continues after its delivery",
        edits=(
            Edit(
                SOURCE,
                "        if not left and not self._loop.pool.calls:\n",
                "        if not left:\n",
            ),
        ),
        noticed_by=(f"{RUN}TestAnAsyncHandlerThatEnds::test_waits_for_its_calls_in_threads",),
    ),
    Mutant(
        name="blocked-loop",
        without="a coroutine that blocks its event loop is never interrupted",
        edits=(Edit(SOURCE, "        guard.restart()\n", ""),),
        noticed_by=(f"{HANGS}test_is_interrupted_while_it_blocks_the_loop[main thread]",),
    ),
    Mutant(
        name="coroutine-within-a-query",
        without="a coroutine that sync code of an async handler waits for is never cancelled",
        edits=(
            Edit(SOURCE, "for task in self._loop.tasks() - {self._main}:", "for task in set():"),
        ),
        noticed_by=(f"{HANGS}test_is_cancelled_within_a_call_of_async_to_sync[other thread]",),
    ),
    Mutant(
        name="loop-of-an-async-handler",
        without="async_to_sync in a sync handler uses the loop of async handlers",
        edits=(
            Edit(
                SOURCE, "        SyncToAsync.threadlocal.main_event_loop = None\n", "        pass\n"
            ),
        ),
        noticed_by=(f"{RUN}TestOtherAsyncHandlers::test_leave_no_loop_to_sync_handlers",),
    ),
    Mutant(
        name="dedupe-key-of-a-pruned-event",
        without="a key is used for ever once an earlier release has pruned its event",
        edits=(
            Edit(
                KEY_SOURCE,
                "        if first is not None:\n            _compare(first, facts)\n"
                "            return first.id\n",
                "        if first is None:\n            return used_by\n"
                "        _compare(first, facts)\n        return first.id\n",
            ),
        ),
        noticed_by=(
            f"{KEYS}TestADedupeKey::test_is_unused_if_an_earlier_release_has_pruned_its_event",
        ),
    ),
    Mutant(
        name="dedupe-key-of-another-aggregate",
        without="an event of another aggregate is dropped because its key was used",
        edits=(Edit(KEY_SOURCE, '    if first.key != facts["key"]:\n', "    if False:\n"),),
        noticed_by=(f"{KEYS}TestAnotherEventWithTheKey::test_of_another_aggregate_is_refused",),
    ),
    Mutant(
        name="dedupe-key-before-the-event",
        without="two transactions store two events for one key",
        edits=(
            Edit(
                KEY_SOURCE,
                '    while not _insert(digest, facts["id"], using=using):\n',
                "    if not keys.filter(pk=digest).exists():\n        return None\n"
                '    while not _insert(digest, facts["id"], using=using):\n',
            ),
        ),
        noticed_by=(f"{KEYS}TestADedupeKey::test_stores_one_event_and_returns_its_id",),
    ),
    Mutant(
        name="dedupe-key-of-a-due-event",
        without="a second event is stored for a key while its delayed event becomes due",
        edits=(Edit(KEY_SOURCE, '("DelayedEvent", "Event")', '("Event", "DelayedEvent")'),),
        noticed_by=(
            f"{KEYS}TestTwoTransactionsWithAKey"
            "::test_store_one_event_while_a_delayed_one_becomes_due",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="unused-dedupe-keys",
        without="the keys of events that an earlier release pruned stay for ever",
        edits=(Edit(KEY_SOURCE, "set(page).difference(stored)", "set()"),),
        noticed_by=(
            f"{KEYS}TestADedupeKey::test_is_deleted_if_an_earlier_release_has_pruned_its_event",
        ),
    ),
]
