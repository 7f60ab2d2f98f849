"""Mutants of alerts: messages sent once, their end, and the dead man's ping."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

ALERTS_TESTS = "tests/outbox/alerts/"
CLAIMS = f"{ALERTS_TESTS}test_claims.py::"
SENDING = f"{ALERTS_TESTS}test_sending.py::"
PING = f"{ALERTS_TESTS}test_dead_man.py::TestThePing::"

ALERTS = [
    Mutant(
        name="alert-sent-once",
        without="two processes send the same alert",
        edits=(
            Edit(
                "outbox/alerts/claims.py",
                "    return token if free.update(token=token, until=now + "
                'timedelta(seconds=seconds)) else ""\n',
                "    rows.filter(name=name).update(token=token)\n    return token\n",
            ),
            Edit(
                "outbox/alerts/claims.py",
                "    elif now < known.until <= possible:\n",
                "    elif False:\n",
            ),
            Edit(
                "outbox/alerts/claims.py",
                "    return bool(mine.update(until=until))\n",
                "    mine.update(until=until)\n    return True\n",
            ),
        ),
        noticed_by=(f"{SENDING}TestAProblem::test_is_reported_by_one_of_two_processes",),
    ),
    Mutant(
        name="claim-of-the-future",
        without="no alert is sent for a day after the clock has gone back by a day",
        edits=(
            Edit("outbox/alerts/claims.py", "now < known.until <= possible", "now < known.until"),
        ),
        noticed_by=(f"{CLAIMS}TestTheClockThatGoesBack::test_does_not_prevent_checks",),
    ),
    Mutant(
        name="claim-of-an-earlier-release",
        without="during a deploy, a process takes the claim of one of an earlier release",
        edits=(
            Edit(
                "outbox/alerts/sending.py",
                "                longest=longest_seconds(self._channel),"
                "  # as earlier releases took it\n",
                "",
            ),
        ),
        noticed_by=(f"{CLAIMS}TestTheClaimOfAChannel::test_of_an_earlier_release_is_left_to_it",),
    ),
    Mutant(
        name="names-after-a-lost-session",
        without="the thread of alerts names no user after one lost session, until its process ends",
        edits=(
            Edit(
                "outbox/monitor/people.py",
                "        drop_broken_connection(using=users.db)\n",
                "",
            ),
        ),
        noticed_by=(
            "tests/outbox/monitor/test_people.py::TestUsersInAnotherDatabase"
            "::test_are_read_again_after_a_lost_session",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="claim-of-a-slow-message",
        without="a message that takes longer than a claim is sent by a second process, too",
        edits=(
            Edit(
                "outbox/alerts/claims.py",
                "            return keep(name, token, seconds=seconds, using=using)\n",
                "            return True\n",
            ),
        ),
        noticed_by=(f"{CLAIMS}TestTheClaimOfAChannel::test_lasts_as_long_as_a_message_is_sent",),
    ),
    Mutant(
        name="claim-after-a-lost-connection",
        without="a claim is extended no more after one extension that failed",
        edits=(
            Edit(
                "outbox/alerts/claims.py",
                'could not be extended: %s", name, error)\n        return True\n',
                'could not be extended: %s", name, error)\n        return False\n',
            ),
        ),
        noticed_by=(
            f"{CLAIMS}TestTheClaimOfAChannel"
            "::test_is_extended_again_after_an_extension_that_failed",
        ),
    ),
    Mutant(
        name="alert-function-beside-forks",
        without="a function of the project writes to SQLite while a worker forks",
        edits=(
            Edit(
                "outbox/alerts/sending.py",
                "with kept, once_used(self._around, at_most=DATABASE_SECONDS):",
                "with kept:",
            ),
        ),
        noticed_by=(
            f"{CLAIMS}TestAFunctionOfTheProject"
            "::test_uses_a_database_only_where_no_process_is_forked",
        ),
    ),
    Mutant(
        name="alert-function-that-hangs",
        without="a function of alerts that uses SQLite and hangs stops the relay of its worker",
        edits=(Edit("outbox/fork_safety.py", "                _using.end_after(at_most)\n", ""),),
        noticed_by=("tests/outbox/test_forks.py::TestCodeThatHangs::test_does_not_stop_others",),
        hangs=True,
    ),
    Mutant(
        name="dead-man-of-a-dead-process",
        without="a process that dies before its ping delays the next one by SECONDS",
        edits=(
            Edit(
                "outbox/alerts/watch.py",
                "seconds=dead_man.longest_seconds(config),",
                "seconds=config.seconds,",
            ),
        ),
        noticed_by=(f"{CLAIMS}TestThePingOfAProcessThatDies::test_is_sent_by_another_one_soon",),
    ),
    Mutant(
        name="alert-repeated-at-once",
        without="an open alert is sent again with each look",
        edits=(
            Edit(
                "outbox/alerts/sending.py",
                "is_first = Q(alert__resolved_at=None, sent_at=None)",
                "is_first = Q(alert__resolved_at=None)",
            ),
            Edit("outbox/alerts/sending.py", "        return True\n", "        return False\n"),
        ),
        noticed_by=(f"{SENDING}TestAProblem::test_is_reported_once_however_often_it_is_found",),
    ),
    Mutant(
        name="alert-resolved-once",
        without="the message that a problem is gone is sent for ever",
        edits=(
            Edit(
                "outbox/alerts/sending.py",
                "closed_at = None if notice.alert.resolved_at is None else now",
                "closed_at = None",
            ),
            Edit("outbox/alerts/sending.py", "        return True\n", "        return False\n"),
        ),
        noticed_by=(f"{SENDING}TestAProblemThatIsGone::test_is_reported_as_resolved_once",),
    ),
    Mutant(
        name="alert-resolved-after-a-late-message",
        without="a problem that is gone while its first message is sent is never resolved",
        edits=(
            Edit(
                "outbox/alerts/sending.py",
                "mine.update(sent_at=now, closed_at=closed_at,",
                'mine.update(sent_at=now, **({"closed_at": now} if closed_at else {}),',
            ),
        ),
        noticed_by=(
            f"{SENDING}TestAProblemThatIsGone"
            "::test_is_reported_as_resolved_if_its_first_message_was_on_its_way",
        ),
    ),
    Mutant(
        name="alert-of-an-unexamined-cause",
        without="an alert is resolved although the check has not looked for its problem",
        edits=(
            Edit(
                "outbox/alerts/findings.py",
                'key in self.problems or key.startswith(self.unexamined or ("\\0",))',
                "key in self.problems",
            ),
        ),
        noticed_by=(
            f"{SENDING}TestAProblemThatIsGone::test_stays_open_where_the_check_may_have_missed_it",
        ),
    ),
    Mutant(
        name="alert-mention",
        without="the text of an exception notifies everyone of a chat",
        edits=(
            Edit(
                "outbox/alerts/channels.py",
                'message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")',
                "message.text",
            ),
        ),
        noticed_by=(
            f"{ALERTS_TESTS}test_channels.py::TestAWebhook"
            "::test_gets_no_mention_or_hidden_link_from_a_text",
        ),
    ),
    Mutant(
        name="channel-that-hangs",
        without="a mail server that hangs delays all other channels, checks and pings",
        edits=(
            Edit(
                "outbox/alerts/watch.py",
                "            self._start(name, sender.send_due)\n",
                "            sender.send_due()\n",
            ),
        ),
        noticed_by=(
            f"{ALERTS_TESTS}test_watch.py::TestAMailServerThatHangs"
            "::test_delays_neither_other_channels_nor_pings_nor_checks",
        ),
    ),
    Mutant(
        name="dead-man-of-beat",
        without="the dead man's ping goes on while beat is silent",
        edits=(
            Edit(
                "outbox/alerts/dead_man.py",
                "if names.uses(names.CELERY) and not",
                "if False and not",
            ),
        ),
        noticed_by=(f"{PING}test_stops_when_one_of_them_stops[beat]",),
    ),
    Mutant(
        name="dead-man-of-the-relay",
        without="the dead man's ping goes on while the relay is silent",
        edits=(
            Edit(
                "outbox/alerts/dead_man.py",
                "[] if found.has_working_relay() else [Kind.RELAY.value]",
                "[]",
            ),
        ),
        noticed_by=(f"{PING}test_stops_when_one_of_them_stops[relay]",),
    ),
    Mutant(
        name="dead-man-without-a-database",
        without="the dead man's ping goes on while the database cannot be read",
        edits=(
            Edit(
                "outbox/alerts/watch.py",
                "            self._unless_failed(dead_man.CLAIM, self._ping)\n",
                "            try:\n"
                "                self._ping()\n"
                "            except Exception:\n"
                "                dead_man.ping(self._config.dead_man)\n",
            ),
        ),
        noticed_by=(f"{PING}test_stops_while_the_database_cannot_be_read",),
    ),
]
