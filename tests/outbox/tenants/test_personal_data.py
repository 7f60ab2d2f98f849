"""Functions that read personal data run within the tenant whose rows they read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from outbox import DomainEvent, Sensitive, declare_subject, emit, subscribe
from outbox.deliveries.attempts import describe
from outbox.models import Attempt, Event
from outbox.privacy import subjects
from outbox.privacy.cleaning import cleaner_for
from outbox.privacy.redaction import redact
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass

from . import hooks
from .conftest import Configure

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "tenants"),
]

#: The customers of each tenant, by the key of their box.
CUSTOMERS = {"acme": {"box-1": "7"}, "bolt": {"box-2": "8"}}
NAMES = {"acme": {"7": ["Hanako Yamada"]}, "bolt": {"8": ["Taro Suzuki"]}}


class Moved(DomainEvent, key="box"):
    box: str


class Noted(DomainEvent, key="box"):
    box: str
    text: Sensitive[str]


@pytest.fixture(autouse=True)
def _declared(own_registry: None) -> Iterator[None]:
    """Declare customers, whose rows are those of the current tenant."""

    def rows(of: dict[str, dict]) -> dict:
        return of.get(hooks.capture() or "", {})

    declare_subject(
        "customer",
        values=lambda part: rows(NAMES).get(part, []),
        keys=lambda part: [key for key, mine in rows(CUSTOMERS).items() if mine == part],
        of_key=lambda key: rows(CUSTOMERS).get(key),
    )
    yield
    subjects.registry.clear()


@pytest.fixture
def forgotten_in() -> list[str | None]:
    """The tenants in which an app has erased its rows."""
    seen: list[str | None] = []

    @subscribe("outbox.SubjectRedacted", name="tests.forget")
    def forget() -> None:
        seen.append(hooks.capture())

    Outbox()
    return seen


def emitted_in(tenant: str, box: str) -> Event:
    with hooks.restore(tenant), transaction.atomic():
        event_id = emit(Moved(box=box))
    return Event.objects.get(id=event_id)


class TestAFailure:
    def test_is_masked_by_the_rows_of_the_tenant(self):
        """Failed: the subject of a key was looked for among the rows of another tenant."""
        event = emitted_in("acme", "box-1")

        cleaned = cleaner_for(event).clean("Hanako Yamada has moved", longest=100)

        assert cleaned == "*** has moved"

    def test_to_restore_the_tenant_names_the_function_and_the_cause(self, configure: Configure):
        """Failed: its text was hidden, since the rows of the tenant could not be read, either."""

        @subscribe("tests.Moved", name="tests.see")
        def see() -> None: ...

        Outbox()
        emitted_in("acme", "box-1")
        configure(RESTORE=f"{hooks.__name__}.failing")

        run_messages(run_pass())

        [attempt] = Attempt.objects.all()
        assert attempt.message == (
            'no tenant acme; OUTBOX["TENANT"]["RESTORE"], the function '
            f"{hooks.__name__}.failing, failed."
        )

    def test_has_no_notes_of_other_code_in_its_message(self):
        """Failed: messages of all exceptions had all notes, also without tenants."""
        error = ValueError("refused")
        error.add_note("of the handler")

        assert describe(error).message == "refused"

    def test_of_a_handler_is_hidden_if_the_rows_cannot_be_read(self, configure: Configure):
        event = emitted_in("acme", "box-1")
        configure(RESTORE=f"{hooks.__name__}.failing")

        assert describe(ValueError("Hanako Yamada"), event).message.startswith("(not shown: ")


class TestARedaction:
    def test_finds_the_events_of_each_tenant(self):
        """Failed: it read the rows of no tenant, so it found no event."""
        for tenant, box in (("acme", "box-1"), ("bolt", "box-2"), ("acme", uuid4().hex)):
            emitted_in(tenant, box)

        done = redact(subject="customer:8", by="ann", reason="asked", dry_run=True)

        assert done.empty == 1

    def test_masks_the_names_of_each_tenant(self):
        @subscribe("tests.Moved", name="tests.refuse")
        def refuse(box: str) -> None:
            raise ValueError("no place")

        Outbox()
        emitted_in("bolt", "box-2")
        run_messages(run_pass())
        Attempt.objects.update(message="Taro Suzuki has moved")

        redact(subject="customer:8", by="ann", reason="asked", force=True)

        assert Attempt.objects.get().message == "*** has moved"

    def test_finds_the_delayed_events_of_each_tenant(self):
        """Failed: a tenant that had only these was not read."""
        with hooks.restore("bolt"), transaction.atomic():
            emit(Noted(box="box-2", text="Taro"), delay=timedelta(days=3))

        done = redact(subject="customer:8", by="ann", reason="asked")

        assert done.owed == 1

    def test_lets_the_apps_erase_the_rows_of_each_tenant(self, forgotten_in: list[str | None]):
        """Failed: its event had no tenant, so a handler saw no row of any."""
        emitted_in("acme", "box-1")
        emitted_in("bolt", "box-2")

        redact(subject="customer:7", by="ann", reason="asked")
        run_messages(run_pass())

        assert sorted(map(str, forgotten_in)) == ["None", "acme", "bolt"]

    def test_within_a_tenant_reaches_the_others_too(self, forgotten_in: list[str | None]):
        """Failed: its event had the tenant of the caller."""
        emitted_in("bolt", "box-2")

        with hooks.restore("acme"):
            redact(subject="parcel:7", by="ann", reason="asked")
        run_messages(run_pass())

        assert sorted(map(str, forgotten_in)) == ["None", "acme", "bolt"]


class TestATenantThatIsGone:
    @pytest.fixture(autouse=True)
    def _gone(self, tenants: None, configure: Configure) -> None:
        emitted_in("acme", "box-1")
        emitted_in("bolt", "box-2")
        configure(RESTORE=f"{hooks.__name__}.without_bolt")

    def test_is_reported_by_the_redaction_of_the_others(self):
        """Failed: no subject could be redacted."""
        done = redact(subject="customer:7", by="ann", reason="asked")

        assert done.empty == 1
        assert done.unread == {
            "bolt": 'LookupError; OUTBOX["TENANT"]["RESTORE"], the function '
            f"{hooks.__name__}.without_bolt, failed"
        }

    def test_is_reported_by_the_commands(self):
        text = "The rows of the tenant bolt could not be read: LookupError; "

        with pytest.raises(CommandError, match=text):
            call_command("outbox", "redact", subject="customer:7", reason="asked")

        assert text in output("redact", "--subject", "customer:7", "--reason", "x", "--dry-run")
        assert text in output("why", "customer:7")

    def test_gets_no_event_that_no_handler_can_process(self, forgotten_in: list[str | None]):
        redact(subject="customer:7", by="ann", reason="asked")

        events = Event.objects.filter(name="outbox.SubjectRedacted")
        assert sorted(map(str, events.values_list("tenant", flat=True))) == ["None", "acme"]

    def test_is_no_reason_to_leave_out_all(self, configure: Configure):
        configure(RESTORE=f"{hooks.__name__}.failing")

        with pytest.raises(LookupError, match="no tenant None"):
            redact(subject="customer:7", by="ann", reason="asked")


def output(*words: str) -> str:
    out = StringIO()
    call_command("outbox", *words, stdout=out, no_color=True)
    return out.getvalue()
