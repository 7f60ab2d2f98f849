"""Mutants of processes without a broker: what they claim, hand back and wake for."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

OUTBOX = "tests/outbox/"
POOL = f"{OUTBOX}transports/test_pool.py::TestAPool::"
INTAKE = f"{OUTBOX}relay/test_intake.py::TestARelayWithAnIntake::"
PROCESS = f"{OUTBOX}transports/test_local.py::TestAProcessWithoutABroker::"
SUPERVISOR = f"{OUTBOX}local/test_supervisor.py::"
WAKE_UP = f"{OUTBOX}transports/test_wake_up.py::"

LOCAL = [
    Mutant(
        name="slots-of-a-process",
        without="a process claims more messages than its threads can start soon",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "fits.append(slots.left >= needed)",
                "fits.append(True)",
            ),
        ),
        noticed_by=(
            f"{INTAKE}test_counts_a_message_for_each_delivery_that_has_failed_before",
            f"{INTAKE}test_counts_a_message_for_each_share",
        ),
    ),
    Mutant(
        name="queues-of-a-process",
        without="a process claims deliveries of a queue that it does not serve",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "slots if intake.serves(one.row.queue) else none",
                "slots",
            ),
        ),
        noticed_by=(f"{INTAKE}test_leaves_a_queue_that_it_does_not_serve_to_others",),
    ),
    Mutant(
        name="backlogs-of-a-process",
        without="the backlog of one handler takes all messages of a process",
        edits=(
            Edit(
                "outbox/relay/dispatch.py",
                "        given = -(-slots.left // left)\n",
                "        given = slots.left\n",
            ),
        ),
        noticed_by=(f"{INTAKE}test_shares_its_messages_between_backlogs",),
    ),
    Mutant(
        name="thread-of-a-start",
        without="a delivery that a pass has started waits behind a message",
        edits=(
            Edit(
                "outbox/transports/pool.py",
                "self._running + self._reserved < self.size",
                "self._running < self.size",
            ),
        ),
        noticed_by=(f"{POOL}test_keeps_a_reserved_thread_idle_for_its_item",),
    ),
    Mutant(
        name="thread-of-a-lost-start",
        without="the thread of a start that was rolled back stays reserved",
        edits=(
            Edit(
                "outbox/transports/local.py",
                "        elif was_started and self.started is None and not has_lent:\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(f"{PROCESS}test_releases_the_thread_of_a_start_that_was_rolled_back",),
    ),
    Mutant(
        name="start-of-an-unknown-handler",
        without="during a deploy, a process starts deliveries of a handler of the next release",
        edits=(
            Edit(
                "outbox/transports/local.py",
                "self.pool.is_idle and find(handler) is not None",
                "self.pool.is_idle",
            ),
        ),
        noticed_by=(f"{PROCESS}test_starts_no_delivery_of_a_handler_that_it_does_not_have",),
    ),
    Mutant(
        name="started-delivery-of-an-unknown-handler",
        without="a started delivery whose handler this code lacks counts as a worker's death",
        edits=(
            Edit(
                "outbox/worker/delivery.py",
                "        access.run(back)\n        return []\n    if hand_back_unfit",
                "        return []\n    if hand_back_unfit",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_inline.py::TestADeliveryThatIsStartedAtItsCreation"
            "::test_is_released_by_code_that_lacks_its_handler",
        ),
    ),
    Mutant(
        name="ahead-of-slow-messages",
        without="messages wait for a thread that runs a slow one",
        edits=(
            Edit(
                "outbox/transports/pool.py",
                "ahead = 0 if is_still else self._ahead",
                "ahead = self._ahead",
            ),
        ),
        noticed_by=(f"{POOL}test_takes_none_while_its_threads_do_not_move",),
    ),
    Mutant(
        name="hand-back-at-a-stop",
        without="what waits in a stopped process is due only after its lease",
        edits=(
            Edit(
                "outbox/transports/local.py",
                "        retry_transient(back, using=self._using)\n",
                "        back.keywords.clear()\n",
            ),
        ),
        noticed_by=(f"{PROCESS}test_hands_back_what_waits_when_it_stops",),
    ),
    Mutant(
        name="repeated-pass",
        without="due deliveries wait for the poll if the last thread ended during the pass",
        edits=(
            Edit(
                "outbox/transports/local.py",
                "        if self.pool.ended != self._ended:\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{OUTBOX}transports/test_local.py::TestAPassThatFoundNoFreeThread"
            "::test_is_repeated_if_the_last_item_ended_meanwhile",
        ),
    ),
    Mutant(
        name="own-relay",
        without="an event of a handler does not nudge the relay of its own process",
        edits=(
            Edit(
                "outbox/transports/nudge.py",
                "(_own_relay is not None and _own_relay(using))",
                "_own_relay is not None",
            ),
        ),
        noticed_by=(
            f"{WAKE_UP}TestAnEventOfAHandler"
            "::test_nudges_the_relay_of_its_process_and_no_other_one",
        ),
    ),
    Mutant(
        name="listen-again",
        without="a process whose session was cut is never woken again",
        edits=(
            Edit(
                "outbox/transports/notifications.py",
                "                    self._stopping.wait(_PAUSE_SECONDS)\n",
                "                    self._stopping.wait()\n",
            ),
        ),
        noticed_by=(f"{WAKE_UP}TestAListener::test_listens_again_after_its_connection_was_cut",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="silent-network",
        without="a process whose network was cut silently is not woken for a quarter of an hour",
        edits=(
            Edit(
                "outbox/transports/notifications.py",
                "                    _require_answer(session)\n",
                '                    session.execute("SELECT 1")\n',
            ),
        ),
        noticed_by=(f"{WAKE_UP}TestAListener::test_listens_again_if_its_network_is_silent",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="look-that-failed",
        without="on SQLite a commit is not seen if the look after it failed",
        edits=(Edit("outbox/transports/commits.py", "version = 0  # look", "pass  # look"),),
        noticed_by=(f"{WAKE_UP}TestACommitWatcher::test_looks_again_after_a_look_that_failed",),
    ),
    Mutant(
        name="lost-supervisor",
        without="a process works for ever if its supervisor was gone before it began",
        edits=(
            Edit(
                "outbox/local/process.py",
                "        self._parent = parent\n",
                "        self._parent = os.getppid() if parent else None\n",
            ),
        ),
        noticed_by=(
            f"{SUPERVISOR}TestAProcessOfASupervisor"
            "::test_stops_if_its_supervisor_was_gone_before_it_began",
        ),
    ),
    Mutant(
        name="failed-fork",
        without="all processes end if one cannot be started",
        edits=(Edit("outbox/local/supervisor.py", "except OSError as", "except KeyError as"),),
        noticed_by=(f"{SUPERVISOR}TestASupervisor::test_tries_again_if_no_process_can_be_started",),
    ),
    Mutant(
        name="hopeless-supervisor",
        without="a supervisor goes on for ever although no process can begin",
        edits=(
            Edit("outbox/local/supervisor.py", "                self._give_up_if_hopeless()\n", ""),
        ),
        noticed_by=(
            f"{SUPERVISOR}TestASupervisor"
            "::test_gives_up_if_each_process_fails_soon_after_its_start",
        ),
    ),
    Mutant(
        name="killed-processes",
        without="a supervisor gives up if handlers kill their processes",
        edits=(Edit("outbox/local/supervisor.py", "if status > 0 and not", "if status and not"),),
        noticed_by=(
            f"{SUPERVISOR}TestASupervisor::test_goes_on_if_its_processes_are_killed_or_end",
        ),
    ),
    Mutant(
        name="interrupted-stop",
        without="a stop that interrupts deliveries has the status of any stop",
        edits=(
            Edit(
                "outbox/local/supervisor.py",
                "self._is_clean &= os.waitstatus_to_exitcode(status) in _CLEAN",
                "_ = status",
            ),
        ),
        noticed_by=(
            f"{SUPERVISOR}TestASupervisor::test_reports_a_process_that_ended_before_its_deliveries",
        ),
    ),
    Mutant(
        name="output-of-a-process",
        without="what a handler has printed is lost when its process ends",
        edits=(
            Edit(
                "outbox/local/supervisor.py",
                "            _flush()  # os._exit drops what Python has buffered\n",
                "",
            ),
        ),
        noticed_by=(f"{SUPERVISOR}TestAProcessOfASupervisor::test_writes_what_it_has_printed",),
    ),
    Mutant(
        name="signal-during-an-outage",
        without="a process does not notice a signal while the database is away",
        edits=(
            Edit(
                "outbox/local/process.py",
                "            while not self._is_stop_requested():\n                pass\n",
                "            while not self._is_stop_requested():\n"
                "                for using in self._transport.each:\n"
                "                    self._hand_back(using, seconds=WAIT_SECONDS)\n",
            ),
        ),
        noticed_by=(
            f"{SUPERVISOR}TestAProcessOfASupervisor"
            "::test_notices_a_signal_while_a_hand_back_waits_for_the_database",
        ),
    ),
    Mutant(
        name="commits-of-others",
        without="on SQLite a commit of another process waits for the poll",
        edits=(
            Edit(
                "outbox/transports/commits.py", "version != before and self._has_waiting()", "False"
            ),
        ),
        noticed_by=(
            f"{WAKE_UP}TestACommitWatcher::test_is_woken_by_an_event_of_another_connection",
        ),
    ),
    Mutant(
        name="one-periodic-job",
        without="every process runs a periodic job",
        edits=(Edit("outbox/local/periodic.py", "rows.filter(is_due, kind", "rows.filter(kind"),),
        noticed_by=(
            f"{OUTBOX}local/test_periodic.py::TestAPeriodicJob::test_runs_again_after_its_interval",
        ),
    ),
]
