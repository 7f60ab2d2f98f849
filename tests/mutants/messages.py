"""The safety parts of messages: omitted fields, encoding, ids, sizes, and hidden options."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

_OMISSION = "tests/outbox/privacy/test_omission.py::"
_PLANS = "tests/outbox/privacy/test_plans.py::"
_MESSAGES = "tests/outbox/sinks/test_messages.py::"
_COMMAND = "tests/outbox/sinks/test_command.py::"
_CONFIGURATION = "tests/outbox/sinks/test_configuration.py::"
_EVENTS = "tests/outbox/contracts/test_cloudevents.py::"
_PAGE = "tests/outbox/admin/test_sinks.py::"

MESSAGES = [
    Mutant(
        name="null-of-a-sensitive-field",
        without="a sensitive field whose value is null is published",
        edits=(
            Edit(
                "outbox/privacy/omission.py",
                "    payload = _without_nulls(event.payload)\n",
                "    payload = dict(event.payload)\n",
            ),
        ),
        noticed_by=(f"{_OMISSION}TestASensitiveField::test_of_a_null_is_absent",),
    ),
    Mutant(
        name="keys-of-a-sensitive-mapping",
        without="the keys of a mapping are published and shown, though they are sensitive",
        edits=(
            Edit(
                "outbox/privacy/sensitive.py",
                '        if whole.get("propertyNames", {}).get(MARK):\n',
                "        if False:\n",
            ),
        ),
        noticed_by=(
            f"{_OMISSION}TestASensitiveField"
            "::test_as_the_key_of_a_mapping_is_masked_in_displays_too",
        ),
    ),
    Mutant(
        name="undeclared-field",
        without="a field that only a newer release declares as sensitive is published",
        edits=(
            Edit(
                "outbox/privacy/omission.py",
                '    for place in _undeclared(event.payload, own, own.get("$defs", {})):\n',
                "    for place in ():\n",
            ),
        ),
        noticed_by=(
            f"{_OMISSION}TestAFieldThatIsNotDeclared::test_is_refused",
            f"{_MESSAGES}TestASensitiveField::test_may_be_one_that_only_a_newer_release_declares",
        ),
    ),
    Mutant(
        name="plan-of-a-union",
        without="a field that may be null is published though its other type is sensitive",
        edits=(
            Edit(
                "outbox/privacy/plans.py",
                "    if _omit in found:\n        return _omit\n",
                "    found = [_keep_scalar if one is _omit else one for one in found]\n",
            ),
        ),
        noticed_by=(
            f"{_OMISSION}TestASensitiveField::test_is_absent",
            f"{_PLANS}TestAPlan::test_has_the_result_of_reading_the_schema",
        ),
    ),
    Mutant(
        name="plan-of-an-undeclared-field",
        without="a plan publishes a field that its event does not declare",
        edits=(
            Edit(
                "outbox/privacy/plans.py",
                "            elif its is None:\n                raise Unplanned\n",
                "            elif its is None:\n                made[name] = part\n",
            ),
        ),
        noticed_by=(
            f"{_OMISSION}TestAFieldThatIsNotDeclared::test_is_refused",
            f"{_PLANS}TestAPlan::test_has_the_result_of_reading_the_schema",
        ),
    ),
    Mutant(
        name="event-of-unknown-schema",
        without="an event whose sensitive fields are unknown is published as a whole",
        edits=(
            Edit(
                "outbox/sinks/messages.py",
                "    if config.sensitive:\n",
                "    from outbox.privacy.sensitive import schemas_of\n\n"
                "    if config.sensitive or not schemas_of(event):\n",
            ),
        ),
        noticed_by=(f"{_MESSAGES}TestASensitiveField::test_is_unknown_for_an_unknown_event",),
    ),
    Mutant(
        name="size-before-the-first-attempt",
        without="a message that is too large is sent, and retried until it is dead",
        edits=(
            Edit(
                "outbox/sinks/messages.py",
                "    _refuse_large(config, message, sink.max_bytes)\n",
                "",
            ),
        ),
        noticed_by=(
            f"{_MESSAGES}TestTheSize::test_is_limited_by_the_backend",
            f"{_COMMAND}TestThePreview::test_refuses_an_event_that_is_too_large",
        ),
    ),
    Mutant(
        name="number-of-a-replay",
        without="a replay has the same deduplication id, so the other system discards it",
        edits=(
            Edit(
                "outbox/sinks/messages.py",
                '        id=f"{event.id}.{replays}" if replays else str(event.id),\n',
                "        id=str(event.id),\n",
            ),
        ),
        noticed_by=(f"{_MESSAGES}TestTheDeduplicationId::test_has_the_number_of_the_replay",),
    ),
    Mutant(
        name="encoded-header-values",
        without="header values of HTTP and NATS have spaces and other characters as they are",
        edits=(
            Edit(
                "outbox/contracts/cloudevents/writing.py",
                "    encode = encoded if percent_encoded else str\n",
                "    encode = str\n",
            ),
        ),
        noticed_by=(f"{_EVENTS}TestAWrittenEvent::test_is_read_from_http",),
    ),
    Mutant(
        name="forbidden-characters",
        without="a key with a line break becomes an attribute, and a header",
        edits=(
            Edit(
                "outbox/contracts/cloudevents/writing.py",
                "        if _DISALLOWED.search(value):\n",
                "        if False:\n",
            ),
        ),
        noticed_by=(f"{_EVENTS}TestTheAttributes::test_are_refused_with_a_forbidden_character",),
    ),
    Mutant(
        name="errors-of-received-messages",
        without="a message that is no CloudEvent raises any error, which nothing handles",
        edits=(
            Edit(
                "outbox/contracts/cloudevents/reading.py",
                "    except (ValueError, RecursionError) as error:\n",
                "    except RecursionError as error:\n",
            ),
        ),
        noticed_by=(
            f"{_EVENTS}TestAMessageThatIsNoCloudEvent::test_raises_no_other_error",
            f"{_EVENTS}TestAMessageThatIsNoCloudEvent::test_is_refused_for_text_that_is_no_json",
        ),
    ),
    Mutant(
        name="options-in-a-repr",
        without="the repr of a sink's configuration, as in a traceback, has its credentials",
        edits=(
            Edit(
                "outbox/sinks/configuration.py",
                "    options: Mapping[str, Any] = field(repr=False)\n",
                "    options: Mapping[str, Any]\n",
            ),
        ),
        noticed_by=(f"{_CONFIGURATION}TestAValidEntry::test_hides_its_options",),
    ),
    Mutant(
        name="connections-after-a-fork",
        without="a forked worker uses the connections of its parent",
        edits=(
            Edit(
                "outbox/sinks/configuration.py", "os.register_at_fork(after_in_child=_renew)\n", ""
            ),
        ),
        noticed_by=(f"{_CONFIGURATION}TestASink::test_is_not_shared_with_a_forked_process",),
    ),
    Mutant(
        name="text-of-a-failed-check",
        without="the check of a sink shows any error of the client, which may quote its options",
        edits=(
            Edit(
                "outbox/monitor/previews.py",
                "    except (SinkUnavailable, ImproperlyConfigured) as error:\n",
                "    except Exception as error:\n",
            ),
        ),
        noticed_by=(f"{_COMMAND}TestTheCheck::test_hides_the_text_of_another_error",),
    ),
    Mutant(
        name="preview-of-sensitive-fields",
        without="the preview shows sensitive fields to staff who may not see them",
        edits=(
            Edit(
                "outbox/admin/sinks.py",
                "        is_hidden = config.sensitive and not sensitive\n",
                "        is_hidden = False\n",
            ),
        ),
        noticed_by=(
            f"{_PAGE}TestASinkThatSendsSensitiveFields::test_hides_them_without_the_permission",
        ),
    ),
    Mutant(
        name="preview-of-sensitive-fields-logged",
        without="the preview of a message with sensitive fields is not logged",
        edits=(
            Edit(
                "outbox/admin/sinks.py",
                "            page.log_action(request, rows, text % name)\n",
                "            del rows, text\n",
            ),
        ),
        noticed_by=(
            f"{_PAGE}TestASinkThatSendsSensitiveFields::test_shows_them_only_by_a_logged_post",
        ),
    ),
    Mutant(
        name="control-characters-in-a-terminal",
        without="the preview writes control characters of a payload to the terminal",
        edits=(
            Edit(
                "outbox/monitor/previews.py",
                '        return printable(self.message.body.decode("utf-8", "backslashreplace"))\n',
                '        return self.message.body.decode("utf-8", "backslashreplace")\n',
            ),
        ),
        noticed_by=(f"{_COMMAND}TestThePreview::test_shows_control_characters_as_escapes",),
    ),
]
