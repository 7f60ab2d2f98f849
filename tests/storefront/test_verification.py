"""Customers verify their e-mail address by a link, at the sign-up and after a change."""

from __future__ import annotations

import re
from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from orders.models import Order
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from storefront import services, verification
from storefront.models import VerificationRequest, VerifiedAddress
from storefront.throttles import PasswordChangeThrottle, VerificationThrottle
from tests.notifications.mail_server import MailServer, mail_server
from tests.storefront.factories import (
    PASSWORD,
    checkout_form,
    customer,
    product,
    put_into_basket,
    signed_in,
)
from tests.translations.visible import english_words, texts_of

__all__ = ["mail_server"]

pytestmark = [pytest.mark.django_db, pytest.mark.once]

SIGN_UP = "/account/sign-up/"
AGAIN = "/account/verify/"
CHANGE = "/account/address/"
NAME = "storefront.VerificationRequested"
JAPANESE = {"Accept-Language": "ja"}


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    cache.clear()


@pytest.fixture
def alice() -> User:
    return customer()


def sign_up(name: str = "yuki", address: str = "yuki@example.com", **headers: str) -> Client:
    client = Client()
    form = {"username": name, "email": address, "password1": PASSWORD, "password2": PASSWORD}
    assert client.post(SIGN_UP, form, headers=headers).status_code == 302
    return client


def change(client: Client, address: str, password: str = PASSWORD) -> Any:
    return client.post(CHANGE, {"email": address, "password": password})


def link_in(mail: EmailMessage) -> str:
    found = re.search(r"http://testserver(/account/verify/\S+)", str(mail.get_content()))
    assert found
    return found[1]


def link_to(user: User) -> str:
    return f"{AGAIN}{verification.token_of(user)}/"


def is_verified(user: User) -> bool:
    return verification.is_verified(User.objects.get(pk=user.pk))


def account_of(event: Event) -> User | None:
    """Return the account whose request the handler of this event answers now."""
    return verification.user_of_request(
        event.payload["user_id"],
        request_id=UUID(event.payload["request_id"]),
        requested_at=event.emitted_at,
    )


class TestASignUp:
    def test_leads_to_a_link_whose_button_verifies_the_address(
        self, outbox: Outbox, mail_server: MailServer
    ):
        client = sign_up()
        outbox.deliver_all(only="storefront")
        [mail] = mail_server.taken

        answer = client.post(link_in(mail), follow=True)

        assert mail["To"] == "yuki@example.com"
        assert "Your e-mail address is verified." in answer.content.decode()
        assert "yuki@example.com (verified)" in answer.content.decode()
        assert is_verified(User.objects.get())

    def test_stores_an_event_without_the_address(self):
        sign_up()

        event = Event.objects.get(name=NAME)
        assert event.payload["user_id"] == User.objects.get().pk
        assert "example.com" not in str(event.payload)

    def test_that_fails_emits_no_event(self):
        customer("yuki")
        form = {"username": "yuki", "email": "yuki@example.com"}
        Client().post(SIGN_UP, {**form, "password1": PASSWORD, "password2": PASSWORD})

        assert not Event.objects.exists()

    def test_with_the_address_of_another_account_has_the_same_answer(self, alice: User):
        answers = []
        for name, address in (("yuki", alice.email), ("rin", "nobody@example.com")):
            form = {"username": name, "email": address}
            form |= {"password1": PASSWORD, "password2": PASSWORD}
            answer = Client().post(SIGN_UP, form)
            answers.append((answer.status_code, answer.headers["Location"]))

        assert answers == [(302, "/"), (302, "/")]
        assert Event.objects.filter(name=NAME).count() == 2

    def test_leaves_orders_possible(self):
        client = sign_up()
        put_into_basket(client, product())

        client.post("/checkout/", checkout_form(client))

        assert Order.objects.count() == 1

    def test_is_explained_in_the_language_of_the_page(
        self, outbox: Outbox, mail_server: MailServer
    ):
        sign_up(**JAPANESE)

        outbox.deliver_all(only="storefront")

        [mail] = mail_server.taken
        assert mail["Subject"] == "メールアドレスの確認"
        assert english_words(str(mail.get_content()), known=frozenset({"yuki"})) == []


class TestAnAddressThatIsNotVerified:
    def test_is_shown_in_the_account_with_a_button(self, alice: User):
        page = signed_in(alice).get("/account/").content.decode()

        assert "Your e-mail address is not verified yet." in page
        assert f'action="{AGAIN}"' in page

    def test_is_not_mentioned_without_an_address(self):
        user = User.objects.create_user("rin", password=PASSWORD)

        page = signed_in(user).get("/account/").content.decode()

        assert "not verified" not in page
        assert f'href="{CHANGE}"' in page

    def test_gets_its_link_again(self, alice: User, outbox: Outbox, mail_server: MailServer):
        answer = signed_in(alice).post(AGAIN, follow=True)

        outbox.deliver_all(only="storefront")

        assert "If no new e-mail arrives, look for an earlier one." in answer.content.decode()
        assert len(mail_server.taken) == 1

    def test_gets_one_email_in_some_minutes(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        """Also for several accounts: somebody else may have created them."""
        other = User.objects.create_user("other", "ALICE+tag@example.com", PASSWORD)
        with time_machine.travel("2030-01-01T00:01:00Z", tick=False):
            for user in (alice, other):
                signed_in(user).post(AGAIN)
            outbox.deliver_all(only="storefront")

        assert len(mail_server.taken) == 1

    def test_gets_no_further_link_after_too_many(self, alice: User, monkeypatch: Any):
        monkeypatch.setattr(VerificationThrottle, "rate", "1/hour")
        client = signed_in(alice)
        client.post(AGAIN)

        answer = client.post(AGAIN)

        assert answer.status_code == 429
        assert "Retry-After" in answer.headers
        assert Event.objects.filter(name=NAME).count() == 1

    def test_of_a_visitor_leads_to_the_sign_in(self, client: Client):
        answer = client.post(AGAIN)

        assert answer.headers["Location"] == "/account/sign-in/?next=/account/"
        assert not Event.objects.exists()

    def test_gets_links_to_a_new_password_after_verified_ones(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        """Accounts that strangers have created with the address would take all places."""
        for number in range(3):
            User.objects.create_user(f"later-{number}", alice.email, PASSWORD)
        owner = User.objects.create_user("owner", alice.email, PASSWORD)
        verification.record(owner)

        Client().post("/account/new-password/", {"email": alice.email})
        outbox.deliver_all(only="storefront")

        text = str(mail_server.taken[0].get_content())
        assert re.findall(r"Account (\S+):", text) == ["owner", "alice", "later-0"]

    def test_is_verified_by_the_link_to_a_new_password(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        Client().post("/account/new-password/", {"email": alice.email})
        outbox.deliver_all(only="storefront")
        text = str(mail_server.taken[0].get_content())
        link = re.search(r"http://testserver(/account/new-password/\S+)", text)
        assert link
        client = Client()
        url = client.get(link[1], follow=True).redirect_chain[-1][0]

        client.post(url, {"new_password1": "a new phrase 2", "new_password2": "a new phrase 2"})

        assert is_verified(alice)


class TestRequestsThatAreNotAnsweredYet:
    """The mail server or the worker was away."""

    def test_of_several_addresses_send_one_email_to_the_last_one(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        client = signed_in(alice)
        for number in range(3):
            change(client, f"alice-{number}@example.com")

        outbox.deliver_all(only="storefront")

        assert [mail["To"] for mail in mail_server.taken] == ["alice-2@example.com"]

    def test_of_one_address_send_one_email(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        for minutes in (0, 10, 20):
            with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
                services.request_verification(user=alice, origin="http://testserver")

        outbox.deliver_all(only="storefront")

        assert Event.objects.filter(name=NAME).count() == 3
        assert len(mail_server.taken) == 1

    def test_of_an_earlier_address_again_send_one_email(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        """The third request is that of the first event."""
        with time_machine.travel("2030-01-01T00:01:00Z", tick=False):
            for address in ("one@example.com", "two@example.com", "one@example.com"):
                services.change_address(user=alice, address=address, origin="http://testserver")

            outbox.deliver_all(only="storefront")

        assert Event.objects.filter(name=NAME).count() == 2
        assert [mail["To"] for mail in mail_server.taken] == ["one@example.com"]

    def test_of_an_earlier_address_again_replace_no_pending_one(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        """The first event is already replaced and done. The third request is not stored."""
        with time_machine.travel("2030-01-01T00:01:00Z", tick=False) as clock:
            for address in ("one@example.com", "two@example.com"):
                services.change_address(user=alice, address=address, origin="http://testserver")
            clock.shift(1)
            first = Event.objects.filter(name=NAME).earliest("seq")
            assert account_of(first) is None
            services.change_address(
                user=alice, address="one@example.com", origin="http://testserver"
            )

            second = Event.objects.filter(name=NAME).latest("seq")
            assert account_of(second) == alice

    def test_of_another_account_with_the_mailbox_replace_none(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        bob = customer("bob")
        services.change_address(user=bob, address="shared@example.com", origin="http://testserver")
        services.request_verification(user=alice, origin="http://testserver")
        services.change_address(
            user=alice, address="Shared+tag@example.com", origin="http://testserver"
        )

        outbox.deliver_all(only="storefront")

        assert {mail["To"] for mail in mail_server.taken} == {
            "shared@example.com",
            "Shared+tag@example.com",
        }

    def test_of_another_account_are_answered(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        for user in (alice, customer("bob")):
            services.request_verification(user=user, origin="http://testserver")

        outbox.deliver_all(only="storefront")

        assert {mail["To"] for mail in mail_server.taken} == {alice.email, "bob@example.com"}

    def test_of_a_process_of_the_release_before_are_answered(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        """It does not record the latest request."""
        services.request_verification(user=alice, origin="http://testserver")
        VerificationRequest.objects.update(
            request_id=uuid4(), requested_at=timezone.now() - timedelta(minutes=1)
        )

        outbox.deliver_all(only="storefront")

        assert len(mail_server.taken) == 1


class TestALink:
    def test_verifies_nothing_when_it_is_only_opened(self, alice: User):
        """Mail servers and programs open the links of an e-mail."""
        page = Client().get(link_to(alice)).content.decode()

        assert "This is my address" in page
        assert not is_verified(alice)

    def test_names_the_account_and_the_address(self, alice: User):
        page = Client().get(link_to(alice)).content.decode()

        assert "<dd>alice</dd>" in page
        assert "<dd>alice@example.com</dd>" in page

    @pytest.mark.parametrize(
        "change",
        [{"email": "other@example.com"}, {"is_active": False}],
        ids=["another address", "inactive"],
    )
    def test_is_not_valid_after_a_change_of_the_account(self, alice: User, change: dict[str, Any]):
        url = link_to(alice)
        User.objects.update(**change)

        answer = Client().post(url)

        assert "This link is not valid any more." in answer.content.decode()
        assert not is_verified(alice)

    def test_is_not_valid_after_three_days(self, alice: User):
        url = link_to(alice)

        with time_machine.travel(timezone.now() + timedelta(days=3, minutes=1)):
            Client().post(url)

        assert not is_verified(alice)

    def test_is_not_valid_for_another_account(self, alice: User):
        other = customer("bob")
        token = verification.token_of(other)
        other.delete()

        Client().post(f"{AGAIN}{token}/")

        assert not is_verified(alice)

    @pytest.mark.parametrize(
        "change", [{"email": ""}, {"is_active": False}], ids=["no address", "inactive"]
    )
    def test_is_not_sent_to_an_account_that_has_changed(
        self, alice: User, outbox: Outbox, mail_server: MailServer, change: dict[str, Any]
    ):
        signed_in(alice).post(AGAIN)
        User.objects.update(**change)

        outbox.deliver_all(only="storefront")

        assert mail_server.taken == []

    def test_is_not_sent_when_it_would_not_work_any_more(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        signed_in(alice).post(AGAIN)

        with time_machine.travel(timezone.now() + timedelta(days=3, minutes=1)):
            outbox.deliver_all(only="storefront")

        assert mail_server.taken == []

    def test_is_not_sent_twice_to_an_address_that_the_mail_server_refuses(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        mail_server.to_the_recipient = "550 5.1.1 No such mailbox"
        signed_in(alice).post(AGAIN)

        outbox.deliver_all(only="storefront")

        assert Delivery.objects.get(event__name=NAME).state == "done"


class TestAChangeOfTheAddress:
    def test_has_to_be_verified(self, alice: User, outbox: Outbox, mail_server: MailServer):
        verification.record(alice)
        client = signed_in(alice)

        answer = change(client, "new@example.com")
        outbox.deliver_all(only="storefront")

        assert answer.headers["Location"] == "/account/"
        assert "not verified yet" in client.get("/account/").content.decode()
        assert mail_server.taken[0]["To"] == "new@example.com"
        assert User.objects.get().email == "new@example.com"

    def test_by_staff_has_to_be_verified_too(self, alice: User):
        verification.record(alice)

        User.objects.update(email="new@example.com")

        assert not is_verified(alice)

    def test_to_the_same_address_changes_nothing(self, alice: User):
        verification.record(alice)

        change(signed_in(alice), alice.email)

        assert is_verified(alice)
        assert not Event.objects.exists()

    def test_to_the_same_address_announces_no_email(self, alice: User):
        verification.record(alice)
        client = signed_in(alice)

        change(client, alice.email)

        page = client.get("/account/").content.decode()
        assert "This e-mail address is verified already." in page
        assert "Open the link" not in page

    def test_needs_the_present_password(self, alice: User):
        answer = change(signed_in(alice), "new@example.com", "guess")

        assert "Your password is wrong." in answer.content.decode()
        assert User.objects.get().email == alice.email
        assert not Event.objects.exists()

    @pytest.mark.parametrize("address", ["", "nobody", "root@localhost"])
    def test_refuses_an_address_that_no_mailbox_has(self, alice: User, address: str):
        answer = change(signed_in(alice), address)

        assert 'role="alert"' in answer.content.decode()
        assert User.objects.get().email == alice.email

    def test_is_refused_after_too_many_guesses(self, alice: User, monkeypatch: Any):
        monkeypatch.setattr(PasswordChangeThrottle, "rate", "1/hour")
        client = signed_in(alice)
        change(client, "new@example.com", "guess")

        assert change(client, "new@example.com").status_code == 429
        assert User.objects.get().email == alice.email

    def test_does_not_say_whether_another_account_has_the_address(self, alice: User):
        customer("bob")
        client = signed_in(alice)

        answers = [change(client, one) for one in ("bob@example.com", "nobody@example.com")]

        assert {answer.headers["Location"] for answer in answers} == {"/account/"}
        assert Event.objects.filter(name=NAME).count() == 2


class TestAnErasure:
    def test_deletes_the_digest_of_the_address_and_the_latest_request(
        self, alice: User, outbox: Outbox
    ):
        bob = customer("bob")
        for user in (alice, bob):
            services.request_verification(user=user, origin="http://testserver")
            verification.record(user)

        outbox.given("outbox.SubjectRedacted", subject=f"user:{alice.pk}")
        outbox.deliver_all(only="storefront")

        for model in (VerifiedAddress, VerificationRequest):
            assert list(model.objects.values_list("pk", flat=True)) == [bob.pk]

    def test_of_another_kind_of_subject_deletes_nothing(self, alice: User, outbox: Outbox):
        verification.record(alice)

        outbox.given("outbox.SubjectRedacted", subject=f"order:{alice.pk}")
        outbox.deliver_all(only="storefront")

        assert is_verified(alice)


class TestThePages:
    @pytest.mark.parametrize("url", ["/account/", CHANGE, f"{AGAIN}forged/", "the link"])
    def test_are_in_japanese(self, alice: User, url: str):
        url = link_to(alice) if url == "the link" else url
        page = signed_in(alice).get(url, headers=JAPANESE).content.decode()

        words = [
            word
            for text in texts_of(page)
            for word in english_words(text, known=frozenset({"alice"}))
        ]
        assert words == []
