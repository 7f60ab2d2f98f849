"""A person corrects a message that could not be read; groups, `why` and the admin support it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from outbox import operations
from outbox.models import Attempt, Delivery, Event, Operation
from outbox.monitor.diagnosis import why
from outbox.monitor.groups import groups
from outbox.operations import CannotCorrect, correct_message
from outbox.sources import ExternalEvent
from outbox.sources.reading_again import subscribe_reader
from outbox.sources.storing import store
from outbox.sources.unreadable import HANDLER
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.confirmations import confirm, hidden_in
from tests.outbox.parcels import client_with, page_of, text_of

from .messages import ORDER, PAID, cloudevent, configure, declare_invoice_paid, message

DEAD = reverse("admin:outbox_delivery_dead")
ACT = reverse("admin:outbox_delivery_dead_act")
WRONG = {"order_id": "seven", "amount": "3"}
RIGHT = {"order_id": str(ORDER), "amount": "3"}


@pytest.fixture
def billing(own_registry, no_nudge, settings):
    declare_invoice_paid()
    subscribe_reader()
    return configure(settings)


def receive(source: Any, *messages: Any) -> Outbox:
    outbox = Outbox()
    store(source, messages)
    outbox.deliver_all(raise_errors=False)
    return outbox


def dead() -> Delivery:
    return Delivery.objects.select_related("event", "subscription").get(state="dead")


def body(**data: Any) -> str:
    return json.dumps(cloudevent(data={**RIGHT, **data}))


def invoices() -> int:
    return Event.objects.filter(name="billing.InvoicePaid").count()


class TestACorrectedMessage:
    def test_is_read_before_it_is_stored(self, billing):
        receive(billing, message(data=WRONG))

        with pytest.raises(CannotCorrect, match=r"does not fit billing\.InvoicePaid: order_id"):
            correct_message(
                dead().pk, body=body(order_id="eight").encode(), by="ann", reason="typo"
            )

        assert Event.objects.count() == 1
        assert not Operation.objects.exists()

    def test_has_a_type_that_an_event_declares(self, billing):
        receive(billing, message(data=WRONG))
        other = json.dumps(cloudevent(type="com.example.other")).encode()

        with pytest.raises(CannotCorrect, match=r"declares the type com\.example\.other"):
            correct_message(dead().pk, body=other, by="ann", reason="typo")

    def test_keeps_its_headers_if_only_the_body_is_corrected(self, billing):
        headers = {"trace": "7"}
        outbox = receive(billing, message(body=b"\xff", headers=headers))

        event = correct_message(dead().pk, body=body().encode(), by="ann", reason="typo")
        outbox.deliver_all()

        assert event.payload["headers"] == headers
        assert (event.payload["encoding"], event.payload["size"]) == ("text", len(body()))
        assert invoices() == 1

    def test_keeps_its_body_if_only_its_headers_are_corrected(self, billing):
        outbox = receive(billing, message(body=json.dumps(RIGHT).encode()))
        event = cloudevent()
        headers = {f"ce-{name}": event[name] for name in ("specversion", "id", "source", "type")}

        correct_message(dead().pk, headers=headers, by="ann", reason="no headers")
        outbox.deliver_all()

        assert invoices() == 1

    def test_may_have_been_too_large(self, settings, billing):
        small = configure(settings, MAX_BYTES=300)
        outbox = receive(small, message(data={**RIGHT, "amount": "1" * 300}))

        correct_message(dead().pk, body=body().encode(), by="ann", reason="shorter")
        outbox.deliver_all()

        assert invoices() == 1

    def test_is_one_that_a_source_received(self, own_registry, no_nudge):
        from outbox import PermanentFailure, subscribe

        @subscribe("shops.Ordered")
        def refuse() -> None:
            raise PermanentFailure("no")

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=ORDER, number=1)
        outbox.deliver_all(raise_errors=False)

        with pytest.raises(CannotCorrect, match=r"shops\.Ordered, which is no received message"):
            correct_message(dead().pk, body=b"{}", by="ann", reason="typo")


class TestTheCommand:
    def test_corrects_the_body(self, billing, tmp_path: Path):
        outbox = receive(billing, message(data=WRONG))
        file = tmp_path / "body.json"
        file.write_text(body())

        said = outbox_command("correct", str(dead().pk), "--body", str(file), "--reason", "typo")
        outbox.deliver_all()

        assert str(Event.objects.get(corrects__isnull=False).id) in said
        assert invoices() == 1
        assert Operation.objects.get().reason == "typo"

    def test_names_the_error_of_a_body_that_cannot_be_read(self, billing, tmp_path: Path):
        receive(billing, message(data=WRONG))
        file = tmp_path / "body.json"
        file.write_text("{")

        said = refused("correct", str(dead().pk), "--body", str(file), "--reason", "typo")

        assert "The body is no JSON text" in said
        assert Event.objects.count() == 1

    def test_names_a_missing_file(self, billing, tmp_path: Path):
        receive(billing, message(data=WRONG))

        said = refused("correct", str(dead().pk), "--body", str(tmp_path / "no"), "--reason", "x")

        assert "cannot be read: No such file" in said


class TestARefusedCorrection:
    def test_names_the_position_of_invalid_json(self, billing, tmp_path: Path):
        receive(billing, message(data=WRONG))
        file = tmp_path / "body"
        file.write_text('{"a" 1}')

        text = refused("correct", str(dead().pk), "--body", str(file), "--reason", "typo")

        assert "(Expecting ':' delimiter). Send valid JSON (line 1, column 6)." in text


class TestTheGroups:
    def test_of_unreadable_messages_have_one_reason_each(self, billing):
        bad = [message(1, data=WRONG), message(2, data=WRONG), message(3, body=b"[1]")]
        receive(billing, *bad)

        found = groups()

        assert [one.number for one in found] == [2, 1]
        assert "order_id" in found[0].cause
        assert "since its body is no JSON object" in found[1].cause

    def test_are_one_for_invalid_json_at_different_columns(self, billing):
        receive(billing, message(1, body=b'{"a" 1}'), message(2, body=b'{"abc": 1, "d" 2}'))

        [group] = groups()

        assert group.number == 2
        assert "(Expecting ':' delimiter)" in group.cause

    def test_are_one_for_a_problem_at_different_positions_of_a_list(self, own_registry, settings):
        class ParcelsBooked(ExternalEvent, source="billing", type=PAID, key="order_id"):
            order_id: UUID
            weights: list[int]

        subscribe_reader()
        source = configure(settings)
        bad = [["x", 1], [1, 2, "y"], ["x", "y"]]
        receive(source, *(message(n, data={**RIGHT, "weights": one}) for n, one in enumerate(bad)))

        [group] = groups()

        assert group.number == 3
        assert "weights.*: Input should be a valid integer" in group.cause

    def test_name_the_command_that_corrects_one(self, billing, tmp_path: Path):
        receive(billing, message(data=WRONG))

        said = outbox_command("groups")

        command = f"manage.py outbox correct {dead().pk} --body FILE --reason TEXT"
        assert f"to correct one: {command}" in said
        assert "It does not fit billing.InvoicePaid: order_id" in said

    def test_name_commands_that_change_only_the_group(self, billing):
        receive(billing, message(1, data=WRONG), message(2, data=WRONG), message(3, body=b"[1]"))
        [largest, _other] = groups()

        outbox_command(*shlex.split(largest.discard)[2:], "--reason", "test messages")

        assert Delivery.objects.filter(state="discarded").count() == 2
        assert dead().event.payload["body"] == "[1]"


class TestThePageOfDeadLetters:
    def test_discards_the_messages_of_one_reason(self, billing, admin_client):
        receive(billing, message(1, data=WRONG), message(2, body=b"[1]"))
        group = next(one for one in groups() if "order_id" in one.reason)
        form = {
            "action": "discard",
            "group": "1",
            "handler": HANDLER,
            "exception": group.exception,
            "place": group.place,
            "message": group.reason,
        }

        shown = text_of(admin_client, DEAD)
        confirmation = admin_client.post(ACT, form).content.decode()
        typed = {"reason": "a test message", "rate": "500"}
        admin_client.post(ACT, {**hidden_in(confirmation), **typed})

        assert f'href="{reverse("admin:outbox_delivery_correct", args=[group.example])}"' in shown
        assert "It does not fit billing.InvoicePaid" in shown
        assert f'name="message" value="{group.reason}"' in confirmation
        assert Delivery.objects.filter(state="discarded").count() == 1
        assert dead().event.payload["body"] == "[1]"

    @pytest.mark.parametrize("action", ["retry", "discard"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_acts_on_a_reason_with_line_breaks(self, billing, admin_client, action, end):
        """Failed: a browser sends each as CR LF, and no delivery had that reason.

        Failed again: the reason was read with LF, and that of a mapper had CR LF.
        """
        receive(billing, message(1, data=WRONG), message(2, data=WRONG))
        one, other = Attempt.objects.order_by("pk")
        Attempt.objects.filter(pk=one.pk).update(message=f"100% wrong{end}two.{end}{end}three")
        Attempt.objects.filter(pk=other.pk).update(message="100% wrong two. three")
        shown = admin_client.get(DEAD).content.decode()
        (form,) = (
            found
            for found in map(hidden_in, re.findall("<form.*?</form>", shown, re.DOTALL))
            if "message" in found and "two. three" not in unquote(found["message"][0])
        )

        confirm(admin_client, ACT, {**form, "action": action}, reason="a test", rate="500")

        assert Operation.objects.get().touched == 1
        assert Delivery.objects.get(state="dead").pk == other.delivery_id

    def test_refuses_a_reason_that_no_database_stores(self, billing, admin_client):
        receive(billing, message(data=WRONG))

        form = {"action": "retry", "group": "1", "handler": HANDLER, "message": "%00"}
        answer = admin_client.post(ACT, form, follow=True)

        assert "This group does not exist. Reload the page." in answer.content.decode()


class TestWhy:
    def explained(self, **found: Any) -> str:
        rows = Delivery.objects.select_related("event", "subscription")
        return why(rows.get(**found))

    def test_names_the_correction_of_a_dead_message(self, billing):
        receive(billing, message(data=WRONG))

        assert f"`manage.py outbox correct {dead().pk} --body FILE`" in why(dead())

    def test_names_the_event_of_a_corrected_message(self, billing):
        outbox = receive(billing, message(data=WRONG))
        first = dead().pk
        correct_message(first, body=body().encode(), by="ann", reason="typo")
        before = self.explained(pk=first)
        outbox.deliver_all()

        event = Event.objects.get(name="billing.InvoicePaid")
        expected = f"It became event {event.id}: billing.InvoicePaid."
        assert "The delivery of the correction" in before
        assert "is pending" in before
        assert self.explained(pk=first).endswith(expected)
        assert self.explained(state="done").endswith(expected)

    def test_names_a_type_that_is_unknown(self, billing):
        receive(billing, message(type="com.example.invoice.sent"))

        said = self.explained()

        assert "Kept: type unknown. No external event of the source billing" in said
        assert "com.example.invoice.sent" in said

    def test_names_the_replay_after_a_release_that_knows_the_type(self, billing):
        outbox = receive(billing, message(type="com.example.invoice.sent"))

        class InvoiceSent(
            ExternalEvent, source="billing", type="com.example.invoice.sent", key="order_id"
        ):
            order_id: str

        before = self.explained()
        choice = operations.Choice(handler=HANDLER)
        operations.replay(choice, by="ann", reason="the type is known now")
        outbox.deliver_all()

        assert "This release declares it: `manage.py outbox replay" in before
        assert "billing.InvoiceSent" in self.explained()

    def test_names_a_message_whose_id_was_stored_before(self, billing):
        outbox = receive(billing, message(1, data=RIGHT), message(2, data=WRONG))
        correct_message(dead().pk, body=body().encode(), by="ann", reason="typo")
        outbox.deliver_all()

        said = self.explained(state="done")

        assert "It became no event: a message with its id was stored before" in said

    def test_does_not_describe_other_handlers(self, billing):
        from outbox import subscribe

        @subscribe("billing.InvoicePaid")
        def settle_invoice() -> None: ...

        receive(billing, message(data=RIGHT))

        assert "It became" not in self.explained()


class TestTheForm:
    def url(self) -> str:
        return reverse("admin:outbox_delivery_correct", args=[dead().pk])

    def test_is_filled_on_request_and_the_access_is_logged(
        self, billing, admin_client: Client, admin_user
    ):
        receive(billing, message(data=WRONG, subject="Mallory"))

        first = text_of(admin_client, self.url())
        answer = admin_client.post(self.url(), {"show": "1"})

        assert "Mallory" not in first
        assert "Mallory" in answer.context["form"]["body"].value()
        assert "no-store" in answer["Cache-Control"]
        entry = LogEntry.objects.get()
        assert (entry.user, entry.object_id) == (admin_user, str(dead().event.pk))

    def test_opens_filled_from_the_page_of_the_delivery(self, billing, admin_client: Client):
        receive(billing, message(data=WRONG))

        text = text_of(admin_client, page_of(dead()))

        assert f'<form method="post" action="{self.url()}"' in text
        assert 'name="show" value="1"' in text

    def test_stores_a_corrected_message(self, billing, admin_client: Client):
        outbox = receive(billing, message(data=WRONG))

        answer = admin_client.post(self.url(), {"body": body(), "reason": "typo"})
        outbox.deliver_all()

        assert answer.status_code == 302
        assert invoices() == 1

    def test_keeps_the_line_breaks_of_a_body_that_is_not_corrected(
        self, billing, admin_client: Client
    ):
        """A browser sends each line break of a form as CR LF."""
        stored = f'{{"order_id":\r\n"{ORDER}",\n"amount":\r"3"}}'
        receive(billing, message(body=stored.encode()))
        event = cloudevent()
        headers = {f"ce-{name}": event[name] for name in ("specversion", "id", "source", "type")}
        sent = "\r\n".join(stored.splitlines())

        form = {"body": sent, "headers": json.dumps(headers), "reason": "no headers"}
        answer = admin_client.post(self.url(), form)

        assert answer.status_code == 302
        assert Event.objects.get(corrects__isnull=False).payload["body"] == stored

    def test_names_the_error_and_keeps_the_text(self, billing, admin_client: Client):
        receive(billing, message(data=WRONG))
        still_wrong = body(order_id="eight")

        answer = admin_client.post(self.url(), {"body": still_wrong, "reason": "typo"})

        form = answer.context["form"]
        assert "It does not fit billing.InvoicePaid: order_id" in form.errors["body"][0]
        assert form["body"].value() == still_wrong
        assert Event.objects.count() == 1

    def test_takes_base64(self, billing, admin_client: Client):
        receive(billing, message(body=b"\xff\x00"))

        shown = admin_client.post(self.url(), {"show": "1"}).context["form"]
        answer = admin_client.post(
            self.url(), {"body": "no Base64!", "is_base64": "on", "reason": "typo"}
        )

        assert (shown["body"].value(), shown["is_base64"].value()) == ("/wA=", True)
        assert answer.context["form"].errors["body"] == ["The body is no valid Base64."]

    def test_is_never_filled_without_the_permission(self, billing):
        receive(billing, message(data=WRONG, subject="Mallory"))
        client = client_with("view_delivery", "correct_event")

        page, own = text_of(client, page_of(dead())), text_of(client, self.url())
        answer = client.post(self.url(), {"show": "1"})

        assert 'name="show"' not in page + own
        assert answer.status_code == 403
        assert not LogEntry.objects.exists()

    def test_is_not_shown_without_the_permission_to_correct(self, billing):
        receive(billing, message(data=WRONG))

        answer = client_with("view_delivery", "view_sensitive").post(self.url(), {"show": "1"})

        assert answer.status_code == 403
