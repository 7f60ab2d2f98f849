"""Webhooks over HTTP."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from api.models import StoredAnswer
from outbox.models import Event
from tests.orders.factories import a_key, customer, signed_in
from tests.webhooks.receiver import answers
from webhooks import services
from webhooks.models import Endpoint, Message
from webhooks.throttles import LookupThrottle
from webhooks.views import OwnWebhook

pytestmark = pytest.mark.django_db

URL = "/api/webhooks/"
WANTED = {"url": "https://1.1.1.1/hooks", "event_types": ["order.placed"]}


@pytest.fixture
def client() -> APIClient:
    return signed_in(customer())


def add(client: APIClient, **more):
    return client.post(URL, {**WANTED, **more}, headers=a_key())


class TestAdding:
    def test_shows_the_secret_only_once(self, client):
        answer = add(client, description="the warehouse")

        added = answer.json()
        assert answer.status_code == 201
        assert added["secret"].startswith("whsec_")
        assert answer["Location"].endswith(f"/api/webhooks/{added['id']}/")
        again = client.get(answer["Location"]).json()
        listed = client.get(URL).json()["results"]
        assert again == listed[0]
        assert again == {name: value for name, value in added.items() if name != "secret"}

    def test_needs_an_idempotency_key_and_repeats_its_answer(self, client):
        without = client.post(URL, WANTED)
        key = a_key()

        first, second = (client.post(URL, WANTED, headers=key) for _ in range(2))

        assert without.json()["code"] == "idempotency_key_missing"
        assert first.json() == second.json()
        assert second["Idempotent-Replayed"] == "true"
        assert Endpoint.objects.count() == 1

    def test_again_after_the_life_of_the_key_adds_a_webhook_with_its_own_secret(self, client):
        """Several webhooks may have one URL. The list shows both, and rotation gives a secret."""
        key = a_key()
        first = client.post(URL, WANTED, headers=key).json()
        StoredAnswer.objects.all().delete()

        second = client.post(URL, WANTED, headers=key).json()

        assert first["secret"] != second["secret"]
        listed = client.get(URL).json()["results"]
        assert [one["id"] for one in listed] == [second["id"], first["id"]]
        assert {one["url"] for one in listed} == {WANTED["url"]}

    @pytest.mark.parametrize(
        ("wrong", "pointer", "code"),
        [
            ({"url": "https://127.0.0.1/"}, "#/url", "url_refused"),
            ({"url": "http://1.1.1.1/"}, "#/url", "url_refused"),
            ({"url": "https://nobody.invalid/"}, "#/url", "url_refused"),
            ({"url": 5}, "#/url", "invalid"),
            ({"url": "https://1.1.1.1/" + "x" * 500}, "#/url", "max_length"),
            ({"event_types": []}, "#/event_types", "min_length"),
            ({"event_types": ["order.lost"]}, "#/event_types/0", "invalid_choice"),
            ({"event_types": ["order.placed"] * 2}, "#/event_types", "invalid"),
            ({"secret": "whsec_mine"}, "#/secret", "unknown_field"),
            ({"enabled": True}, "#/enabled", "unknown_field"),
        ],
    )
    def test_refuses_invalid_fields(self, client, wrong, pointer, code):
        answer = add(client, **wrong)

        assert answer.status_code == 400
        assert answer["Content-Type"] == "application/problem+json"
        (error,) = answer.json()["errors"]
        assert (error["pointer"], error["code"]) == (pointer, code)
        assert not Endpoint.objects.exists()

    def test_is_limited(self, client):
        for _ in range(services.MOST_ENDPOINTS):
            assert add(client).status_code == 201

        answer = add(client)

        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_webhooks")
        assert Endpoint.objects.count() == services.MOST_ENDPOINTS


class TestAWebhook:
    @pytest.fixture
    def address(self, client) -> str:
        return str(add(client)["Location"])

    def test_of_another_user_is_not_found(self, address):
        for stranger in (User.objects.create_superuser("staff"), User.objects.create_user("eve")):
            them = signed_in(stranger)
            got = [
                them.get(address),
                them.patch(address, {"enabled": False}),
                them.delete(address),
                them.get(f"{address}deliveries/"),
                them.post(f"{address}test/", headers=a_key()),
                them.post(f"{address}rotate-secret/", headers=a_key()),
            ]

            assert [answer.status_code for answer in got] == [404] * 6
            assert them.get(URL).json()["results"] == []
        assert Endpoint.objects.get().enabled

    @pytest.mark.parametrize("what", ["rotate-secret/", "test/", ""])
    def test_that_is_removed_concurrently_is_not_found(self, client, address, what, monkeypatch):
        """It was a 500: found, and gone when it was to be locked."""
        found = OwnWebhook.get_object

        def found_and_removed(view):
            endpoint = found(view)
            Endpoint.objects.all().delete()
            return endpoint

        monkeypatch.setattr(OwnWebhook, "get_object", found_and_removed)

        if what:
            answer = client.post(f"{address}{what}", headers=a_key())
        else:
            answer = client.patch(address, {"description": "x"})

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    def test_requires_authentication(self, address):
        assert APIClient().get(address).status_code == 401
        assert APIClient().post(URL, WANTED).status_code == 401

    def test_has_an_etag(self, client, address):
        first = client.get(address)

        second = client.get(address, headers={"If-None-Match": first["ETag"]})

        assert second.status_code == 304

    def test_can_be_changed_in_part(self, client, address):
        answer = client.patch(address, {"event_types": ["order.shipped", "order.cancelled"]})

        assert answer.status_code == 200
        assert answer.json()["event_types"] == ["order.cancelled", "order.shipped"]
        assert answer.json()["url"] == WANTED["url"]

    def test_keeps_its_failures_if_its_url_is_given_again(self, client, address):
        """Failed: a client that repeats its settings kept a dead webhook enabled for ever."""
        since = timezone.now() - timedelta(days=2)
        failing = {"failures": 9, "failing_since": since, "rests_until": since}
        Endpoint.objects.update(**failing, url_state="unresolved")
        checks = Event.objects.filter(name="webhooks.EndpointUrlChanged").count()

        answer = client.patch(address, {**WANTED, "description": "mine"})

        assert (answer.status_code, answer.json()["description"]) == (200, "mine")
        assert Endpoint.objects.values(*failing).get() == failing
        assert Endpoint.objects.get().url_state == "unresolved"
        assert Event.objects.filter(name="webhooks.EndpointUrlChanged").count() == checks

    def test_loses_its_failures_with_its_url(self, client, address):
        Endpoint.objects.update(failures=9, failing_since=timezone.now())

        client.patch(address, {"url": "https://1.1.1.1/other"})

        assert Endpoint.objects.values_list("failures", "failing_since").get() == (0, None)

    @pytest.mark.parametrize("what", ["rotate-secret/", "test/"])
    @pytest.mark.parametrize(
        ("raw", "pointer"), [(b'{"secret": "x"}', "#/secret"), (b"[]", "#"), (b"null", "#")]
    )
    def test_refuses_a_body_with_fields_where_there_are_none(
        self, client, address, what, raw, pointer
    ):
        """Failed: the body was ignored."""
        secret = Endpoint.objects.get().secret

        answer = client.post(
            f"{address}{what}", raw, content_type="application/json", headers=a_key()
        )

        assert answer.status_code == 400
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
        assert Endpoint.objects.get().secret == secret
        assert not Message.objects.exists()

    @pytest.mark.parametrize(("what", "status"), [("rotate-secret/", 200), ("test/", 202)])
    @pytest.mark.parametrize("raw", [b"", b"{}"])
    def test_accepts_an_empty_body_where_there_are_no_fields(
        self, client, address, what, status, raw
    ):
        answer = client.post(
            f"{address}{what}", raw, content_type="application/json", headers=a_key()
        )

        assert answer.status_code == status

    def test_cannot_be_changed_to_a_private_address(self, client, address):
        answer = client.patch(address, {"url": "https://169.254.169.254/"})

        assert answer.json()["errors"][0]["code"] == "url_refused"
        assert Endpoint.objects.get().url == WANTED["url"]

    def test_can_be_disabled_and_enabled(self, client, address):
        off = client.patch(address, {"enabled": False}).json()
        refused = client.post(f"{address}test/", headers=a_key())
        on = client.patch(address, {"enabled": True}).json()

        assert (off["enabled"], off["disabled_because"]) == (False, "by_owner")
        assert (refused.status_code, refused.json()["code"]) == (409, "webhook_disabled")
        assert (on["enabled"], on["disabled_because"], on["disabled_at"]) == (True, "", None)

    def test_disabled_by_staff_stays_so(self, client, address):
        """Seen to fail without the look at who disabled it."""
        services.disable_by_staff(endpoint_id=Endpoint.objects.get().pk, note="floods us")

        answer = client.patch(address, {"enabled": True})

        assert (answer.status_code, answer.json()["code"]) == (409, "webhook_disabled_by_staff")
        assert client.get(address).json()["disabled_note"] == "floods us"

    def test_disabled_by_staff_is_not_added_again(self, client, address):
        """Failed: its owner removed it and added it again, and the messages continued."""
        services.disable_by_staff(endpoint_id=Endpoint.objects.get().pk, note="floods us")

        removed, added = client.delete(address), add(client)

        assert (removed.status_code, added.status_code) == (409, 409)
        codes = {answer.json()["code"] for answer in (removed, added)}
        assert codes == {"webhook_disabled_by_staff"}
        assert Endpoint.objects.get().disabled_note == "floods us"

    def test_disabled_by_staff_is_not_moved_to_another_url(self, client, address):
        """Failed: its owner changed the URL of a webhook that only staff may enable."""
        services.disable_by_staff(endpoint_id=Endpoint.objects.get().pk, note="floods us")

        moved = client.patch(address, {"url": "https://1.0.0.1/hooks"})
        described = client.patch(address, {"url": WANTED["url"], "description": "mine"})

        assert (moved.status_code, moved.json()["code"]) == (409, "webhook_disabled_by_staff")
        assert described.status_code == 200
        assert Endpoint.objects.get().url == WANTED["url"]

    @pytest.mark.parametrize(
        "url",
        [
            "https://hooks.example.com:443/shop",
            "https://hooks.example.com:8443/shop",
            "https://hooks.example.com./shop",
            "https://HOOKS.example.com/shop",
            "https://hooks.example.com/shop?again",
        ],
    )
    def test_at_the_host_of_one_disabled_by_staff_is_refused(self, client, address, url):
        """Failed: another spelling of the same URL received the messages again."""
        blocked = Endpoint.objects.get()
        Endpoint.objects.filter(pk=blocked.pk).update(url="https://hooks.example.com/shop")
        services.disable_by_staff(endpoint_id=blocked.pk, note="floods us")
        other = add(client)

        answers = [add(client, url=url), client.patch(other["Location"], {"url": url})]

        codes = {(answer.status_code, answer.json()["code"]) for answer in answers}
        assert codes == {(409, "webhook_disabled_by_staff")}
        assert Endpoint.objects.exclude(pk=blocked.pk).get().url == WANTED["url"]

    def test_of_another_owner_is_added_although_staff_disabled_one(self, client, address):
        services.disable_by_staff(endpoint_id=Endpoint.objects.get().pk, note="floods us")

        assert add(signed_in(customer("taro"))).status_code == 201

    def test_disabled_by_staff_is_erased_with_its_owner(self, client, address):
        services.disable_by_staff(endpoint_id=Endpoint.objects.get().pk, note="floods us")

        services.forget_owner(subject=f"user:{customer().pk}")

        assert not Endpoint.objects.exists()

    def test_can_be_removed(self, client, address):
        assert client.delete(address).status_code == 204
        assert client.get(address).status_code == 404

    def test_gets_a_new_secret_once_for_one_key(self, client, address):
        key = a_key()
        old = Endpoint.objects.get().secret

        first, second = (client.post(f"{address}rotate-secret/", headers=key) for _ in range(2))

        endpoint = Endpoint.objects.get()
        assert first.json()["secret"] == second.json()["secret"] == endpoint.secret != old
        assert endpoint.old_secret == old
        assert first.json()["old_secret_until"]


class TestTesting:
    def test_sends_a_ping_which_the_log_shows(self, client, endpoint, receiver, outbox):
        receiver.behaviour = answers(500)
        address = f"{URL}{endpoint.pk}/"
        answer = client.post(f"{address}test/", headers=a_key())
        assert answer.status_code == 202

        outbox.deliver_all(only="webhooks", raise_errors=False)

        (shown,) = client.get(f"{address}deliveries/").json()["results"]
        assert shown["webhook_id"] == answer.json()["id"] == str(Message.objects.get().pk)
        assert (shown["type"], shown["number"], shown["status_code"]) == ("ping", 1, 500)
        assert (shown["delivered"], shown["error"]) == (False, "HTTP 500")
        assert client.get(address).json()["last_failure"] == "HTTP 500"


class TestHostLookups:
    def test_are_limited_per_user(self, monkeypatch: pytest.MonkeyPatch):
        """Each of them has a worker ask a name server."""
        monkeypatch.setattr(LookupThrottle, "rate", "2/min", raising=False)
        client = signed_in(customer("throttled", pk=4711))

        answers = [add(client, url=f"https://{host}.example.com/") for host in "abc"]
        changed = client.patch(answers[0]["Location"], {"url": "https://d.example.com/"})

        assert [answer.status_code for answer in [*answers, changed]] == [201, 201, 429, 429]
        assert Event.objects.filter(name="webhooks.EndpointUrlChanged").count() == 2
        assert client.get(URL).status_code == 200
        assert client.delete(answers[0]["Location"]).status_code == 204

    def test_of_test_messages_are_limited_as_well(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: each sending of one looks the host up, and they were not counted."""
        monkeypatch.setattr(LookupThrottle, "rate", "2/min", raising=False)
        client = signed_in(customer("throttled", pk=4712))
        address = add(client)["Location"]

        answers = [client.post(f"{address}test/", headers=a_key()) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [202, 429]
        assert Message.objects.count() == 1
