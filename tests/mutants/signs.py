"""Interruptions, inline deliveries, heartbeats and findings."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

OUTBOX = "tests/outbox/"
LIMIT = f"{OUTBOX}deliveries/test_time_limit.py::TestALimit::"
FAILING = "tests/outbox/monitor/test_failing.py::"
HEARTBEAT = f"{OUTBOX}deliveries/test_heartbeat.py::"
DOCTOR = f"{OUTBOX}test_doctor.py::"

INTERRUPTIONS = [
    Mutant(
        name="time-limit",
        without="a handler that hangs is never interrupted",
        edits=(
            Edit(
                "outbox/deliveries/time_limit.py",
                "signal.setitimer(signal.ITIMER_REAL, seconds, self.again)",
                "pass",
            ),
            Edit("outbox/deliveries/time_limit.py", "                thread.start()\n", ""),
        ),
        noticed_by=(
            f"{LIMIT}test_interrupts_a_run_that_takes_too_long",
            f"{OUTBOX}deliveries/test_time_limit.py::TestAHandlerThatHangs"
            "::test_has_failed_with_a_clear_error_and_its_neighbours_are_done",
        ),
    ),
    Mutant(
        name="interrupted-again",
        without="a handler that swallows its interruption goes on for ever",
        edits=(
            Edit("outbox/deliveries/time_limit.py", "REAL, seconds, self.again)", "REAL, seconds)"),
            Edit(
                "outbox/deliveries/time_limit.py",
                "self._watch.schedule(self, self.again)",
                "self._watch.cancel(self)",
            ),
        ),
        noticed_by=(f"{LIMIT}test_interrupts_again_after_a_hidden_interruption",),
    ),
    Mutant(
        name="no-time-once-it-is-up",
        without="what swallowed its interruption gets its whole time again",
        edits=(
            Edit(
                "outbox/deliveries/time_limit.py",
                "        if self.is_over:\n"
                "            raise self.exceeded()\n"
                "        if self._is_on:\n",
                "        if self._is_on:\n",
            ),
        ),
        noticed_by=(f"{LIMIT}test_grants_no_more_time_after_a_hidden_interruption",),
    ),
]

INLINE_TESTS = f"{OUTBOX}relay/test_inline.py::TestAnInlineHandler::"
INLINE = [
    Mutant(
        name="inline-beside-the-relay",
        without="no thread relays while a delivery runs inline",
        edits=(
            Edit(
                "outbox/relay/loop.py",
                "                    delivery = self._relay_in_turn()\n",
                "                    delivery = self._relay_in_turn()\n"
                "                    if delivery is not None:\n"
                "                        self._run(delivery)\n"
                "                        delivery = None\n",
            ),
        ),
        noticed_by=(f"{INLINE_TESTS}test_leaves_the_next_delivery_to_workers_while_it_is_slow",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="inline-one-at-a-time",
        without="both threads of the relay may run a delivery, so that none relays",
        edits=(
            Edit(
                "outbox/transports/inline.py",
                "found.inline and not self._is_running",
                "found.inline",
            ),
        ),
        noticed_by=(f"{INLINE_TESTS}test_leaves_the_next_delivery_to_workers_while_it_is_slow",),
        database=POSTGRESQL,
    ),
    Mutant(
        name="inline-start-marker",
        without="an inline delivery is stored without its start marker",
        edits=(
            Edit(
                "outbox/relay/fan_out.py",
                '"1, 1" if one.worker',
                '"0, 0" if one.worker',
            ),
        ),
        noticed_by=(
            f"{OUTBOX}relay/test_inline.py::TestADeliveryThatIsStartedAtItsCreation"
            "::test_counts_a_crash_of_its_process",
        ),
    ),
    Mutant(
        name="inline-before-the-broker",
        without="an inline delivery waits until an absent broker is back",
        edits=(
            Edit(
                "outbox/relay/loop.py",
                "            if self._inline.started is None:",
                "            if True:",
            ),
        ),
        noticed_by=(f"{INLINE_TESTS}test_is_run_although_the_broker_is_unavailable",),
    ),
    Mutant(
        name="inline-found-again",
        without="a delivery is forgotten whose pass committed without an answer",
        edits=(
            Edit(
                "outbox/transports/inline.py",
                "                    self.started = started",
                "                    pass",
            ),
        ),
        noticed_by=(f"{INLINE_TESTS}test_is_run_although_the_answer_to_its_commit_is_lost",),
    ),
    Mutant(
        name="inline-that-is-not-stored",
        without="a delivery runs whose pass was rolled back",
        edits=(
            Edit(
                "outbox/transports/inline.py",
                "started, self.started = self.started, None",
                "started = self.started",
            ),
        ),
        noticed_by=(f"{INLINE_TESTS}test_is_not_run_if_its_pass_is_rolled_back",),
    ),
    Mutant(
        name="inline-and-the-heartbeat",
        without="a relay whose passes all end with an inline delivery stores no heartbeat",
        edits=(
            Edit(
                "outbox/relay/loop.py",
                "                    self._beat()  # every pass may end in an inline delivery\n",
                "",
            ),
        ),
        noticed_by=(f"{INLINE_TESTS}test_does_not_stop_the_heartbeat_of_its_relay",),
    ),
    Mutant(
        name="inline-and-what-is-due",
        without="a relay that is nudged without a pause never reads deliveries by due time",
        edits=(
            Edit(
                "outbox/relay/passes.py",
                "if is_nudged and now - self._last_read < conf().POLL_SECONDS:",
                "if is_nudged:",
            ),
        ),
        noticed_by=(
            f"{INLINE_TESTS}test_delays_no_due_event_although_the_relay_is_nudged_repeatedly",
        ),
    ),
]

LIFE = [
    Mutant(
        name="heartbeat-of-a-worker",
        without="workers do not say that they live",
        edits=(
            Edit(
                "outbox/deliveries/heartbeat.py",
                "beat(self._kind, self._process, queues=self._queues(), using=self._using)",
                "pass",
            ),
        ),
        noticed_by=(f"{HEARTBEAT}TestAThread::test_of_a_worker_names_its_queues",),
    ),
    Mutant(
        name="heartbeat-of-the-relay",
        without="the relay does not",
        edits=(
            Edit(
                "outbox/relay/loop.py",
                "heartbeat.beat(heartbeat.Kind.RELAY, self._name, failure=self._failure)",
                "pass",
            ),
        ),
        noticed_by=(
            f"{HEARTBEAT}TestAThread::test_of_the_relay_writes_a_heartbeat_after_an_empty_pass",
        ),
    ),
    Mutant(
        name="heartbeat-of-a-failing-relay",
        without="a relay whose every pass fails is healthy",
        edits=(Edit("outbox/relay/loop.py", "failure=self._failure", 'failure=""'),),
        noticed_by=(
            "tests/outbox/relay/test_failing_relay.py::TestARelayWhosePassesFail"
            "::test_is_unhealthy_with_the_masked_reason",
        ),
    ),
    Mutant(
        name="heartbeat-of-a-recovered-relay",
        without="a relay is unhealthy for ever after one pass that failed",
        edits=(
            Edit("outbox/relay/loop.py", '            self._failure = ""\n', "            pass\n"),
        ),
        noticed_by=(
            "tests/outbox/relay/test_failing_relay.py::TestARelayWhosePassesFail"
            "::test_is_healthy_after_a_pass_that_succeeds",
        ),
    ),
    Mutant(
        name="heartbeat-of-a-relay-that-reads-no-backlog",
        without="a relay that never finds lapsed and delayed work is healthy while it is nudged",
        edits=(
            Edit(
                "outbox/relay/loop.py",
                "        if self._pace.reads_backlog:\n",
                "        if True:\n",
            ),
        ),
        noticed_by=(
            "tests/outbox/relay/test_failing_relay.py::TestARelayThatFailsToReadTheBacklog"
            "::test_stays_unhealthy_although_passes_after_nudges_succeed",
        ),
    ),
    Mutant(
        name="heartbeat-after-one-deadlock",
        without="one deadlock of the relay raises the alarm",
        edits=(
            Edit(
                "outbox/relay/loop.py",
                "        if self._has_failed or not is_passing:\n",
                "        if True:\n",
            ),
        ),
        noticed_by=(
            "tests/outbox/relay/test_failing_relay.py::TestATransientErrorOfTheDatabase"
            "::test_is_not_reported_if_the_next_pass_succeeds",
        ),
    ),
    Mutant(
        name="replay-as-a-failure",
        without="replayed deliveries take the places of failing ones in the sample",
        edits=(
            Edit(
                "outbox/deliveries/replays.py",
                "        started_token=0,\n",
                "",
            ),
        ),
        noticed_by=(f"{FAILING}TestAReplay::test_is_not_in_the_index_of_failing_deliveries",),
    ),
    Mutant(
        name="failing-running-of-each",
        without="a busy handler hides the failing deliveries of another one that run",
        edits=(
            Edit(
                "outbox/monitor/sampling.py",
                'partition_by=F("subscription"), ',
                "",
            ),
        ),
        noticed_by=(
            f"{FAILING}TestManyFailingDeliveries::test_that_run_do_not_hide_those_of_another_handler",
        ),
    ),
    Mutant(
        name="failing-between-the-ends",
        without="a cause whose deliveries are due neither first nor last is missed",
        edits=(Edit("outbox/monitor/sampling.py", "_BETWEEN = 8\n", "_BETWEEN = 0\n"),),
        noticed_by=(
            f"{FAILING}TestManyFailingDeliveries"
            "::test_have_a_group_that_is_neither_due_first_nor_last",
        ),
    ),
    Mutant(
        name="failing-view-without-gaps",
        without="a view of a sample says nothing of what it has not examined",
        edits=(
            Edit(
                "outbox/monitor/failing.py",
                "unexamined=tuple(sorted(cut))",
                "unexamined=()",
            ),
        ),
        noticed_by=(f"{FAILING}TestManyFailingDeliveries::test_are_named_so_even_without_a_group",),
    ),
    Mutant(
        name="heartbeat-of-beat",
        without="beat does not",
        edits=(Edit("outbox/tasks.py", '    heartbeat.beat(heartbeat.Kind.BEAT, "beat")\n', ""),),
        noticed_by=(f"{HEARTBEAT}TestCeleryBeat::test_is_alive_when_its_task_arrives",),
    ),
    Mutant(
        name="heartbeat-that-fails",
        without="a process that cannot write its heartbeat dies of it",
        edits=(
            Edit(
                "outbox/deliveries/heartbeat.py",
                '        logger.debug("no heartbeat of %s %s: %s", kind, name, error)\n',
                "        raise\n",
            ),
        ),
        noticed_by=(f"{HEARTBEAT}TestAHeartbeat::test_never_raises",),
    ),
    Mutant(
        name="silence",
        without="a process is presumed to live however long it is silent",
        edits=(
            Edit(
                "outbox/monitor/health.py",
                "        return self.now - row.seen_at < stale_after()\n",
                "        return True\n",
            ),
        ),
        noticed_by=(
            f"{HEARTBEAT}TestAHeartbeat::test_becomes_stale",
            f"{OUTBOX}monitor/test_diagnosis.py::TestWhyADeliveryIsSent"
            "::test_distinguishes_a_silent_worker_from_a_running_one",
        ),
    ),
]

DOCTORS = [
    Mutant(
        name="canary",
        without="the doctor believes a worker's heartbeat, whether it consumes or not",
        edits=(
            Edit(
                "outbox/doctor/processes.py",
                "    if is_answered:\n",
                "    found = Heartbeats(using=using)\n"
                "    is_answered = found.latest(Kind.WORKER, queue=queue).is_fresh\n"
                "    if is_answered:\n",
            ),
        ),
        noticed_by=(
            f"{DOCTOR}TestTheQueues::test_are_not_ok_if_a_worker_runs_and_consumes_nothing",
        ),
    ),
    Mutant(
        name="answer-to-a-canary",
        without="a worker takes the doctor's canary and says nothing",
        edits=(
            Edit(
                "outbox/tasks.py",
                "        heartbeat.answer(name, using=database)\n",
                "        pass\n",
            ),
        ),
        noticed_by=(f"{DOCTOR}TestTheQueues::test_are_ok_if_each_canary_is_answered",),
    ),
    Mutant(
        name="doctor-goes-on",
        without="the doctor says nothing at all where one part cannot be examined",
        edits=(
            Edit(
                "outbox/doctor/__init__.py",
                "    except Exception as caught:  # one broken part must not hide the others\n",
                "    except ZeroDivisionError as caught:\n",
            ),
        ),
        noticed_by=(f"{DOCTOR}TestTheDoctor::test_reports_a_part_that_cannot_be_examined",),
    ),
    Mutant(
        name="doctor-of-the-broker",
        without="the doctor overlooks a broker that throws messages away",
        edits=(
            Edit(
                "outbox/doctor/broker.py",
                'if most and policy not in ("noeviction", "unknown"):',
                "if False:",
            ),
        ),
        noticed_by=(f"{DOCTOR}TestTheBroker::test_is_judged_by_its_info",),
    ),
    Mutant(
        name="doctor-of-owed-deliveries",
        without="the doctor overlooks owed deliveries of handlers that this code does not have",
        edits=(Edit("outbox/doctor/owed.py", "        *_unknown_handlers(owed),\n", ""),),
        noticed_by=(
            f"{DOCTOR}TestOwedDeliveries::test_name_handlers_and_events_that_this_code_does_not_have",
        ),
    ),
    Mutant(
        name="doctor-of-paused-handlers",
        without="the doctor overlooks what is parked of a paused handler",
        edits=(Edit("outbox/doctor/owed.py", "        *_paused(handlers),\n", ""),),
        noticed_by=(
            f"{DOCTOR}TestOwedDeliveriesOfAStoppedHandler"
            "::test_count_parked_deliveries_and_name_the_user_who_paused",
        ),
    ),
    Mutant(
        name="doctor-of-open-breakers",
        without="the doctor overlooks open breakers",
        edits=(
            Edit("outbox/doctor/owed.py", "        *_open_breakers(handlers, using=using),\n", ""),
        ),
        noticed_by=(
            f"{DOCTOR}TestOwedDeliveriesOfAStoppedHandler"
            "::test_name_an_open_breaker_and_its_waiting_deliveries",
        ),
    ),
]

SIGNS = [*INTERRUPTIONS, *INLINE, *LIFE, *DOCTORS]
