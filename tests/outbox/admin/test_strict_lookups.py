"""Invalid input to the outbox's pages, in a project without its own middleware against it."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from django.db import DataError
from django.urls import reverse

from outbox import DomainEvent, PermanentFailure, subscribe
from outbox.admin import DeliveryAdmin
from outbox.admin.json_object import DEEPEST
from outbox.models import Delivery, Event, Operation
from outbox.testing import Outbox
from tests.outbox.parcels import DELIVERIES, EVENTS, packed, page_of, subscribe_to_parcels

DEAD = reverse("admin:outbox_delivery_dead")
ACT = reverse("admin:outbox_delivery_dead_act")
#: What a payload may not be, and what is said of it.
BAD_PAYLOADS = {
    "deep arrays": ("[" * 12_000, "at most 100 levels deep"),
    "deep arrays, closed": ("[" * 12_000 + "]" * 12_000, "at most 100 levels deep"),
    "deep objects": ('{"a":' * 12_000 + "1" + "}" * 12_000, "at most 100 levels deep"),
    "a deep value": ('{"a": ' + "[" * DEEPEST + "]" * DEEPEST + "}", "at most 100 levels deep"),
    "an escaped NUL": ('{"note": "a\\u0000b"}', "NUL character"),
    "an escaped NUL in a name": ('{"\\u0000": 1}', "NUL character"),
    "half of a surrogate pair": ('{"note": "\\ud800"}', "unpaired surrogate"),
    "a NUL as it is": ("\0", "Null characters are not allowed"),
    "NaN": ('{"note": NaN}', "NaN is not a JSON value"),
    "infinity": ('{"note": -Infinity}', "-Infinity is not a JSON value"),
    "a number without an end": ('{"note": 1e999}', "a number is too large"),
    "more digits than int() takes": ('{"note": ' + "9" * 5000 + "}", "Invalid JSON"),
    "an array": ("[]", "Enter a JSON object."),
    "null": ("null", "Enter a JSON object."),
    "no JSON": ("(", "Invalid JSON"),
}


class Nested(DomainEvent, key="box_id"):
    """A box in a box."""

    box_id: str
    parts: list[object]


@pytest.fixture
def outbox(own_registry: None, no_nudge: None) -> Outbox:
    return subscribe_to_parcels()


def state() -> object:
    return (
        list(Delivery.objects.order_by("pk").values_list("pk", "state", "due_at", "note")),
        Event.objects.count(),
        Operation.objects.count(),
    )


class TestAFilter:
    @pytest.mark.parametrize(
        "url",
        [f"{EVENTS}?name=%00", f"{DELIVERIES}?handler=%00", f"{EVENTS}?app=%00", f"{EVENTS}?q=%00"],
    )
    def test_refuses_nul(self, outbox, admin_client, url):
        packed(outbox)

        assert admin_client.get(url, follow=True).status_code == 200


class TestAnAction:
    @pytest.mark.parametrize("key", ["", "x", "1.5", "9" * 30, "-1", "²", "a\r\nb", "\0"])
    @pytest.mark.parametrize("more", [{}, {"from_page": "1"}])
    def test_with_an_invalid_key_changes_nothing(self, outbox, admin_client, key, more):
        packed(outbox)
        before = state()

        given = {"action": "discard", "reason": "x", "_selected_action": [key], **more}
        answer = admin_client.post(DELIVERIES, given, follow=True)

        assert answer.status_code == 200
        assert state() == before

    @pytest.mark.parametrize("field", ["handler", "exception", "place"])
    @pytest.mark.parametrize("more", [{}, {"reason": "x", "rate": "1"}])
    def test_on_dead_letters_refuses_nul(self, outbox, admin_client, field, more):
        packed(outbox)
        before = state()

        answer = admin_client.post(ACT, {"action": "retry", field: "a\0b", **more}, follow=True)

        assert "This group does not exist." in answer.content.decode()
        assert state() == before


class TestACorrection:
    @pytest.mark.parametrize("kind", sorted(BAD_PAYLOADS))
    def test_names_the_error_in_a_payload_and_stores_nothing(self, outbox, admin_client, kind):
        packed(outbox)
        dead, before = Delivery.objects.get(state="dead"), state()
        payload, said = BAD_PAYLOADS[kind]

        url = reverse("admin:outbox_delivery_correct", args=[dead.pk])
        answer = admin_client.post(url, {"payload": payload, "reason": "because"})

        assert answer.status_code == 200
        assert said in " ".join(answer.context["form"].errors["payload"])
        assert state() == before

    def test_accepts_the_maximum_depth(self, own_registry, no_nudge, admin_client):
        @subscribe("tests.Nested")
        def refuse() -> None:
            raise PermanentFailure("no")

        outbox = Outbox()
        event = outbox.given("tests.Nested", box_id=str(uuid4()), parts=[])
        outbox.deliver_all(raise_errors=False)
        parts = json.loads("[" * (DEEPEST - 1) + "]" * (DEEPEST - 1))
        payload = json.dumps({**event.payload, "parts": parts})

        url = reverse("admin:outbox_delivery_correct", args=[Delivery.objects.get().pk])
        answer = admin_client.post(url, {"payload": payload, "reason": "because"})

        stored = Event.objects.get(corrects=event.id)
        assert answer.status_code == 302
        assert stored.payload["parts"] == parts
        assert admin_client.get(page_of(stored)).status_code == 200


class TestAForm:
    def test_with_a_value_that_cannot_be_stored_is_refused(self, admin_client, monkeypatch):
        """A field let a value through that its column does not hold."""

        def cannot_store(*_args: object, **_kwargs: object) -> None:
            raise DataError("integer out of range")

        monkeypatch.setattr(DeliveryAdmin, "get_object", cannot_store)

        assert admin_client.get(f"{DELIVERIES}1/change/").status_code == 400
