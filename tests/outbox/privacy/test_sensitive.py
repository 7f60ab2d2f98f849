"""Sensitive fields are masked in every display, and can be blanked permanently."""

import logging
from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.core.checks import run_checks
from django.db import transaction
from django.test import Client
from pydantic import BaseModel, ConfigDict, StringConstraints

from outbox import (
    Breaker,
    DomainEvent,
    Pause,
    PermanentFailure,
    Receipt,
    Sensitive,
    emit,
    subscribe,
)
from outbox.contracts import lock as contract_lock
from outbox.management.cli.common import operator
from outbox.models import Attempt, Delivery, Event, Operation
from outbox.operations import Choice, backfill, correct, replay
from outbox.privacy import redaction
from outbox.privacy.redaction import Redaction, redact
from outbox.privacy.sensitive import masked, masked_text
from outbox.testing import Outbox
from outbox.worker.outcome import logger as delivery_logger
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import Died, die, run_pass
from tests.threads import in_thread, wait_until_blocked

EMAIL = "hanako.yamada+shop@example.co.jp"
NAME = "山田 花子"
PARCEL, CUSTOMER = UUID(int=1), UUID(int=2)


class Address(BaseModel):
    street: Sensitive[str]
    country: str


@pytest.fixture(autouse=True)
def parcel_sent(own_registry: None) -> type[DomainEvent]:
    """The proving event: sensitive fields in each position."""

    class ParcelSent(DomainEvent, key="parcel_id", subject="customer:{customer_id}"):
        parcel_id: UUID
        customer_id: UUID
        email: Sensitive[str]
        name: Sensitive[str | None] = None
        born: Sensitive[date] = date(1970, 1, 1)
        to: list[Address] = []
        phones: dict[str, Sensitive[str] | None] = {}
        weight: int = 1

    return ParcelSent


FIELDS: dict[str, Any] = {
    "parcel_id": PARCEL,
    "customer_id": CUSTOMER,
    "email": EMAIL,
    "name": NAME,
    "born": "1988-02-29",
    "to": [{"street": "1-2-3 Sakura", "country": "JP"}],
    "phones": {"home": "+81 3 1234 5678", "work": None},
    "weight": 7,
}


@pytest.fixture
def failing() -> None:
    """A handler whose error quotes all that it was given."""

    @subscribe("tests.ParcelSent")
    def write(email: str, name: str | None, attempt: int) -> None:
        try:
            raise ValueError(f"550 <{email.upper()}> unknown, {name!a}")
        except ValueError as error:
            raise PermanentFailure(f"{EMAIL[:14]}...{EMAIL[-12:]} is refused") from error


def emit_parcel() -> Event:
    return Outbox().given("tests.ParcelSent", **FIELDS)


def unknown() -> Event:
    """An event about a customer whose class is gone."""
    row = Outbox().given("elsewhere.Noted", key="1", order="1", who=NAME)
    Event.objects.filter(pk=row.pk).update(subject="customer:7")
    return row


@pytest.fixture
def versioned(own_registry: None, monkeypatch: pytest.MonkeyPatch) -> Event:
    """An event of version 1; `note` was marked in it, and has gone; `who` is marked since."""

    class Versioned(DomainEvent, key="order", version=2, subject="customer:{customer}"):
        order: str
        customer: int
        who: Sensitive[str | None]

    text = {"type": "string"}
    fields = {"order": text, "customer": {"type": "integer"}, "who": text}
    recorded = {"properties": {**fields, "note": {**text, "sensitive": True}}}
    monkeypatch.setattr(contract_lock, "schema_of", lambda **_: recorded)
    row = Outbox().given(
        "tests.Versioned", key="1", stored_version=1, order="1", customer=7, who=NAME, note=NAME
    )
    Event.objects.filter(pk=row.pk).update(subject="customer:7")
    settle()
    return row


def settle(state: str = "done") -> None:
    Outbox()
    run_pass()
    Delivery.objects.update(state=state)


def values() -> list[str]:
    return [EMAIL, EMAIL.upper(), NAME, ascii(NAME)[1:-1], "1988-02-29", "Sakura", "1234 5678"]


class TestMasking:
    def test_hides_the_fields_in_every_position(self):
        assert masked(emit_parcel()) == {
            "parcel_id": str(PARCEL),
            "customer_id": str(CUSTOMER),
            "email": "***",
            "name": "***",
            "born": "***",
            "to": [{"street": "***", "country": "JP"}],
            "phones": {"home": "***", "work": None},
            "weight": 7,
        }

    def test_hides_everything_of_an_event_that_this_code_does_not_know(self):
        """Seen to fail with such an event shown as it is."""
        row = Outbox().given("elsewhere.Noted", thing_id=1, email=EMAIL)

        assert masked(row) == {"thing_id": "***", "email": "***"}

    @pytest.mark.parametrize(
        "quoted",
        [
            f"to {EMAIL}",
            f"to {EMAIL.upper()}",
            f"?to={EMAIL.replace('@', '%40').replace('+', '%2B')}",
            f"input_value='{EMAIL[:20]}...",
            f"...{EMAIL[-15:]}' is wrong",
            f"hello {NAME}",
            f"hello {NAME!a}",
        ],
    )
    def test_finds_a_value_in_any_quoted_form(self, quoted: str):
        """Seen to fail with the plain value alone, with case minded, and with parts left."""
        text = masked_text(quoted, emit_parcel())

        assert "***" in text
        for value in (EMAIL[:8], EMAIL[-8:], "yamada", "花子", "u82b1"):
            assert value not in text.lower()

    def test_keeps_words_that_contain_a_short_value(self, own_registry: None):
        class Named(DomainEvent, key="id"):
            id: UUID
            name: Sensitive[str]

        row = Outbox().given("tests.Named", id=uuid4(), name="Al")

        assert masked_text("Also: Al, normally", row) == "Also: ***, normally"

    def test_hides_the_fields_of_a_printed_event(self, parcel_sent: type[DomainEvent]):
        assert "hanako" not in repr(parcel_sent(**FIELDS))
        assert "Sakura" not in str(parcel_sent(**FIELDS))


class TestAFailedAttempt:
    def test_is_stored_and_logged_without_sensitive_values(
        self, failing: None, caplog: pytest.LogCaptureFixture
    ):
        """Message, traceback, note, log. Seen to fail with each of the four unmasked."""
        emit_parcel()

        with caplog.at_level(logging.INFO, logger=delivery_logger.name):
            Outbox().deliver_all(raise_errors=False)

        attempt, delivery = Attempt.objects.get(), Delivery.objects.get()
        texts = [attempt.message, attempt.traceback, delivery.note, caplog.text]
        for text in texts:
            assert "is refused" in text
            assert [value for value in (*values(), EMAIL[:14], EMAIL[-12:]) if value in text] == []

    def test_has_no_key_of_a_sensitive_mapping(self, own_registry: None):
        """Failed: the keys were left, of a dictionary by name for example."""

        class Shared(DomainEvent, key="order"):
            order: str
            people: Sensitive[dict[str, Address]]

        @subscribe("tests.Shared")
        def split(people: dict[str, Address]) -> None:
            [name] = people
            raise KeyError(f"{name} has no street or country")

        address = {"street": "1-2-3 Sakura", "country": "JP"}
        Outbox().given("tests.Shared", order="1", people={NAME: address})
        Outbox().deliver_all(raise_errors=False)

        assert Attempt.objects.get().message == "'*** has no street or country'"

    def test_of_an_unknown_event_keeps_the_names_of_its_fields(self, own_registry: None):
        @subscribe("elsewhere.Noted")
        def split(order: str) -> None:
            raise KeyError("order")

        Outbox().given("elsewhere.Noted", key="1", order="1", people={NAME: 1})
        Outbox().deliver_all(raise_errors=False)

        assert Attempt.objects.get().message == "'order'"

    def test_of_an_invalid_value_is_masked(self):
        @subscribe("tests.ParcelSent")
        def write(email: int) -> None: ...

        emit_parcel()
        Outbox().deliver_all(raise_errors=False)

        assert "hanako" not in Attempt.objects.get().message
        assert "hanako" not in Attempt.objects.get().traceback


class TestTheAdmin:
    def test_shows_no_sensitive_values(self, failing: None, admin_client: Client):
        """Seen to fail with the payload as it is stored."""
        row = emit_parcel()
        Outbox().deliver_all(raise_errors=False)

        pages = [
            admin_client.get(f"/admin/outbox/event/{row.seq}/change/"),
            admin_client.get(f"/admin/outbox/delivery/{Delivery.objects.get().pk}/change/"),
            admin_client.get("/admin/outbox/event/timeline/", {"q": str(PARCEL)}),
        ]

        for page in pages:
            assert page.status_code == 200
            assert [value for value in values() if value in page.content.decode()] == []
        assert "&quot;email&quot;: &quot;***&quot;" in pages[0].content.decode()


class TestEveryDisplay:
    """Of a dead delivery, a handler that paused itself, and one whose breaker is open."""

    @pytest.fixture(autouse=True)
    def _all_went_wrong(self, failing: None) -> None:
        """Each error quotes all that its handler was given."""

        @subscribe("tests.ParcelSent", rules={LookupError: Pause("the other side is odd")})
        def pausing(email: str, name: str | None) -> None:
            raise LookupError(f"{email} {name}")

        breaker = Breaker(on=(OSError,), failures=1, wait=30, longest=60)

        @subscribe("tests.ParcelSent", atomic=False, breaker=breaker)
        def calling(email: str, name: str | None, receipt: Receipt) -> None:
            raise OSError(f"{email} {name}")

        @subscribe("tests.ParcelSent")
        def writing(email: str, name: str | None) -> None:
            Group.objects.filter(name=email).update(name=name)

        emit_parcel()
        Outbox().deliver_all(raise_errors=False)

    @pytest.mark.parametrize(
        ("arguments", "shown"),
        [
            (["status"], "held by its breaker"),
            (["status", "--json"], "LookupError: ***"),
            (["tail", "--no-follow", "--last", "9"], "is refused"),
            (["groups"], "PermanentFailure"),
            (["why", str(PARCEL)], "is refused"),
            (["log"], ""),
            (["replay", "--handler", "tests.writing", "--dry-run", "--show-writes"], "***"),
        ],
        ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
    )
    def test_in_the_terminal_hides_sensitive_values(self, arguments: list[str], shown: str):
        """Seen to fail with what an exception says, and what a trial writes, left as it is."""
        said = outbox_command(*arguments)

        assert shown in said
        assert [value for value in values() if value in said] == []

    @pytest.mark.parametrize(
        "page",
        ["event", "delivery", "delivery/dead", "delivery/blocked", "subscription",
         "subscription/handlers", "subscription/map", "operation"],
    )  # fmt: skip
    def test_in_the_admin_hides_sensitive_values(self, admin_client: Client, page: str):
        """Seen to fail with the notes and reasons left as exceptions say them."""
        answer = admin_client.get(f"/admin/outbox/{page}/")

        assert answer.status_code == 200
        assert [value for value in values() if value in answer.content.decode()] == []

    def test_on_the_overview_hides_sensitive_values(self, admin_client: Client):
        answer = admin_client.get("/admin/outbox/")

        assert answer.status_code == 200
        assert [value for value in values() if value in answer.content.decode()] == []


class TestRedaction:
    def test_blanks_sensitive_fields_and_keeps_the_rest(self, parcel_sent: type[DomainEvent]):
        row = emit_parcel()
        other = Outbox().given("tests.ParcelSent", **{**FIELDS, "customer_id": uuid4()})
        settle()

        done = redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked to")

        assert (done.blanked, done.owed) == (1, 0)
        stored = Event.objects.get(pk=row.pk)
        assert stored.redacted_at is not None
        assert stored.payload == {
            "parcel_id": str(PARCEL),
            "customer_id": str(CUSTOMER),
            "email": "",
            "name": None,
            "born": "1970-01-01",
            "to": [{"street": "", "country": "JP"}],
            "phones": {"home": "", "work": None},
            "weight": 7,
        }
        parcel_sent.model_validate(stored.payload)
        assert Event.objects.get(pk=other.pk).payload["email"] == EMAIL

    @pytest.mark.parametrize("state", Delivery.OWED)
    def test_skips_owed_events(self, failing: None, state: str):
        """Seen to fail without the question."""
        emit_parcel()
        settle(state)

        assert redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked").owed == 1
        assert Event.objects.get(name="tests.ParcelSent").payload["email"] == EMAIL

    def test_skips_events_that_wait_for_fan_out(self):
        emit_parcel()

        assert redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked").owed == 1

    def test_skips_delayed_events_and_blanks_them_after_their_emission(
        self, parcel_sent: type[DomainEvent]
    ):
        """Seen to fail with the subject left behind by a delayed event."""
        outbox = Outbox()
        with transaction.atomic():
            emit(parcel_sent(**FIELDS), delay=timedelta(days=1))
        assert redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked").owed == 1

        outbox.let_pass(timedelta(days=2))
        outbox.deliver_all()

        assert redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked").blanked == 1

    def test_can_be_forced_and_handlers_then_read_blanks(self):
        read: list[Any] = []

        @subscribe("tests.ParcelSent")
        def write(email: str, name: str | None, born: date) -> None:
            read.append((email, name, born))

        emit_parcel()
        redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked", force=True)
        Outbox().deliver_all()

        assert read == [("", None, date(1970, 1, 1))]

    def test_masks_values_in_attempts_from_before_the_mark(self, failing: None):
        """Seen to fail with attempts left as they are."""
        emit_parcel()
        settle("dead")
        delivery = Delivery.objects.get()
        moment = delivery.due_at
        delivery.failures.create(
            number=1, started_at=moment, ended_at=moment, outcome="failed",
            message=f"no {EMAIL}", traceback=f"at {NAME}",
        )  # fmt: skip
        Delivery.objects.update(state="discarded", note=f"ValueError: {EMAIL}")

        redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked")

        attempt = Attempt.objects.get()
        texts = f"{attempt.message} {attempt.traceback} {Delivery.objects.get().note}"
        assert (EMAIL in texts, NAME in texts) == (False, False)

    def test_blanks_a_field_that_was_marked_since_the_version_of_the_event(self, versioned: Event):
        """Failed: the display masked it, and the redaction found nothing to blank."""
        assert masked(versioned)["who"] == "***"

        done = redact(subject="customer:7", by="ann", reason="asked to")

        stored = Event.objects.get(pk=versioned.pk)
        assert (done.blanked, done.empty) == (1, 0)
        assert stored.payload == {"order": "1", "customer": 7, "who": None, "note": ""}

    def test_counts_unknown_events_separately(self):
        """Failed: it counted as one without anything to blank."""
        row = unknown()
        settle()

        done = redact(subject="customer:7", by="ann", reason="asked to")

        assert (done.blanked, done.empty, done.owed) == (0, 0, 0)
        assert done.unknown == {"elsewhere.Noted version 1": 1}
        assert Event.objects.get(pk=row.pk).redacted_at is None

    def test_counts_an_unknown_event_redacted_earlier_as_blank(self):
        row = unknown()
        settle()
        Event.objects.filter(pk=row.pk).update(redacted_at=row.emitted_at)

        done = redact(subject="customer:7", by="ann", reason="asked to")

        assert (done.empty, done.unknown) == (1, {})

    def test_finds_events_by_their_key_too(self):
        emit_parcel()
        settle()

        assert redact(keys=[str(PARCEL)], by="ann", reason="asked").blanked == 1

    def test_notifies_the_other_apps_by_an_event(self):
        handled: list[str] = []

        @subscribe("outbox.SubjectRedacted")
        def forget(subject: str) -> None:
            handled.append(subject)

        redact(subject="customer:7", by="ann", reason="asked")
        Outbox().deliver_all()

        assert handled == ["customer:7"]

    def test_logs_the_actor_and_the_reason(self, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.INFO, logger="outbox.operations"):
            redact(subject="customer:7", by="ann", reason="ticket 4711")

        assert "ann redacted customer:7 (0 events): ticket 4711" in caplog.text

    def test_does_nothing_in_a_dry_run(self):
        emit_parcel()
        settle()

        done = redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked", dry_run=True)

        assert done.blanked == 1
        assert Event.objects.get().payload["email"] == EMAIL


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("failing")
class TestRedactionDuring:
    """Another transaction adds a delivery while the redaction waits for the event's lock.

    Each test failed while the redaction looked for deliveries in the statement that locks.
    """

    def test_a_pass_of_the_relay_blanks_nothing(self):
        emit_parcel()

        self.redact_during(run_pass)

    def test_a_replay_blanks_nothing(self):
        emit_parcel()
        settle()

        self.redact_during(lambda: replay(Choice(), by="ann", reason="a test"))

    def test_a_backfill_blanks_nothing(self):
        emit_parcel()
        settle()
        Delivery.objects.all().delete()

        choice = Choice(handler="tests.write")
        self.redact_during(lambda: backfill(choice, by="ann", reason="a test"))

    def test_a_correction_keeps_blanked_fields_blank(self):
        """Failed while the correction read the event in the statement that locks the delivery."""
        emit_parcel()
        settle("dead")
        (dead,) = Delivery.objects.all()
        shown = masked(dead.event)

        with transaction.atomic():
            redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked to", force=True)
            corrected = in_thread(lambda: correct(dead.pk, shown, by="ann", reason="a test"))
            wait_until_blocked(1)

        assert isinstance(corrected(), Event), corrected()
        stored = Event.objects.filter(name="tests.ParcelSent")
        assert [row.payload["email"] for row in stored] == ["", ""]

    def redact_during(self, other: Callable[[], object]) -> None:
        with transaction.atomic():
            other()
            redacted = in_thread(
                lambda: redact(subject=f"customer:{CUSTOMER}", by="ann", reason="asked to")
            )
            wait_until_blocked(1)

        done = redacted()

        assert isinstance(done, Redaction), done
        assert (done.blanked, done.owed) == (0, 1)
        assert Event.objects.get(name="tests.ParcelSent").payload["email"] == EMAIL


class TestTheCommand:
    def test_redacts_and_reports_the_number(self):
        emit_parcel()
        settle()

        said = outbox_command("redact", "--subject", f"customer:{CUSTOMER}", "--reason", "asked")

        assert said.startswith("1 event blanked; 0 had nothing to blank, 0 are still owed.")

    def test_is_recorded_with_actor_and_reason(self):
        outbox_command("redact", "--subject", "customer:7", "--reason", "ticket 4711")

        [row] = Operation.objects.all()
        assert (row.action, row.reason, row.state) == ("redact", "ticket 4711", "finished")
        assert (row.choice["subject"], row.by) == ("customer:7", operator())

    def test_fails_if_events_are_left(self):
        emit_parcel()

        said = refused("redact", "--key", str(PARCEL), "--reason", "asked")

        assert "1 event not blanked" in said
        assert f"manage.py outbox why {PARCEL}" in said

    def test_that_continues_fails_if_events_are_left(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: it ended with success, and nothing said that it had to be repeated."""
        emit_parcel()
        choice = ["redact", "--key", str(PARCEL), "--reason", "asked"]
        with monkeypatch.context() as killed, pytest.raises(Died):
            killed.setattr(redaction, "_redact_some", lambda *_, **__: die())
            outbox_command(*choice)
        [operation] = Operation.objects.all()
        assert operation.state == "running"

        said = refused("continue", str(operation.pk))

        assert said.startswith("0 events blanked; 0 had nothing to blank, 1 are still owed.")
        assert "1 event not blanked" in said
        assert f"manage.py outbox why {PARCEL}" in said
        assert Operation.objects.get().state == "finished"

    @pytest.mark.parametrize("dry_run", [["--dry-run"], []])
    def test_names_the_events_that_this_code_does_not_know(self, dry_run: list[str]):
        unknown()
        settle()

        command = outbox_command if dry_run else refused
        said = command("redact", "--subject", "customer:7", "--reason", "asked", *dry_run)

        assert "1 event not blanked" in said
        assert "elsewhere.Noted version 1 (1)" in said
        assert "events.lock.json" in said

    def test_names_the_command_that_shows_unfinished_deliveries_of_the_apps(self):
        """Failed: nothing said that the apps erase later, nor where to look."""
        said = outbox_command("redact", "--subject", "customer:7", "--reason", "asked")

        assert said.splitlines()[-1].endswith("`manage.py outbox why customer:7`.")

    @pytest.mark.parametrize(
        "arguments", [["--subject", "customer:7", "--dry-run"], ["--key", "parcel-7"]]
    )
    def test_names_no_command_without_subscribed_apps(self, arguments: list[str]):
        said = outbox_command("redact", *arguments, "--reason", "asked")

        assert "outbox why" not in said

    def test_skips_delayed_events_and_names_them(self, parcel_sent: type[DomainEvent]):
        """Failed: it advised --force, which blanks no delayed event."""
        subject = f"customer:{CUSTOMER}"
        with transaction.atomic():
            emit(parcel_sent(**FIELDS), delay=timedelta(days=1))

        said = refused("redact", "--subject", subject, "--reason", "asked", "--force")

        assert "--force does not blank delayed events" in said
        assert "delayed event" in outbox_command("why", subject)

    def test_names_owed_events_of_the_subject(self):
        """Failed: `why` knew no subjects."""
        subject, event = f"customer:{CUSTOMER}", emit_parcel()

        assert f"event {event.id}: tests.ParcelSent" in outbox_command("why", subject)
        settle()
        assert "Nothing matches" in refused("why", subject)

    def test_requires_a_subject_or_a_key(self):
        assert "--subject" in refused("redact", "--reason", "asked")

    @pytest.mark.parametrize("reason", ["", "  "])
    def test_refuses_an_empty_reason(self, reason: str):
        """Failed: it blanked the data, and stored no reason."""
        said = refused("redact", "--subject", "customer:7", "--reason", reason)

        assert said.startswith("No reason given.")
        assert not Operation.objects.exists()


class TestTheChecks:
    def complaints(self) -> list[tuple[str | None, str]]:
        found = run_checks(tags=["outbox"])
        return [(one.id, one.msg) for one in found if one.id in ("outbox.E024", "outbox.E025")]

    def test_accept_the_proving_event(self):
        assert self.complaints() == []

    def test_refuse_a_sensitive_key(self):
        class Bad(DomainEvent, key="email"):
            email: Sensitive[str]

        assert [one for one, _ in self.complaints()] == ["outbox.E024"]

    def test_refuse_a_type_that_accepts_no_blank(self):
        class Bad(DomainEvent, key="id"):
            id: UUID
            phone: Sensitive[Annotated[str, StringConstraints(pattern=r"^\+\d+$")]]

        [(number, message)] = self.complaints()

        assert number == "outbox.E025"
        assert message.startswith(
            "The field phone of tests.Bad is sensitive, but does not accept the value that "
            "redaction would store"
        )

    def test_accept_strict_types(self):
        """Failed: the blank, a text in JSON, is no instance of a date."""

        class Born(DomainEvent, key="id"):
            model_config = ConfigDict(strict=True)
            id: UUID
            born: Sensitive[date]

        assert self.complaints() == []

    def test_refuse_a_subject_with_an_unknown_field(self):
        with pytest.raises(TypeError, match="names an unknown field, 'nobody'"):

            class Bad(DomainEvent, key="id", subject="customer:{nobody}"):
                id: UUID
