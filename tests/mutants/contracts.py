"""The safety parts of AsyncAPI documents: no credentials, no sensitive fields, no missed break."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

TESTS = "tests/outbox/contracts/asyncapi/"
PUBLISHED = f"{TESTS}test_published.py::"

CONTRACTS = [
    Mutant(
        name="contracts-without-credentials",
        without="an AsyncAPI document has the user and password of a broker's URL",
        edits=(
            Edit(
                "outbox/contracts/asyncapi/systems.py",
                '    return netloc.rpartition("@")[2]\n',
                "    return netloc\n",
            ),
        ),
        noticed_by=(
            f"{PUBLISHED}TestASinkOfTheOutbox::"
            "test_is_described_without_a_connection_and_without_credentials[RabbitMQ]",
        ),
    ),
    Mutant(
        name="contracts-without-sensitive-fields",
        without="an AsyncAPI document promises sensitive fields that a sink leaves out",
        edits=(
            Edit(
                "outbox/contracts/asyncapi/published.py",
                "    if not config.sensitive:\n",
                "    if False:\n",
            ),
        ),
        noticed_by=(f"{PUBLISHED}TestAMessage::test_has_no_sensitive_field",),
    ),
    Mutant(
        name="contracts-by-direction",
        without="outbox diff finds no change that breaks the senders of a received message",
        edits=(
            Edit(
                "outbox/contracts/asyncapi/differences.py",
                "    written, read = (now, before) if sent else (before, now)\n",
                "    written, read = now, before\n",
            ),
        ),
        noticed_by=(
            f"{TESTS}test_differences.py::TestAMessageThatIsReceived::"
            "test_breaks_senders[required field added]",
        ),
    ),
]
