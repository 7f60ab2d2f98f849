"""Sending messages to a real HTTP receiver."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core import mail
from django.db import connection
from django.utils import timezone
from standardwebhooks.webhooks import WebhookVerificationError

from outbox.models import Delivery
from outbox.sinks import signatures
from tests.closed_port import port_of_nobody
from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer, place
from tests.webhooks.receiver import answers, receiving
from webhooks import posting, sending, services, tasks
from webhooks.models import Attempt, Endpoint, Message

pytestmark = pytest.mark.django_db


def ping(endpoint: Endpoint) -> Message:
    return services.ping(endpoint_id=endpoint.pk)


def deliver(outbox) -> None:
    outbox.deliver_all(only="webhooks", raise_errors=False)


def again(outbox, traveller, *, days: float = 0, hours: float = 3) -> None:
    """What is owed is tried again, after so long."""
    traveller.shift(timedelta(days=days, hours=hours))
    Delivery.objects.filter(state=Delivery.State.PENDING).update(due_at="2020-01-01T00:00Z")
    deliver(outbox)


@pytest.fixture
def traveller():
    with time_machine.travel(time.time(), tick=True) as one:
        yield one


class TestAMessage:
    def test_is_sent_to_the_owner_of_the_order(self, outbox, endpoint, order, receiver):
        outbox.deliver_all(only="webhooks", twice=False)

        (request,) = receiver.requests
        body = request.verified(endpoint.secret)
        assert body["type"] == "order.placed"
        assert body["data"]["order"]["id"] == str(order.id)
        assert body["data"]["order"]["total"] == order.total.model_dump()
        assert body["data"]["order"]["lines"][0]["sku"] == "TEA"
        assert request.headers["content-type"] == "application/json"

    def test_contains_no_personal_data(self, outbox, endpoint, order, receiver):
        deliver(outbox)

        assert b"hanako" not in receiver.requests[0].body

    def test_is_sent_only_to_matching_endpoints(self, outbox, receiver, db):
        put_on_sale()
        stranger = User.objects.create_user("stranger")
        services.add_endpoint(owner=stranger, url=receiver.url, event_types=["order.placed"])
        services.add_endpoint(owner=customer(), url=receiver.url, event_types=["order.shipped"])
        place()

        deliver(outbox)

        assert receiver.requests == []
        assert not Message.objects.exists()

    def test_of_a_refund_contains_the_amount(self, outbox, endpoint, order, receiver):
        deliver(outbox)
        outbox.given(
            "payments.PaymentRefunded", order_id=order.id, amount={"amount": 5, "currency": "JPY"}
        )

        deliver(outbox)

        body = json.loads(receiver.requests[-1].body)
        assert (body["type"], body["data"]["refund"]["amount"]) == (
            "order.refunded",
            {"amount": 5, "currency": "JPY"},
        )

    def test_is_not_written_for_an_inactive_owner(self, outbox, endpoint, order, receiver):
        """Failed: the webhooks of a deactivated account received the events of its orders."""
        User.objects.filter(pk=endpoint.owner_id).update(is_active=False)

        deliver(outbox)

        assert receiver.requests == []
        assert not Message.objects.exists()

    def test_is_not_sent_for_an_inactive_owner(self, outbox, endpoint, receiver):
        """Failed: older messages were tried for three days."""
        message = ping(endpoint)
        User.objects.filter(pk=endpoint.owner_id).update(is_active=False)

        deliver(outbox)

        message.refresh_from_db()
        assert receiver.requests == []
        assert message.state == Message.State.DROPPED
        assert logged(message) == ["Not sent: the account of the webhook's owner is not active."]
        assert not Delivery.objects.filter(
            subscription__handler="webhooks.send_message", state__in=Delivery.OWED
        )

    def test_is_written_once_and_keeps_its_id(self, outbox, endpoint, order, receiver):
        """Seen to fail with a new id for each attempt."""
        outbox.deliver_all(only="webhooks", twice=True)

        assert Message.objects.count() == 1
        assert {request.headers["webhook-id"] for request in receiver.requests} == {
            str(Message.objects.get().pk)
        }
        assert len({request.body for request in receiver.requests}) == 1

    def test_is_sent_without_a_transaction(self, outbox, endpoint, monkeypatch):
        """Seen to fail with `_post` moved below `with receipt:`."""
        outer, seen, ask = len(connection.savepoint_ids), [], posting.post

        def post(*args, **more):
            seen.append(len(connection.savepoint_ids))
            return ask(*args, **more)

        monkeypatch.setattr(posting, "post", post)
        ping(endpoint)

        deliver(outbox)

        assert seen == [outer]

    def test_has_a_delivery_of_its_own_with_the_owners_share(self, outbox, endpoint, order):
        """One event names the messages of all endpoints of the owner."""
        other = services.add_endpoint(
            owner=customer(), url=endpoint.url, event_types=["order.placed"]
        )

        outbox.deliver_all(only="webhooks")

        written = outbox.emitted("webhooks.MessagesWritten")
        messages = Message.objects.filter(endpoint__in=[endpoint, other])
        sent = Delivery.objects.filter(subscription__handler="webhooks.send_message")
        assert written.about_id == order.id
        assert set(sent.values_list("target", "share")) == {
            (name, f"owner:{endpoint.owner_id}")
            for name in ("", *(str(message.pk) for message in messages))
        }
        assert messages.filter(state="sent").count() == 2


class TestASignature:
    def test_does_not_match_another_secret_or_body(self, outbox, endpoint, receiver):
        ping(endpoint)
        deliver(outbox)
        (request,) = receiver.requests

        assert request.verified(endpoint.secret)
        other = signatures.new_secret()
        with pytest.raises(WebhookVerificationError):
            request.verified(other)
        with pytest.raises(WebhookVerificationError):
            type(request)(request.headers, request.body + b" ").verified(endpoint.secret)

    def test_exists_for_the_old_secret_for_a_day(self, outbox, endpoint, receiver, traveller):
        """Seen to fail with the new secret alone; with an old one that signs for ever."""
        old = endpoint.secret
        new = services.rotate_secret(endpoint_id=endpoint.pk).secret
        ping(endpoint)
        deliver(outbox)
        assert receiver.requests[0].verified(old) == receiver.requests[0].verified(new)

        traveller.shift(timedelta(hours=25))
        ping(endpoint)
        deliver(outbox)

        second = receiver.requests[1]
        second.verified(new)
        with pytest.raises(WebhookVerificationError):
            second.verified(old)

    def test_ends_for_the_first_secret_with_a_second_rotation(self, outbox, endpoint, receiver):
        """So the owner can end a secret that others know. The pages say so."""
        first = endpoint.secret
        second, third = (services.rotate_secret(endpoint_id=endpoint.pk).secret for _ in range(2))
        ping(endpoint)

        deliver(outbox)

        (request,) = receiver.requests
        assert request.verified(second) == request.verified(third)
        with pytest.raises(WebhookVerificationError):
            request.verified(first)


class TestAnAnswer:
    @pytest.mark.parametrize("status", [200, 201, 204, 299])
    def test_of_2xx_completes_the_message(self, outbox, endpoint, receiver, status):
        receiver.behaviour = answers(status)
        message = ping(endpoint)

        deliver(outbox)

        message.refresh_from_db()
        endpoint.refresh_from_db()
        assert message.state == Message.State.SENT
        assert endpoint.last_success_at
        assert not endpoint.failures
        assert Attempt.objects.get().status_code == status

    @pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 429, 500, 503])
    def test_of_another_kind_is_retried_later(self, outbox, endpoint, receiver, traveller, status):
        """Seen to fail with 3xx taken for an answer like 2xx."""
        receiver.behaviour = answers(status, Location=receiver.url)
        message = ping(endpoint)
        deliver(outbox)
        assert len(receiver.requests) == 1  # a redirect was not followed
        receiver.behaviour = answers(200)

        again(outbox, traveller)

        message.refresh_from_db()
        assert message.state == Message.State.SENT
        assert [(a.number, a.status_code) for a in Attempt.objects.order_by("id")] == [
            (1, status),
            (2, 200),
        ]

    def test_of_410_disables_the_endpoint_and_emails_the_owner(self, outbox, endpoint, receiver):
        """Seen to fail with 410 taken for any failure."""
        receiver.behaviour = answers(410)
        message = ping(endpoint)

        deliver(outbox)

        endpoint.refresh_from_db()
        message.refresh_from_db()
        assert endpoint.disabled_because == Endpoint.Disabled.GONE
        assert message.state == Message.State.DROPPED
        assert [one.to for one in mail.outbox] == [["hanako@example.com"]]
        assert receiver.url in mail.outbox[0].body
        assert not Delivery.objects.filter(state__in=Delivery.OWED).exclude(
            subscription__handler__startswith="webhooks."
        )

    @pytest.mark.parametrize(
        ("asked", "seconds"),
        [("120", 120), ("86400", 3600), ("soon", 5), ("-1", 5), ("9" * 99, 3600)],
    )
    def test_may_set_retry_after_within_limits(self, outbox, endpoint, receiver, asked, seconds):
        """Seen to fail without the bound, and with the header left unread."""
        receiver.behaviour = answers(503, Retry_After=asked)
        ping(endpoint)

        deliver(outbox)

        endpoint.refresh_from_db()
        rest = endpoint.rests_until - endpoint.last_failure_at
        assert abs(rest.total_seconds() - seconds) < 1

    def test_that_never_arrives_ends_at_the_time_out(self, outbox, endpoint, receiver, settings):
        settings.WEBHOOK_TIMEOUT_SECONDS = 0.3
        receiver.behaviour = receiver.hang
        ping(endpoint)

        deliver(outbox)

        assert Attempt.objects.get().error == "No complete answer within 0.3 s."

    def test_that_arrives_slowly_ends_at_the_time_out(self, outbox, endpoint, receiver, settings):
        """Seen to hang with a time-out for each read alone."""
        settings.WEBHOOK_TIMEOUT_SECONDS = 0.5
        receiver.behaviour = receiver.drip
        ping(endpoint)

        deliver(outbox)

        assert Attempt.objects.get().error == "No complete answer within 0.5 s."

    def test_without_an_end_is_read_up_to_a_limit(self, outbox, endpoint, receiver):
        """Seen to fail, by the time-out, with the body read to its end."""
        receiver.behaviour = receiver.flood
        ping(endpoint)

        deliver(outbox)

        attempt = Attempt.objects.get()
        assert (attempt.status_code, attempt.error) == (200, "")

    def test_that_is_cut_is_a_failure(self, outbox, endpoint, receiver):
        receiver.behaviour = receiver.drop
        ping(endpoint)

        deliver(outbox)

        assert Attempt.objects.get().error == "The connection was cut, or the answer was not HTTP."

    def test_that_is_missing_is_a_failure(self, outbox, db, settings):
        settings.WEBHOOK_PRIVATE_HOSTS = ["127.0.0.1"]
        url = f"http://127.0.0.1:{port_of_nobody()}/"
        ping(services.add_endpoint(owner=customer(), url=url, event_types=[]))

        deliver(outbox)

        assert "refused" in Attempt.objects.get().error

    @pytest.mark.parametrize(("status", "retry_after"), [(410, 0), (503, 3600)])
    def test_of_the_former_url_says_nothing_about_the_new_one(
        self, outbox, endpoint, receiver, traveller, monkeypatch, status, retry_after
    ):
        """The owner changes the URL while the request is sent."""
        post = posting.post

        def post_while_the_url_changes(url: str, **more) -> posting.Answer:
            if url != receiver.url:
                return post(url, **more)
            new = {"url": f"{receiver.url}/new"}
            services.change_endpoint(endpoint_id=endpoint.pk, changes=new)
            return posting.Answer(status=status, error=f"HTTP {status}", retry_after=retry_after)

        monkeypatch.setattr(posting, "post", post_while_the_url_changes)
        message = ping(endpoint)
        deliver(outbox)
        endpoint.refresh_from_db()
        message.refresh_from_db()
        assert endpoint.enabled
        assert (endpoint.failures, endpoint.rests_until) == (0, None)
        assert message.sending_until is None
        assert Attempt.objects.get().status_code == status

        again(outbox, traveller)

        message.refresh_from_db()
        assert message.state == Message.State.SENT
        assert len(receiver.requests) == 1


class TestAFailingEndpoint:
    def test_gets_one_request_for_all_messages_and_then_pauses(self, outbox, endpoint, receiver):
        """Seen to fail with `rests_until` not looked at."""
        receiver.behaviour = answers(500)
        for _ in range(5):
            ping(endpoint)

        deliver(outbox)

        assert len(receiver.requests) == 1

    def test_gets_no_request_during_its_pause(self, outbox, endpoint, receiver):
        """Seen to fail with Postponed an exception like any other."""
        receiver.behaviour = answers(503, Retry_After="600")
        messages = [ping(endpoint) for _ in range(3)]

        deliver(outbox)

        sent = receiver.requests[0].headers["webhook-id"]
        endpoint.refresh_from_db()
        waiting = Delivery.objects.filter(target__in=[str(one.pk) for one in messages])
        others = waiting.exclude(target=sent)
        assert others.count() == 2
        assert all(one.due_at >= endpoint.rests_until for one in others)

    def test_delays_no_other_endpoint(self, outbox, endpoint, receiver, settings):
        receiver.behaviour = answers(500)
        with receiving() as good:
            other = services.add_endpoint(owner=customer(), url=good.url, event_types=[])
            for _ in range(3):
                ping(endpoint)
                ping(other)

            deliver(outbox)

            assert len(good.requests) == 3

    def test_has_few_requests_at_a_time(self, endpoint):
        """Seen to fail without the count in `_raise_if_postponed`."""
        messages = [ping(endpoint) for _ in range(3)]
        for message in messages[:2]:
            assert sending._begin(message.pk)

        with pytest.raises(sending.Postponed, match="busy"):
            sending._begin(messages[2].pk)

    def test_has_one_request_at_a_time_while_it_fails(self, endpoint):
        Endpoint.objects.update(failures=1)
        messages = [ping(endpoint) for _ in range(2)]
        assert sending._begin(messages[0].pk)

        with pytest.raises(sending.Postponed, match="busy"):
            sending._begin(messages[1].pk)

    def test_is_free_again_after_a_worker_died(self, endpoint, traveller):
        """Seen to fail with every `sending_until` counted."""
        messages = [ping(endpoint) for _ in range(3)]
        for message in messages[:2]:
            sending._begin(message.pk)
        traveller.shift(timedelta(seconds=sending.lease_seconds() + 1))

        assert sending._begin(messages[2].pk)

    def test_is_disabled_after_three_days_and_its_messages_are_dropped(
        self, outbox, endpoint, receiver, traveller
    ):
        """Seen to fail with `failing_since` not looked at."""
        receiver.behaviour = answers(500)
        ping(endpoint)
        deliver(outbox)
        again(outbox, traveller, days=2)
        endpoint.refresh_from_db()
        assert endpoint.enabled
        late = ping(endpoint)

        again(outbox, traveller, days=1)
        again(outbox, traveller)

        endpoint.refresh_from_db()
        late.refresh_from_db()
        assert endpoint.disabled_because == Endpoint.Disabled.FAILING
        assert "HTTP 500" in endpoint.disabled_note
        assert late.state == Message.State.DROPPED
        assert len(mail.outbox) == 1
        assert not Delivery.objects.filter(
            subscription__handler="webhooks.send_message", state__in=Delivery.OWED
        )

    def test_that_refuses_one_message_drops_only_that_one(
        self, outbox, endpoint, receiver, traveller
    ):
        """Seen to fail with `_is_old` always false."""
        poison = ping(endpoint)
        receiver.behaviour = lambda connection: connection.answer(
            500 if connection.headers["webhook-id"] == str(poison.pk) else 200
        )
        deliver(outbox)
        for _ in range(4):
            traveller.shift(timedelta(hours=3))  # the pause is over
            later = timezone.now() + timedelta(hours=1)
            Delivery.objects.filter(target=str(poison.pk)).update(due_at=later)
            ping(endpoint)
            deliver(outbox)
            again(outbox, traveller, days=1)

        poison.refresh_from_db()
        endpoint.refresh_from_db()
        assert poison.state == Message.State.GIVEN_UP
        assert endpoint.enabled

    def test_that_is_removed_has_no_owed_deliveries(self, outbox, endpoint, receiver):
        ping(endpoint)
        services.remove_endpoint(endpoint_id=endpoint.pk)

        outbox.deliver_all(only="webhooks")

        assert receiver.requests == []

    def test_that_is_enabled_again_gets_new_messages_only(self, outbox, endpoint, receiver):
        receiver.behaviour = answers(410)
        ping(endpoint)
        deliver(outbox)
        receiver.behaviour = answers(200)
        services.change_endpoint(endpoint_id=endpoint.pk, changes={"enabled": True})
        message = ping(endpoint)

        deliver(outbox)

        assert receiver.requests[-1].headers["webhook-id"] == str(message.pk)


class TestAnOldSecret:
    def test_is_deleted_after_it_stops_signing(self, endpoint, traveller):
        """Seen to fail with every old secret deleted, and with none."""
        old = endpoint.secret
        services.rotate_secret(endpoint_id=endpoint.pk)
        tasks.delete_old_rows()
        endpoint.refresh_from_db()
        assert endpoint.old_secret == old
        traveller.shift(timedelta(hours=25))

        tasks.delete_old_rows()

        endpoint.refresh_from_db()
        assert (endpoint.old_secret, endpoint.old_secret_until) == ("", None)


def logged(message: Message) -> list[str]:
    """What the log says of a message, the oldest first."""
    return list(message.log.order_by("id").values_list("error", flat=True))


class TestTheLog:
    def test_has_one_entry_for_a_postponed_message(self, outbox, endpoint, receiver, traveller):
        """Seen to fail with nothing noted of an endpoint that rests."""
        receiver.behaviour = answers(503, Retry_After="600")
        messages = [ping(endpoint) for _ in range(2)]
        deliver(outbox)
        again(outbox, traveller, hours=0.1)

        receiver.behaviour = answers(200)
        again(outbox, traveller)

        first, second = sorted(map(logged, messages), key=lambda line: "HTTP 503" not in line)
        assert first[0] == "HTTP 503"
        assert first[1].startswith("Not sent yet. The endpoint failed. The next attempt is after")
        assert second[0].startswith("Not sent yet. The endpoint failed. The next attempt is after")
        assert (len(first), len(second)) == (3, 2)
        assert first[-1] == second[-1] == ""

    @pytest.mark.parametrize(
        ("disable", "reason"),
        [
            (
                lambda pk: services.change_endpoint(endpoint_id=pk, changes={"enabled": False}),
                "Not sent: the webhook is disabled (by its owner).",
            ),
            (
                lambda pk: services.disable_by_staff(endpoint_id=pk, note="it floods us"),
                "Not sent: the webhook is disabled (by staff: it floods us).",
            ),
        ],
    )
    def test_has_the_reason_of_a_dropped_message(self, outbox, endpoint, receiver, disable, reason):
        """Seen to fail with a message that is dropped in silence."""
        message = ping(endpoint)
        disable(endpoint.pk)

        deliver(outbox)

        assert logged(message) == [reason]
        assert receiver.requests == []

    def test_is_deleted_after_a_month_with_its_messages(
        self, outbox, endpoint, receiver, traveller
    ):
        ping(endpoint)
        deliver(outbox)
        traveller.shift(timedelta(days=20))
        ping(endpoint)
        deliver(outbox)
        traveller.shift(timedelta(days=11))

        tasks.delete_old_rows()

        assert Message.objects.count() == Attempt.objects.count() == 1
