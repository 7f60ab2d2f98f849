"""Safety parts of receiving: messages in hand are not lost, and none blocks the next ones."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

HERE = "tests/outbox/sources/"
KAFKA = f"{HERE}test_kafka.py::"
STORING = f"{HERE}test_storing.py::"

RECEIVERS = [
    Mutant(
        name="released-when-not-stored",
        without="messages that could not be stored stay with the process that failed",
        edits=(
            Edit(
                "outbox/sources/receiver.py",
                "            if in_hand:\n                source.release(in_hand)\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{HERE}test_receiver.py::TestAReceiver::test_releases_what_it_could_not_store_in_an_outage",
        ),
    ),
    Mutant(
        name="released-messages-of-kafka",
        without="messages that were released are skipped in their partition",
        edits=(
            Edit(
                "outbox/sources/kafka.py",
                "self._consumer.seek(self._client.TopicPartition(topic, partition, offset))",
                "pass",
            ),
        ),
        noticed_by=(f"{KAFKA}TestTheSource::test_returns_to_released_messages",),
    ),
    Mutant(
        name="offsets-of-kafka",
        without="the client commits offsets of messages that are not stored",
        edits=(
            Edit(
                "outbox/sources/kafka.py",
                '_OWN = {"enable.auto.commit": False, "enable.auto.offset.store": False}',
                '_OWN = {"enable.auto.commit": True, "enable.auto.offset.store": True}',
            ),
        ),
        noticed_by=(f"{KAFKA}TestTheSource::test_receives_again_what_it_did_not_acknowledge",),
    ),
    Mutant(
        name="pause-of-kafka",
        without="a message that arrives during a pause is skipped",
        edits=(
            Edit(
                "outbox/sources/kafka.py",
                "        self._consumer.pause(self._consumer.assignment())\n",
                "",
            ),
            Edit(
                "outbox/sources/kafka.py",
                "            self.release([_received(message)])\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{KAFKA}TestTheSource"
            "::test_receives_nothing_while_it_is_kept_alive_and_everything_afterwards",
        ),
    ),
    Mutant(
        name="visibility-in-hand",
        without="messages in hand become visible to other processes while they are stored",
        edits=(
            Edit(
                "outbox/sources/aws.py",
                "                self._extension = _Extension(self, found)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{HERE}test_aws.py::TestTheSqsSource::test_extends_the_visibility_while_a_batch_is_stored",
        ),
    ),
    Mutant(
        name="visibility-that-has-passed",
        without="messages that another process released are hidden, and later ones overtake them",
        edits=(
            Edit(
                "outbox/sources/aws.py",
                "        return time.monotonic() >= self._passes_at\n",
                "        return False\n",
            ),
        ),
        noticed_by=(
            f"{HERE}test_aws.py::TestTheSqsSource::test_does_not_change_a_visibility_that_has_passed",
        ),
    ),
    Mutant(
        name="answer-after-the-commit",
        without="a request is accepted although its message could not be stored",
        edits=(
            Edit(
                "outbox/sources/http.py",
                '        return _try_later("The receiver\'s database cannot store it now.")\n',
                "        return HttpResponse(status=204)\n",
            ),
        ),
        noticed_by=(
            f"{HERE}test_http.py::TestASignedRequest"
            "::test_is_to_be_sent_again_while_the_database_fails",
        ),
    ),
    Mutant(
        name="unreadable-blocks-nothing",
        without="a message that cannot be read holds up its batch for ever",
        edits=(
            Edit(
                "outbox/sources/reading.py",
                "        return unreadable(message, source, content)\n\n\ndef _described",
                "        raise\n\n\ndef _described",
            ),
        ),
        noticed_by=(
            f"{HERE}test_unreadable.py::TestAnUnreadableMessage::test_does_not_hold_up_the_batch",
            f"{KAFKA}TestAReceiver::test_is_not_blocked_by_a_poison_message",
        ),
        hangs=True,
    ),
    Mutant(
        name="largest-body-of-a-source",
        without="a message of any size is stored",
        edits=(
            Edit(
                "outbox/sources/reading.py",
                "    if len(message.body) > source.max_bytes:\n        raise NotReadable(",
                "    if len(message.body) < 0:\n        raise NotReadable(",
            ),
        ),
        noticed_by=(
            f"{HERE}test_unreadable.py::TestAMessageThatIsTooLarge"
            "::test_is_a_dead_letter_without_its_body",
        ),
    ),
    Mutant(
        name="ids-kept-as-configured",
        without="ids of messages are forgotten too early, so that a late duplicate is stored",
        edits=(
            Edit(
                "outbox/sources/forgetting.py",
                "timedelta(days=source.deduplication_days)",
                "timedelta(days=30)",
            ),
        ),
        noticed_by=(f"{HERE}test_monitor.py::TestOldIds::test_are_kept_as_long_as_configured",),
    ),
    Mutant(
        name="ids-with-their-events",
        without="the id of a message is stored although its event is not, so it is lost as known",
        edits=(
            Edit(
                "outbox/sources/storing.py",
                "    with transaction.atomic(using=using):\n        ids =",
                "    if True:\n        ids =",
            ),
        ),
        noticed_by=(f"{STORING}TestABatch::test_is_stored_with_its_ids_or_not_at_all",),
    ),
    Mutant(
        name="order-of-a-batch",
        without="the events of a batch have another order than its messages",
        edits=(
            Edit(
                "outbox/sources/storing.py",
                "for external_id, one in first.items() if external_id in new]",
                "for external_id, one in sorted(first.items()) if external_id in new]",
            ),
        ),
        noticed_by=(f"{STORING}TestABatch::test_keeps_its_order",),
    ),
    Mutant(
        name="duplicates-in-a-batch",
        without="of two messages with one id in a batch, the later one is stored",
        edits=(
            Edit(
                "outbox/sources/storing.py",
                "        first.setdefault(one.external_id, one)\n",
                "        first[one.external_id] = one\n",
            ),
        ),
        noticed_by=(
            f"{STORING}TestADuplicate::test_in_one_batch_is_dropped_and_the_first_is_kept",
        ),
    ),
    Mutant(
        name="pause-until-half",
        without="a paused source continues at its limit, and pauses again after a few messages",
        edits=(
            Edit(
                "outbox/sources/backlog.py",
                "        limit = (most + 1) // 2 if self.is_on else most\n",
                "        limit = most\n",
            ),
        ),
        noticed_by=(
            f"{HERE}test_monitor.py::TestTheBacklog"
            "::test_pauses_the_source_until_less_than_half_is_left",
        ),
    ),
]
