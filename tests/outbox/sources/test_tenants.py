"""A received message has the tenant that its mapper names, or that of the receiving process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pytest_django import Settings

from outbox.models import Event
from outbox.sources import ExternalMessage, ReceivedMessage
from outbox.sources.base import NotReadable
from outbox.sources.configuration import SourceConfig
from outbox.sources.reading_again import subscribe_reader
from outbox.sources.storing import store
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass
from tests.outbox.tenants import hooks

from .messages import ORDER, PAID, configure, declare_invoice_paid, message

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]

#: How often `capture` was called.
captured: list[str | None] = []


def capture() -> str | None:
    captured.append(hooks.capture())
    return captured[-1]


def failing_once() -> str | None:
    captured.append(None)
    if len(captured) == 1:
        raise LookupError("no request")
    return None


def with_tenant(received: ReceivedMessage) -> ExternalMessage:
    """Map a message whose attribute `shopid` names the tenant."""
    body = json.loads(received.body)
    return ExternalMessage(
        id=body["id"], type=body["type"], data=body["data"], tenant=body.get("shopid")
    )


def tenant_of(settings: Settings, **functions: str) -> None:
    captured.clear()
    given = {**hooks.NAMES, "CAPTURE": f"{__name__}.capture", **functions}
    settings.OUTBOX = {**settings.OUTBOX, "TENANT": given}


@pytest.fixture
def billing(settings: Settings) -> SourceConfig:
    """A source whose messages name their tenant."""
    declare_invoice_paid()
    tenant_of(settings)
    return configure(settings, MAPPER=f"{__name__}.with_tenant")


def stored() -> list[tuple[str, str | None, str | None]]:
    return list(Event.objects.order_by("seq").values_list("name", "tenant", "share"))


class TestAReceivedMessage:
    def test_has_the_tenant_that_its_mapper_names(self, billing: SourceConfig):
        """Failed: it had the one of the process, which is none."""
        with hooks.restore("of the process"):
            store(billing, [message(1, shopid="acme"), message(2, shopid="bolt")])

        name = "billing.InvoicePaid"
        assert stored() == [(name, "acme", "acme"), (name, "bolt", "bolt")]

    def test_has_that_of_the_process_if_it_names_none(self, billing: SourceConfig):
        with hooks.restore("of the process"):
            store(billing, [message()])

        assert stored() == [("billing.InvoicePaid", "of the process", "of the process")]

    def test_that_is_stored_as_it_was_received_has_its_tenant(self, billing: SourceConfig):
        store(billing, [message(1, type="com.example.other", shopid="acme")])
        store(billing, [message(2, data={"amount": "no number"}, shopid="bolt")])

        assert [tenant for _name, tenant, _share in stored()] == ["acme", "bolt"]

    def test_that_is_read_again_keeps_its_tenant(self, billing: SourceConfig):
        subscribe_reader()
        Outbox()
        store(billing, [message(1, data={"amount": "1"}, shopid="acme")])
        Event.objects.update(payload=corrected())

        with hooks.restore("of the worker"):
            run_messages(run_pass())

        assert stored()[1:] == [("billing.InvoicePaid", "acme", "acme")]

    def test_names_no_tenant_without_the_setting(self, billing: SourceConfig, settings: Settings):
        kept = {name: value for name, value in settings.OUTBOX.items() if name != "TENANT"}
        settings.OUTBOX = kept

        store(billing, [message(shopid="acme")])

        assert stored() == [("billing.InvoicePaid", None, None)]

    def test_is_a_dead_letter_if_its_tenant_is_no_text(self):
        with pytest.raises(NotReadable, match="tenant of its ExternalMessage is of the type int"):
            ExternalMessage(id="1", type=PAID, data={}, tenant=7)  # type: ignore[arg-type]

    @pytest.mark.parametrize("tenant", ["x" * 101, "\x00", "\ud800"])
    def test_is_a_dead_letter_if_its_tenant_cannot_be_stored(
        self, billing: SourceConfig, tenant: str
    ):
        counts = store(billing, [message(shopid=tenant)])

        assert counts["unreadable"] == 1
        assert stored() == [("outbox.UnreadableMessageReceived", None, None)]


def corrected() -> dict[str, Any]:
    """Return the payload of the stored message, with fields that fit its class."""
    payload = Event.objects.get().payload
    body = json.loads(payload["body"])
    body["data"]["order_id"] = str(ORDER)
    return {**payload, "body": json.dumps(body)}


class TestTheHook:
    def test_is_called_once_for_each_event(self, billing: SourceConfig):
        """Failed: twice for a message that becomes a dead letter when it is stored."""
        store(billing, [message(1), message(2), message(3, data={"order_id": "x"})])
        assert len(captured) == 3

        captured.clear()
        unstorable = {"order_id": str(ORDER), "amount": "1", "payer": "\x00"}
        store(billing, [message(4, data=unstorable)])
        assert stored()[-1][0] == "outbox.UnreadableMessageReceived"
        assert len(captured) == 1

    def test_is_not_called_for_a_message_that_names_its_tenant(self, billing: SourceConfig):
        store(billing, [message(shopid="acme")])

        assert captured == []

    def test_that_fails_makes_no_dead_letter(self, billing: SourceConfig, settings: Settings):
        """Failed: a hook that failed once had its message stored as one that cannot be read."""
        tenant_of(settings, CAPTURE=f"{__name__}.failing_once")

        with pytest.raises(LookupError) as raised:
            store(billing, [message()])

        assert not Event.objects.exists()
        [note] = raised.value.__notes__
        assert note == f'OUTBOX["TENANT"]["CAPTURE"], the function {__name__}.failing_once, failed.'
