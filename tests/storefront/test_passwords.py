"""Customers who forgot their password get a new one by e-mail, and change it in their account."""

from __future__ import annotations

import re
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import AnonymousUser, User
from django.core.cache import cache
from django.test import Client, RequestFactory
from django.utils import timezone

from api.throttling import AnonRateThrottle
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from storefront import verification
from storefront.throttles import PasswordChangeThrottle, PasswordResetThrottle, wait_of
from tests.notifications.mail_server import MailServer, mail_server
from tests.storefront.factories import PASSWORD, customer, signed_in
from tests.translations.visible import english_words, texts_of

__all__ = ["mail_server"]

pytestmark = [pytest.mark.django_db, pytest.mark.once]

FORGOTTEN = "/account/new-password/"
SENT = f"{FORGOTTEN}sent/"
CHANGE = "/account/password/"
NEW = "another long phrase 2"
JAPANESE = {"Accept-Language": "ja"}


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    cache.clear()


@pytest.fixture
def alice() -> User:
    return customer()


def ask(address: str = "alice@example.com", **headers: str) -> Any:
    return Client().post(FORGOTTEN, {"email": address}, headers=headers)


def link_in(mail: EmailMessage) -> str:
    found = re.search(r"http://testserver(/account/new-password/\S+)", str(mail.get_content()))
    assert found
    return found[1]


def has_password(user: User, password: str) -> bool:
    return User.objects.get(pk=user.pk).check_password(password)


class TestAForgottenPassword:
    def test_is_replaced_by_the_link_of_an_email(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        ask()
        outbox.deliver_all(only="storefront")
        [mail] = mail_server.taken
        client = Client()
        page = client.get(link_in(mail), follow=True)
        url = page.redirect_chain[-1][0]

        answer = client.post(url, {"new_password1": NEW, "new_password2": NEW}, follow=True)

        assert mail["To"] == "alice@example.com"
        assert "Your password is changed. Sign in with it." in answer.content.decode()
        assert has_password(alice, NEW)

    def test_is_replaced_once_by_a_link(self, alice: User, outbox: Outbox, mail_server: MailServer):
        ask()
        outbox.deliver_all(only="storefront")
        url = link_in(mail_server.taken[0])
        alice.set_password(NEW)
        alice.save()

        page = Client().get(url, follow=True).content.decode()

        assert "This link is not valid any more." in page

    def test_is_not_replaced_by_the_link_of_a_user_who_has_become_staff(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        ask()
        outbox.deliver_all(only="storefront")
        User.objects.update(is_staff=True)

        page = Client().get(link_in(mail_server.taken[0]), follow=True).content.decode()

        assert "This link is not valid any more." in page

    def test_is_replaced_within_an_hour(self, alice: User, outbox: Outbox, mail_server: MailServer):
        ask()
        outbox.deliver_all(only="storefront")
        url = link_in(mail_server.taken[0])

        with time_machine.travel(timezone.now() + timedelta(minutes=61)):
            page = Client().get(url, follow=True).content.decode()

        assert "This link is not valid any more." in page

    def test_is_explained_in_the_language_of_the_page(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        ask(**JAPANESE)

        outbox.deliver_all(only="storefront")

        [mail] = mail_server.taken
        assert mail["Subject"] == "新しいパスワードの設定"
        text = str(mail.get_content())
        assert english_words(text, known=frozenset({"alice"})) == []


class TestARequestForANewPassword:
    @pytest.mark.parametrize(
        "change",
        [{"email": "bob@example.com"}, {"is_active": False}, {"is_staff": True}, {"password": "!"}],
        ids=["unknown", "inactive", "staff", "without a password"],
    )
    def test_has_the_same_answer_and_the_same_work_without_an_account(
        self, alice: User, change: dict[str, Any]
    ):
        User.objects.filter(pk=alice.pk).update(**change)

        answer = ask()

        assert (answer.status_code, answer.headers["Location"]) == (302, SENT)
        assert Event.objects.get().payload["user_ids"] == []

    def test_finds_an_account_by_an_address_in_capitals(self, alice: User):
        answer = ask("ALICE@example.com")

        assert (answer.status_code, answer.headers["Location"]) == (302, SENT)
        assert Event.objects.get().payload["user_ids"] == [alice.pk]

    def test_stores_an_event_without_address_also_for_an_unknown_address(self, alice: User):
        ask()
        ask("nobody@example.com")

        events = Event.objects.filter(name="storefront.PasswordResetRequested").order_by("seq")
        assert [event.payload["user_ids"] for event in events] == [[alice.pk], []]
        assert not any("example.com" in str(event.payload) for event in events)

    def test_of_an_unknown_address_sends_nothing(self, outbox: Outbox, mail_server: MailServer):
        ask("nobody@example.com")

        outbox.deliver_all(only="storefront")

        assert mail_server.taken == []

    def test_sends_one_email_in_some_minutes(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        with time_machine.travel("2030-01-01T00:01:00Z", tick=False):
            for _ in range(3):
                ask()

            outbox.deliver_all(only="storefront")

        assert len(mail_server.taken) == 1

    def test_sends_one_email_with_the_three_oldest_accounts_of_the_address(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        """A sign-up proves no address. So a stranger may create accounts with it, but later."""
        for number in range(4):
            User.objects.create_user(f"later-{number}", alice.email, PASSWORD)
        ask()

        outbox.deliver_all(only="storefront")

        [mail] = mail_server.taken
        text = str(mail.get_content())
        assert re.findall(r"Account (\S+):", text) == ["alice", "later-0", "later-1"]
        assert len(set(re.findall(r"/account/new-password/\S+", text))) == 3
        assert len(Event.objects.get().payload["user_ids"]) == 3

    @pytest.mark.parametrize("right", ["is_staff", "is_superuser"])
    def test_sends_nothing_to_a_user_who_has_become_staff_meanwhile(
        self, alice: User, outbox: Outbox, mail_server: MailServer, right: str
    ):
        ask()
        User.objects.update(**{right: True})

        outbox.deliver_all(only="storefront")

        assert mail_server.taken == []

    def test_sends_links_only_to_their_own_spelling_of_the_address(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        """A mail server may distinguish capitals in the name of a mailbox (RFC 5321, 2.4)."""
        other = User.objects.create_user("other", "Alice@example.com", PASSWORD)
        ask(other.email)

        outbox.deliver_all(only="storefront")

        [mail] = mail_server.taken
        assert mail["To"] == other.email
        assert re.findall(r"Account (\S+):", str(mail.get_content())) == ["other"]

    @pytest.mark.parametrize("given", ["alice@example.com", "Alice@example.com"])
    def test_sends_links_to_the_verified_spelling_of_the_address(self, alice: User, given: str):
        """A phone writes the first letter of a field as a capital."""
        verification.record(alice)
        User.objects.create_user("other", "Alice@example.com", PASSWORD)

        ask(given)

        assert Event.objects.get().payload["user_ids"] == [alice.pk]

    @pytest.mark.parametrize("is_verified", [True, False], ids=["verified", "not verified"])
    def test_is_not_dropped_after_one_with_a_strangers_spelling(
        self, alice: User, outbox: Outbox, mail_server: MailServer, is_verified: bool
    ):
        if is_verified:
            verification.record(alice)
        User.objects.create_user("other", "Alice@example.com", PASSWORD)
        with time_machine.travel("2030-01-01T00:01:00Z", tick=False):
            ask("Alice@example.com")
            ask(alice.email)
            outbox.deliver_all(only="storefront")

        texts = [str(mail.get_content()) for mail in mail_server.taken if mail["To"] == alice.email]
        assert [re.findall(r"Account (\S+):", text) for text in texts] == [["alice"]]

    def test_for_another_spelling_of_one_account_sends_no_second_email(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        with time_machine.travel("2030-01-01T00:01:00Z", tick=False):
            ask("Alice@example.com")
            ask("ALICE@example.com")
            outbox.deliver_all(only="storefront")

        assert len(mail_server.taken) == 1

    def test_leads_to_the_origin_of_the_settings(
        self, alice: User, outbox: Outbox, mail_server: MailServer, settings: Any
    ):
        settings.SITE_ORIGIN = "https://shop.example.com"
        ask(host="localhost:666")

        outbox.deliver_all(only="storefront")

        text = str(mail_server.taken[0].get_content())
        assert "https://shop.example.com/account/new-password/" in text
        assert "localhost" not in text

    @pytest.mark.parametrize("host", ["localhost:666", "LOCALHOST:666", "localhost.:666"])
    def test_without_that_setting_leads_to_the_name_of_the_request_at_no_port_of_it(
        self, alice: User, settings: Any, host: str
    ):
        settings.ALLOWED_HOSTS = ["localhost"]
        ask(host=host)

        assert Event.objects.get().payload["origin"] == "http://localhost"

    def test_without_that_setting_keeps_the_brackets_of_an_ipv6_address(
        self, alice: User, settings: Any
    ):
        settings.ALLOWED_HOSTS = ["[::1]"]
        ask(host="[::1]:666")

        assert Event.objects.get().payload["origin"] == "http://[::1]"

    def test_sends_no_email_an_hour_later(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        ask()

        with time_machine.travel(timezone.now() + timedelta(minutes=61)):
            outbox.deliver_all(only="storefront")

        assert mail_server.taken == []

    def test_ends_at_an_address_that_the_mail_server_refuses(
        self, alice: User, outbox: Outbox, mail_server: MailServer
    ):
        mail_server.to_the_recipient = "550 5.1.1 No such mailbox"
        ask()

        outbox.deliver_all(only="storefront")

        assert Delivery.objects.get(event__name="storefront.PasswordResetRequested").state == "done"

    def test_is_refused_after_too_many_from_one_address(self, alice: User, monkeypatch: Any):
        monkeypatch.setattr(PasswordResetThrottle, "rate", "1/hour")
        ask("nobody")

        answer = ask()

        assert answer.status_code == 429
        assert "Retry-After" in answer.headers
        assert not Event.objects.exists()


class TestAChangeOfThePassword:
    @pytest.fixture
    def browser(self, alice: User) -> Client:
        return signed_in(alice)

    def change(self, browser: Client, old: str, **more: Any) -> Any:
        form = {"old_password": old, "new_password1": NEW, "new_password2": NEW}
        return browser.post(CHANGE, form, **more)

    def test_keeps_the_customer_signed_in_and_ends_other_sessions(
        self, browser: Client, alice: User
    ):
        other = signed_in(alice)

        answer = self.change(browser, PASSWORD, follow=True)

        assert "Your password is changed." in answer.content.decode()
        assert has_password(alice, NEW)
        assert browser.get("/account/").status_code == 200
        assert other.get("/account/").status_code == 302

    def test_needs_the_present_one(self, browser: Client, alice: User):
        answer = self.change(browser, "guess")

        assert 'role="alert"' in answer.content.decode()
        assert has_password(alice, PASSWORD)

    def test_is_refused_after_too_many_guesses(
        self, browser: Client, alice: User, monkeypatch: Any
    ):
        monkeypatch.setattr(PasswordChangeThrottle, "rate", "1/hour")
        self.change(browser, "guess")

        assert self.change(browser, PASSWORD).status_code == 429
        assert has_password(alice, PASSWORD)

    def test_needs_a_sign_in(self, client: Client):
        answer = client.get(CHANGE)

        assert answer.headers["Location"].startswith("/account/sign-in/?next=")

    def test_is_counted_beside_a_thousand_other_clients(self, alice: User):
        """Seen to fail with the 300 entries of Django's own cache."""
        guess = RequestFactory().post(CHANGE)
        guess.user = alice
        while wait_of(PasswordChangeThrottle, guess) is None:
            pass

        for number in range(1000):
            address = f"10.0.{number // 250}.{number % 250}"
            other = RequestFactory().get("/api/products/", REMOTE_ADDR=address)
            other.user = AnonymousUser()
            wait_of(AnonRateThrottle, other)

        assert wait_of(PasswordChangeThrottle, guess) is not None


class TestThePagesOfAnAccount:
    @pytest.mark.parametrize(
        "url", ["/account/", CHANGE, FORGOTTEN, SENT, f"{FORGOTTEN}MQ/abc-def/"]
    )
    def test_are_in_japanese(self, alice: User, url: str):
        page = signed_in(alice).get(url, headers=JAPANESE).content.decode()

        words = [
            word
            for text in texts_of(page)
            for word in english_words(text, known=frozenset({"alice"}))
        ]
        assert words == []

    def test_say_how_many_emails_are_sent(self, client: Client):
        assert "at most one e-mail in five minutes" in client.get(SENT).content.decode()

    def test_show_name_and_address(self, alice: User):
        page = signed_in(alice).get("/account/").content.decode()

        assert "alice@example.com" in page
        assert f'href="{CHANGE}"' in page
