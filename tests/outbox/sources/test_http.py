"""The HTTP source: signed requests are stored once, and all others are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from outbox.checks.sources import check_sources
from outbox.models import Event
from outbox.sources import http
from outbox.sources.backlog import Brake
from outbox.sources.http import HttpSource

from .messages import PAID, cloudevent, configure, declare_invoice_paid, new_order

KEY = b"k" * 32
OLD_KEY = b"o" * 32

urlpatterns = [path("events/<str:source>/", http.receive)]


def secret(key: bytes) -> str:
    return f"whsec_{base64.b64encode(key).decode()}"


@pytest.fixture
def billing(own_registry, settings):
    declare_invoice_paid()
    settings.ROOT_URLCONF = __name__
    return configured(settings)


def configured(settings: Any, *, options: Any = None, **more: Any) -> Any:
    options = {"SECRETS": [secret(KEY), secret(OLD_KEY)], **(options or {})}
    backend = "outbox.sources.http.HttpSource"
    return configure(settings, BACKEND=backend, TOPICS=[], GROUP="", OPTIONS=options, **more)


def signature(id: str, timestamp: str, body: bytes, key: bytes = KEY) -> str:
    digest = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def post(
    body: bytes,
    *,
    id: str = "id-1",
    at: float = 0,
    key: bytes = KEY,
    address: str = "/events/billing/",
    **headers: str,
) -> Any:
    """Send a signed request; `headers` replace its own, and "" removes one."""
    timestamp = str(int(time.time() + at))
    given = {
        "content-type": "application/cloudevents+json",
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(id, timestamp, body, key),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    kind = given.pop("content-type")
    kept = {name: value for name, value in given.items() if value}
    client = Client(enforce_csrf_checks=True)
    return client.post(address, data=body, content_type=kind, headers=kept)


def event(number: int = 1, **attributes: Any) -> bytes:
    return json.dumps(cloudevent(number, **attributes)).encode()


class TestASignedRequest:
    def test_is_stored(self, billing):
        assert post(event()).status_code == 204
        assert Event.objects.get().name == "billing.InvoicePaid"

    def test_is_stored_once_however_often_it_is_sent(self, billing):
        assert [post(event()).status_code for _ in range(3)] == [204] * 3
        assert Event.objects.count() == 1

    def test_may_have_the_secret_that_is_being_replaced(self, billing):
        assert post(event(), key=OLD_KEY).status_code == 204

    def test_may_have_one_signature_of_each_secret(self, billing):
        body, timestamp = event(), str(int(time.time()))
        both = f"v1a,xyz {signature('id-1', timestamp, body, b'x' * 32)} " + signature(
            "id-1", timestamp, body
        )

        answer = post(body, webhook_timestamp=timestamp, webhook_signature=both)

        assert answer.status_code == 204

    def test_may_be_in_binary_encoding(self, billing):
        answer = post(
            json.dumps(new_order()).encode(),
            content_type="application/json",
            ce_specversion="1.0",
            ce_id="id-1",
            ce_source="/billing",
            ce_type=PAID,
        )

        assert answer.status_code == 204
        assert Event.objects.get().name == "billing.InvoicePaid"

    def test_that_cannot_be_read_is_stored_as_received(self, billing):
        assert post(b"{").status_code == 204
        assert Event.objects.get().name == "outbox.UnreadableMessageReceived"
        assert "webhook-signature" not in Event.objects.get().payload["headers"]

    def test_is_answered_only_after_the_commit(self):
        """The view is not part of a transaction of ATOMIC_REQUESTS."""
        assert "default" in vars(http.receive)["_non_atomic_requests"]

    def test_is_to_be_sent_again_while_the_database_fails(self, billing, monkeypatch):
        def fail(*_args: Any, **_options: Any) -> None:
            raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(http, "store", fail)

        answer = post(event())

        assert answer.status_code == 503
        assert int(answer["Retry-After"]) > 0

    @pytest.mark.postgresql
    @pytest.mark.django_db(transaction=True)
    def test_is_not_kept_waiting_during_an_outage(self, billing, link, monkeypatch):
        """The database is lost after the request has been checked."""
        assert post(event(1)).status_code == 204
        monkeypatch.setattr(Brake, "is_needed", lambda _brake: link.cut())

        answer = post(event(2), id="id-2")
        link.mend()

        assert answer.status_code == 503

    def test_is_to_be_sent_again_while_the_backlog_is_too_large(self, billing, settings):
        configured(settings, MAX_BACKLOG=1)
        assert post(event(1)).status_code == 204
        http._brakes.clear()  # a second has passed

        assert post(event(2), id="id-2").status_code == 503
        assert Event.objects.count() == 1


REFUSED = {
    "without a signature": {"webhook_signature": ""},
    "without an id": {"webhook_id": ""},
    "without a time": {"webhook_timestamp": ""},
    "with a time that is no number": {"webhook_timestamp": "now"},
    "with a time in another notation": {"webhook_timestamp": "1e9"},
    "with the signature of another secret": {"key": b"z" * 32},
    "with the signature of another id": {"webhook_id": "id-2"},
    "with an old time": {"at": -400},
    "with a future time": {"at": 400},
    "with a signature that is no Base64": {"webhook_signature": "v1,%%%"},
    "with a signature that is not ASCII": {"webhook_signature": "v1,\u00e9"},
    "with a time of too many digits for a float": {"webhook_timestamp": "9" * 400},
    "with a time of too many digits for an integer": {"webhook_timestamp": "9" * 5000},
    "with an empty signature": {"webhook_signature": "v1,"},
    "with a signature of another version": {"webhook_signature": "v2,AAAA"},
}


BINARY: dict[str, Any] = {
    "content_type": "application/json",
    "ce_specversion": "1.0",
    "ce_id": "id-1",
    "ce_source": "/billing",
    "ce_type": PAID,
}
OTHER_SENDER: dict[str, Any] = {**BINARY, "ce_source": "/other"}
OTHER_HEADERS: dict[str, dict[str, Any]] = {
    "with another sender": OTHER_SENDER,
    "with another type": {**BINARY, "ce_type": "com.example.other"},
    "without its type": {**BINARY, "ce_type": ""},
    "without attributes": {"content_type": "application/json"},
    "with another content type": {**BINARY, "content_type": "text/plain"},
}


class TestARecordedRequest:
    """Its signature does not cover headers, so it is stored once under any other headers."""

    @pytest.mark.parametrize("changed", OTHER_HEADERS.values(), ids=OTHER_HEADERS)
    def test_in_binary_encoding_is_stored_once(self, billing, changed):
        body = json.dumps(new_order()).encode()
        assert post(body, **BINARY).status_code == 204

        assert post(body, **changed).status_code == 204

        assert Event.objects.get().name == "billing.InvoicePaid"

    @pytest.mark.parametrize("changed", [OTHER_SENDER, {"content_type": "text/plain"}])
    def test_in_structured_encoding_is_stored_once(self, billing, changed):
        body = event()
        assert post(body).status_code == 204

        assert post(body, **changed).status_code == 204

        assert Event.objects.get().name == "billing.InvoicePaid"

    def test_with_the_number_of_a_replay_is_stored_once(self, billing):
        body = json.dumps(new_order()).encode()
        assert post(body, id="id-1.2", **BINARY).status_code == 204

        assert post(body, id="id-1.2", **{**BINARY, "ce_id": "id-1.2"}).status_code == 204

        assert Event.objects.count() == 1


class TestARefusedRequest:
    @pytest.mark.parametrize("changed", REFUSED.values(), ids=REFUSED)
    def test_stores_nothing(self, billing, changed):
        answer = post(event(), **changed)

        assert answer.status_code == 401
        assert answer.content.endswith(b".\n")
        assert not Event.objects.exists()

    def test_has_a_changed_body(self, billing):
        body, timestamp = event(), str(int(time.time()))
        signed = signature("id-1", timestamp, body)

        answer = post(body + b" ", webhook_timestamp=timestamp, webhook_signature=signed)

        assert answer.status_code == 401

    def test_has_another_id_in_its_unsigned_headers(self, billing):
        """Otherwise a recorded request could be sent again under another id."""
        binary: dict[str, Any] = {
            "content_type": "application/json",
            "ce_specversion": "1.0",
            "ce_source": "/billing",
            "ce_type": PAID,
        }
        body = json.dumps(new_order()).encode()

        assert post(body, ce_id="id-2", **binary).status_code == 400
        assert post(body, ce_id="id-1", id="id-1.2", **binary).status_code == 204

    @pytest.mark.parametrize("length", ["\u00b2", "9" * 5000])
    def test_has_a_length_that_is_no_number(self, billing, length):
        """Most servers refuse it before the view is called."""
        request = RequestFactory().post("/", data=event(), content_type="text/plain")
        request.META["CONTENT_LENGTH"] = length

        assert http.receive(request, "billing").status_code == 413

    def test_is_too_large(self, billing, settings):
        configured(settings, MAX_BYTES=50)

        assert post(event()).status_code == 413
        assert not Event.objects.exists()

    @override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=50)
    def test_is_too_large_for_django(self, billing):
        assert post(event()).status_code == 413

    def test_names_an_unknown_source(self, billing):
        assert Client().post("/events/other/").status_code == 404

    def test_names_a_source_that_is_no_http_source(self, billing, settings):
        configure(settings)

        assert post(event()).status_code == 404

    def test_is_no_post(self, billing):
        assert Client().get("/events/billing/").status_code == 405


BAD_OPTIONS = {
    "no secret": ({}, "SECRETS"),
    "an empty list": ({"SECRETS": []}, "SECRETS"),
    "one text": ({"SECRETS": secret(KEY)}, "SECRETS"),
    "no Base64": ({"SECRETS": ["whsec_%%%"]}, "Base64"),
    "no ASCII": ({"SECRETS": ["whsec_é%%%"]}, "Base64"),
    "a short secret": ({"SECRETS": [secret(b"short")]}, "5 bytes"),
    "a long secret": ({"SECRETS": [secret(b"x" * 65)]}, "65 bytes"),
    "an unknown key": ({"SECRETS": [secret(KEY)], "SECRET": "x"}, "SECRET"),
    "no tolerance": ({"SECRETS": [secret(KEY)], "TOLERANCE": 0}, "TOLERANCE"),
}


class TestTheOptions:
    @pytest.mark.parametrize(("options", "named"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
    def test_are_refused_without_being_quoted(self, options, named):
        with pytest.raises(ImproperlyConfigured, match=named) as caught:
            HttpSource("billing", topics=(), group="", options=options)

        assert "%%%" not in str(caught.value)
        assert secret(KEY) not in str(caught.value)

    @pytest.mark.parametrize(("options", "named"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
    def test_are_found_by_the_system_check_without_being_quoted(
        self, billing, settings, options, named
    ):
        given = {"BACKEND": "outbox.sources.http.HttpSource", "OPTIONS": options}
        settings.OUTBOX = {**settings.OUTBOX, "SOURCES": {"billing": given}}

        [found] = check_sources()

        assert found.id == "outbox.E012"
        assert named in found.msg
        assert "%%%" not in found.msg
        assert secret(KEY) not in found.msg


URLS: dict[str, list[Any]] = {
    "its own": [path("events/<str:source>/", http.receive)],
    "an included one": [path("in/", include(([path("<str:source>/", http.receive)], "in")))],
    "one of a decorated view": [path("events/<str:source>/", csrf_exempt(http.receive))],
}


def other_view(request: HttpRequest) -> HttpResponse:
    raise AssertionError("No request is sent to it.")


class TestTheUrl:
    @pytest.mark.parametrize("urls", URLS.values(), ids=URLS)
    def test_may_be(self, billing, settings, urls):
        settings.ROOT_URLCONF = tuple(urls)

        assert list(check_sources()) == []

    def test_is_missed_by_the_system_check(self, billing, settings):
        settings.ROOT_URLCONF = (path("other/", other_view),)

        [found] = check_sources()

        assert found.id == "outbox.W023"
        assert "no URL for outbox.sources.http.receive" in found.msg
        assert "billing" in found.msg

    def test_is_not_needed_by_other_sources(self, billing, settings):
        settings.ROOT_URLCONF = (path("other/", other_view),)
        configure(settings)

        assert list(check_sources()) == []
