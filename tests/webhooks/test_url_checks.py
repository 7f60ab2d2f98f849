"""A worker looks up the host of an endpoint; a request never does."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.db import connection
from rest_framework.test import APIClient

from outbox.models import Delivery
from outbox.relay.passes import relay_pass
from tests.notifications.mail_server import MailServer, mail_server
from tests.orders.factories import a_key, customer, signed_in
from tests.processes import eventually
from tests.webhooks.receiver import receiving
from tests.webhooks.test_addresses import names, wait_for_lookups
from webhooks import addresses, services, url_checks
from webhooks.models import Endpoint

__all__ = ["mail_server"]

pytestmark = pytest.mark.django_db

URL = "/api/webhooks/"
HOOKS = "https://hooks.example.com/"
WANTED = {"url": HOOKS, "event_types": ["order.placed"]}


@pytest.fixture
def client() -> APIClient:
    return signed_in(customer())


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A resolver that answers when the test is over; yields what it was asked."""
    asked: list[str] = []
    released = threading.Event()
    resolve: Any = socket.getaddrinfo

    def hang(host: str, *args: Any, **more: Any) -> Any:
        if host == "127.0.0.1":  # a nudge, in a thread of the outbox, to the broker
            return resolve(host, *args, **more)
        asked.append(host)
        released.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield asked
    released.set()
    wait_for_lookups()  # one that begins late would ask the next test's resolver


def add(client: APIClient, **more: Any) -> Any:
    return client.post(URL, {**WANTED, **more}, headers=a_key())


def reports(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "webhooks.url_checks"]


def check(outbox: Any) -> Endpoint:
    outbox.deliver_all(only="webhooks", raise_errors=False)
    return Endpoint.objects.get()


class TestARequest:
    def test_resolves_no_name(self, client: APIClient, hanging: list[str]):
        """Seen to fail with `resolve` in the serializer: the request waited for the resolver."""
        added = add(client)
        address = added["Location"]
        changed = client.patch(address, {"url": "https://other.example.com/"})
        again = client.patch(address, {"enabled": False}), client.patch(address, {"enabled": True})
        ping = client.post(f"{address}test/", headers=a_key())

        assert (added.status_code, changed.status_code, ping.status_code) == (201, 200, 202)
        assert [answer.status_code for answer in again] == [200, 200]
        assert added.json()["url_state"] == "unchecked"
        assert hanging == []

    @pytest.mark.parametrize(
        "url",
        [
            *("https://10.0.0.1/", "https://[::1]/", "https://[fd00::1]/", "https://127.1/"),
            *("https://0x7f000001/", "https://2130706433/", "https://0177.0.0.1/"),
            *("https://localhost/", "https://db/", "https://LOCALHOST./", "https://a.localhost/"),
            *("https://metadata.google.internal/", "https://printer.local/", "https://x.invalid/"),
        ],
    )
    def test_refuses_urls_that_need_no_resolver(
        self, client: APIClient, hanging: list[str], url: str
    ):
        answer = add(client, url=url)

        assert answer.json()["errors"][0]["code"] == "url_refused"
        assert hanging == []
        assert not Endpoint.objects.exists()


class TestACheck:
    def test_allows_a_host_of_the_internet(
        self, client: APIClient, outbox: Any, monkeypatch: pytest.MonkeyPatch
    ):
        names(monkeypatch, ["1.1.1.1"])
        add(client)

        endpoint = check(outbox)

        assert endpoint.url_state == "allowed"
        assert (endpoint.last_failure, endpoint.last_failure_at) == ("", None)

    def test_that_refuses_stores_and_logs_the_reason(
        self,
        client: APIClient,
        outbox: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ):
        """Failed: nothing was logged, and the last error was empty."""
        names(monkeypatch, ["10.0.0.1"])
        add(client, url=f"{HOOKS}?token=geheim")

        endpoint = check(outbox)

        reason = "The host has an address that is not public."
        assert (endpoint.last_failure, endpoint.failures) == (reason, 0)
        assert endpoint.last_failure_at
        [line] = reports(caplog)
        assert line.levelname == "WARNING"
        for part in (f"endpoint {endpoint.pk} of user:{endpoint.owner_id}", reason):
            assert part in line.getMessage()
        assert "WEBHOOK_PRIVATE_HOSTS" in line.getMessage()
        assert "geheim" not in caplog.text

    def test_that_finds_no_host_stores_and_logs_the_reason(
        self,
        client: APIClient,
        outbox: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ):
        """Failed: the reason was dropped, and the name server's answer with it."""

        def unknown(*_args: Any, **_more: Any) -> list[Any]:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        address = add(client)["Location"]

        endpoint = check(outbox)

        reason = "The host's name cannot be resolved."
        assert client.get(address).json()["last_failure"] == reason
        assert (endpoint.failures, endpoint.rests_until) == (0, None), "a look-up is no delivery"
        [line] = reports(caplog)
        assert line.levelname == "WARNING"
        assert reason in line.getMessage()
        assert "Name or service not known" in line.getMessage()
        assert "webhooks.http" in line.getMessage()

    def test_disables_a_private_address_and_emails_the_owner(
        self, client: APIClient, outbox: Any, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail with the refusal only recorded."""
        User.objects.filter(pk=customer().pk).update(email="hanako@example.com")
        names(monkeypatch, ["1.1.1.1", "10.0.0.1"])
        address = add(client)["Location"]

        check(outbox)

        shown = client.get(address).json()
        assert (shown["url_state"], shown["enabled"]) == ("refused", False)
        assert shown["disabled_because"] == "refused"
        assert shown["disabled_note"] == "The host has an address that is not public."
        outbox.deliver_all(only="webhooks")
        assert "its host is not allowed" in mail.outbox[0].body

    def test_that_disables_logs_that_its_owner_has_no_address(
        self,
        client: APIClient,
        outbox: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ):
        """Failed: no e-mail was sent, and nothing said so."""
        User.objects.filter(pk=customer().pk).update(email="hanako@localhost")
        names(monkeypatch, ["10.0.0.1"])
        add(client)

        endpoint = check(outbox)

        assert mail.outbox == []
        [line] = [one for one in caplog.records if one.name == "webhooks.owner_email"]
        assert line.levelname == "WARNING"
        assert f"endpoint {endpoint.pk}" in line.getMessage()
        assert f"user:{endpoint.owner_id}" in line.getMessage()
        assert "hanako@" not in line.getMessage()

    def test_that_disables_ends_at_an_address_that_the_mail_server_refuses(
        self,
        client: APIClient,
        outbox: Any,
        mail_server: MailServer,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ):
        """Failed: the e-mail was retried for 33 hours, and was then dead."""
        mail_server.to_the_recipient = "550 5.1.1 No such mailbox"
        names(monkeypatch, ["10.0.0.1"])
        add(client)

        endpoint = check(outbox)

        announced = Delivery.objects.get(subscription__handler="webhooks.announce_disabling")
        assert announced.state == "done"
        [line] = [one for one in caplog.records if one.name == "shared.mail"]
        assert line.levelname == "WARNING"
        assert f"user:{endpoint.owner_id}" in line.getMessage()
        assert "hanako@" not in line.getMessage()

    def test_that_disables_is_announced_again_after_a_refusal_for_now(
        self,
        client: APIClient,
        outbox: Any,
        mail_server: MailServer,
        monkeypatch: pytest.MonkeyPatch,
    ):
        mail_server.to_the_recipient = "450 4.2.1 Later"
        names(monkeypatch, ["10.0.0.1"])
        add(client)

        check(outbox)

        announced = Delivery.objects.get(subscription__handler="webhooks.announce_disabling")
        assert announced.state == "pending"

    def test_ends_if_the_resolver_hangs(
        self,
        client: APIClient,
        outbox: Any,
        hanging: list[str],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ):
        monkeypatch.setattr(url_checks, "LOOKUP_SECONDS", 0.1)
        add(client)

        endpoint = check(outbox)

        eventually(lambda: hanging, "the thread of the look-up asks")
        assert hanging == ["hooks.example.com"]
        assert (endpoint.url_state, endpoint.enabled) == ("unresolved", True)
        assert endpoint.last_failure == "The host's name cannot be resolved."
        assert "no answer within 0.1 s" in reports(caplog)[0].getMessage()

    def test_opens_no_transaction(
        self, client: APIClient, outbox: Any, monkeypatch: pytest.MonkeyPatch
    ):
        outer, seen = len(connection.savepoint_ids), []
        examination = addresses.resolve

        def resolve(*args: Any, **more: Any) -> Any:
            seen.append(len(connection.savepoint_ids))
            return examination(*args, **more)

        names(monkeypatch, ["1.1.1.1"])
        monkeypatch.setattr(url_checks, "resolve", resolve)
        add(client)

        check(outbox)

        assert seen == [outer]

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"url": "https://other.example.com/"}, id="another url"),
            pytest.param({"enabled": False}, id="disabled"),
        ],
    )
    def test_does_not_overwrite_concurrent_changes(
        self,
        client: APIClient,
        outbox: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        change: dict[str, Any],
    ):
        address = add(client)["Location"]

        def meanwhile(*_args: Any, **_more: Any) -> None:
            monkeypatch.setattr(url_checks, "resolve", lambda *_, **__: None)
            assert client.patch(address, change).status_code == 200
            raise addresses.AddressRefused("inside")

        monkeypatch.setattr(url_checks, "resolve", meanwhile)

        endpoint = check(outbox)

        assert endpoint.disabled_because == ("by_owner" if "enabled" in change else "")
        assert endpoint.url_state == ("refused" if "enabled" in change else "allowed")
        assert endpoint.last_failure == ("inside" if "enabled" in change else "")
        assert len(reports(caplog)) == (1 if "enabled" in change else 0)

    def test_of_an_endpoint_that_was_removed_does_nothing(
        self, client: APIClient, outbox: Any, hanging: list[str]
    ):
        client.delete(add(client)["Location"])

        outbox.deliver_all(only="webhooks")

        assert hanging == []

    def test_runs_again_after_the_owner_enables_the_endpoint(
        self, client: APIClient, outbox: Any, monkeypatch: pytest.MonkeyPatch
    ):
        names(monkeypatch, ["10.0.0.1"], ["1.1.1.1"])
        address = add(client)["Location"]
        assert not check(outbox).enabled

        client.patch(address, {"enabled": True})

        endpoint = check(outbox)
        assert (endpoint.url_state, endpoint.enabled) == ("allowed", True)


class TestChecksOfOneCustomer:
    def test_run_one_at_a_time(self, client: APIClient, outbox: Any, hanging: list[str]):
        """Failed without the share window: ten endpoints took ten worker processes."""
        for number in range(services.MOST_ENDPOINTS):
            add(client, url=f"https://{number}.example.com/")

        relay_pass(publish=lambda message: None)
        owed = Delivery.objects.filter(subscription__handler="webhooks.check_url")

        assert sorted(owed.values_list("state", flat=True)) == ["pending"] * 9 + ["sent"]


class TestASending:
    def test_marks_the_url_as_allowed(self, outbox: Any, settings: Any):
        settings.WEBHOOK_PRIVATE_HOSTS = ["127.0.0.1"]
        with receiving() as receiver:
            endpoint = services.add_endpoint(
                owner=customer(), url=receiver.url, event_types=["order.placed"]
            )
            Endpoint.objects.update(url_state="unresolved")
            services.ping(endpoint_id=endpoint.pk)

            assert check(outbox).url_state == "allowed"
