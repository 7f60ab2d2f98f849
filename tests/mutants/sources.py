"""Safety parts of sources: messages are stored once, none is lost, and requests are signed."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

HERE = "tests/outbox/sources/"
REFUSED = f"{HERE}test_http.py::TestARefusedRequest::"
RECORDED = f"{HERE}test_http.py::TestARecordedRequest::"

SOURCES = [
    Mutant(
        name="acknowledge-after-commit",
        without="a message is acknowledged before its event is committed",
        edits=(
            Edit(
                "outbox/sources/receiver.py",
                "elif self._store(source, access):",
                "elif source.acknowledge(self._in_hand) or self._store(source, access):",
            ),
        ),
        noticed_by=(
            f"{HERE}test_kafka.py::TestProcessesThatAreKilled"
            "::test_store_each_message_once[before_store]",
        ),
        hangs=True,
    ),
    Mutant(
        name="duplicates-of-a-source",
        without="a message whose id is known is stored again",
        edits=(
            Edit(
                "outbox/sources/storing.py",
                "one for external_id, one in first.items() if external_id in new",
                "one for external_id, one in first.items() if external_id",
            ),
        ),
        noticed_by=(
            f"{HERE}test_storing.py::TestADuplicate::test_is_dropped_and_counted",
            f"{HERE}test_storing.py::TestTwoProcessesWithOneMessage::test_store_it_once",
        ),
    ),
    Mutant(
        name="senders-of-a-source",
        without="messages of two senders with the same id count as duplicates",
        edits=(
            Edit("outbox/sources/mapping.py", 'id=f"{event.source} {event.id}"', "id=event.id"),
        ),
        noticed_by=(
            f"{HERE}test_storing.py::TestADuplicate::test_of_another_sender_of_the_source_is_none",
        ),
    ),
    Mutant(
        name="refused-message-alone",
        without="a message that the database refuses holds up its batch for ever",
        edits=(
            Edit(
                "outbox/sources/storing.py",
                "if isinstance(error, ReportsNotRecorded) or is_transient(error, using=using):",
                "if error:",
            ),
        ),
        noticed_by=(
            f"{HERE}test_storing.py::TestABatch"
            "::test_that_the_database_refuses_is_stored_without_the_refused_message",
        ),
    ),
    Mutant(
        name="refused-message-without-content",
        without="the copy of a refused message has the cause that the database refused",
        edits=(
            Edit(
                "outbox/sources/reading.py",
                '        outcome="unreadable",\n',
                '        outcome="unreadable",\n        content=content,\n',
            ),
        ),
        noticed_by=(
            f"{HERE}test_storing.py::TestABatch"
            "::test_with_a_cause_that_the_database_refuses_is_stored_without_it",
        ),
    ),
    Mutant(
        name="failing-validator",
        without="a validator that raises an unusual error stops its source for ever",
        edits=(
            Edit(
                "outbox/sources/reading.py",
                "    except Exception as error:\n        logger",
                ("    except NotReadable as error:\n        logger"),
            ),
            Edit(
                "outbox/sources/reading.py",
                "    except Exception as error:  # a validator",
                "    except OSError as error:  # a validator",
            ),
        ),
        noticed_by=(
            f"{HERE}test_unreadable.py::TestAValidatorThatFails"
            "::test_makes_a_dead_letter_and_does_not_hold_up_the_batch",
        ),
    ),
    Mutant(
        name="types-of-a-mapper",
        without="a mapper that returns an id of another type stops its source for ever",
        edits=(Edit("outbox/sources/base.py", "if not isinstance(value, wanted):", "if False:"),),
        noticed_by=(
            f"{HERE}test_unreadable.py::TestAMapper"
            "::test_that_returns_another_type_makes_a_dead_letter[an id of the type int]",
            f"{HERE}test_unreadable.py::TestAMapper"
            "::test_that_returns_another_type_makes_a_dead_letter"
            "[a correlation id of the type str]",
        ),
    ),
    Mutant(
        name="subjects-in-turn",
        without="a NATS subject that always has messages holds up the others",
        edits=(
            Edit(
                "outbox/sources/nats.py",
                "for _ in self.topics:\n            topic = next(self._next)\n",
                "for topic in self.topics:\n",
            ),
        ),
        noticed_by=(
            f"{HERE}test_nats.py::TestTheNatsSource::test_receives_from_each_subject_in_turn",
        ),
    ),
    Mutant(
        name="corrected-message-once",
        without="a replay of a corrected message stores its event again",
        edits=(
            Edit(
                "outbox/sources/reading_again.py",
                "        if not _is_free(row.event, stored_as, using=using):",
                "        if False:",
            ),
        ),
        noticed_by=(
            f"{HERE}test_unreadable.py::TestAnUnreadableMessage"
            "::test_whose_correction_has_the_id_of_a_stored_message_is_dropped",
            f"{HERE}test_unreadable.py::TestAMessageOfAnUnknownType"
            "::test_becomes_its_event_by_a_replay_once_a_release_declares_the_type",
        ),
    ),
    Mutant(
        name="reasons-without-values",
        without="the log and the reason of a dead letter quote fields of the message",
        edits=(
            Edit(
                "outbox/sources/reading.py",
                "found = error.errors(include_input=False, include_url=False, "
                "include_context=False)",
                "return str(error)\n    found = error.errors()",
            ),
        ),
        noticed_by=(
            f"{HERE}test_unreadable.py::TestAnUnreadableMessage"
            "::test_hides_its_content_from_logs_and_reasons",
        ),
    ),
    Mutant(
        name="backlog-of-a-source",
        without="a source receives however much its handlers owe",
        edits=(
            Edit(
                "outbox/sources/backlog.py",
                "backlog(self._source.name, at_most=limit, using=self._using) >= limit",
                "False",
            ),
        ),
        noticed_by=(
            f"{HERE}test_monitor.py::TestTheBacklog"
            "::test_pauses_the_source_until_less_than_half_is_left",
            f"{HERE}test_http.py::TestASignedRequest"
            "::test_is_to_be_sent_again_while_the_backlog_is_too_large",
        ),
    ),
    Mutant(
        name="correction-is-read",
        without="a corrected message that still cannot be read is stored",
        edits=(
            Edit(
                "outbox/operations/corrections.py",
                "            require_readable(fact)\n",
                "            pass\n",
            ),
        ),
        noticed_by=(
            f"{HERE}test_corrections.py::TestACorrectedMessage::test_is_read_before_it_is_stored",
        ),
    ),
    Mutant(
        name="reason-of-a-group",
        without="an action on messages that cannot be read for one reason changes all of them",
        edits=(
            Edit(
                "outbox/operations/selection.py",
                "        if self.message is not None:\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{HERE}test_corrections.py::TestTheGroups"
            "::test_name_commands_that_change_only_the_group",
            f"{HERE}test_corrections.py::TestThePageOfDeadLetters"
            "::test_discards_the_messages_of_one_reason",
        ),
    ),
    Mutant(
        name="message-in-the-form",
        without="the form shows a received message to staff who may not see it",
        edits=(
            Edit(
                "outbox/admin/corrections.py",
                "        if not may_unmask:\n            raise PermissionDenied\n",
                "",
            ),
        ),
        noticed_by=(
            f"{HERE}test_corrections.py::TestTheForm::test_is_never_filled_without_the_permission",
        ),
    ),
    Mutant(
        name="signature-of-a-request",
        without="a request with any signature is stored",
        edits=(Edit("outbox/sources/http.py", '"" if any(matches) else', '"" if matches else'),),
        noticed_by=(
            f"{REFUSED}test_stores_nothing[with the signature of another secret]",
            f"{REFUSED}test_has_a_changed_body",
        ),
    ),
    Mutant(
        name="age-of-a-request",
        without="a recorded request is accepted at any later time",
        edits=(
            Edit(
                "outbox/sources/http.py",
                "abs(time.time() - seconds) > self._tolerance",
                "False",
            ),
        ),
        noticed_by=(
            f"{REFUSED}test_stores_nothing[with an old time]",
            f"{REFUSED}test_stores_nothing[with a future time]",
        ),
    ),
    Mutant(
        name="signed-id-of-a-request",
        without="a recorded request is stored again under another id",
        edits=(Edit("outbox/sources/http.py", "if not _is_signed_id(message):", "if False:"),),
        noticed_by=(f"{REFUSED}test_has_another_id_in_its_unsigned_headers",),
    ),
    Mutant(
        name="identity-without-headers",
        without="a recorded request is stored again under other headers",
        edits=(
            Edit(
                "outbox/sources/http.py",
                "headers_are_authentic: ClassVar[bool] = False",
                "headers_are_authentic: ClassVar[bool] = True",
            ),
        ),
        noticed_by=(
            f"{RECORDED}test_in_binary_encoding_is_stored_once[with another sender]",
            f"{RECORDED}test_with_the_number_of_a_replay_is_stored_once",
        ),
    ),
    Mutant(
        name="options-of-a-source",
        without="the representation of a source's configuration has its credentials",
        edits=(
            Edit(
                "outbox/sources/configuration.py",
                "    options: Mapping[str, Any] = field(repr=False)",
                "    options: Mapping[str, Any] = field()",
            ),
        ),
        noticed_by=(f"{HERE}test_events.py::TestTheSettings::test_hide_the_options",),
    ),
]
