from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.core.mail import EmailMultiAlternatives
from django.test import Client

from notifications import services
from notifications.models import Email, Resend
from orders.models import Order
from outbox import operations
from outbox.models import Event
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.notifications.mail_server import MailServer, mail_server
from tests.orders.factories import customer, place

__all__ = ["mail_server"]


@pytest.fixture
def email(outbox: Outbox) -> Email:
    put_on_sale()
    customer(first_name="<script>alert(1)</script>")
    place()
    outbox.deliver_all(only="notifications")
    return Email.objects.get()


class TestEmailAdmin:
    def test_lists_emails_and_recipients(self, admin_client: Client, email: Email):
        page = admin_client.get("/admin/notifications/email/").content.decode()

        assert email.subject in page
        assert email.recipient in page

    def test_shows_its_text_and_a_sandboxed_frame(self, admin_client: Client, email: Email):
        url = f"/admin/notifications/email/{email.pk}"

        page = admin_client.get(f"{url}/change/").content.decode()

        assert f'<iframe src="{url}/html/" sandbox="" title=' in page
        assert "Thank you for shopping with us." in page
        assert "<script>alert(1)" not in page
        assert 'style="' not in page[page.index("email-preview") :]
        assert "notifications/emails.css" in page

    def test_loads_its_style_from_a_file(self):
        assert finders.find("notifications/emails.css")

    def test_serves_the_html_with_its_own_policy(self, admin_client: Client, email: Email):
        answer = admin_client.get(f"/admin/notifications/email/{email.pk}/html/")

        assert answer.content.decode() == email.html
        policy = [part.strip() for part in answer["Content-Security-Policy"].split(";")]
        assert {"default-src 'none'", "sandbox", "frame-ancestors 'self'"} <= set(policy)
        assert not [part for part in policy if part.startswith("script-src")]
        assert answer["X-Frame-Options"] == "SAMEORIGIN"
        assert "no-store" in answer["Cache-Control"]

    def test_serves_the_html_only_with_permission(self, client: Client, email: Email):
        url = f"/admin/notifications/email/{email.pk}/html/"

        assert client.get(url).status_code == 302
        client.force_login(User.objects.create_user("ben", is_staff=True))
        assert client.get(url).status_code == 403

    def test_is_read_only(self, admin_client: Client, email: Email):
        url = f"/admin/notifications/email/{email.pk}/"

        edited = admin_client.post(f"{url}change/", {"recipient": "other@example.com"})
        deleted = admin_client.post(f"{url}delete/", {"post": "yes"})

        assert (edited.status_code, deleted.status_code) == (403, 403)


def staff(*permissions: str) -> User:
    user = User.objects.create_user("anna", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def send_again(client: Client, email: Email) -> Any:
    chosen = {"action": "send_again", "_selected_action": [str(email.pk)]}
    return client.post("/admin/notifications/email/", chosen, follow=True)


class TestResending:
    def test_sends_the_same_email_under_the_same_message_id(
        self,
        client: Client,
        outbox: Outbox,
        email: Email,
        mailoutbox: list[EmailMultiAlternatives],
    ):
        """Twice: a worker dies after the mail server took it. No request talks to the server."""
        client.force_login(staff("view_email", "resend_email"))

        page = send_again(client, email).content.decode()
        assert len(mailoutbox) == 1
        outbox.deliver_all(only="notifications", twice=True)

        assert "1 e-mail will be sent again." in page
        assert [one.message()["Message-ID"] for one in mailoutbox] == [email.message_id] * 3
        assert len({(one.subject, one.body, one.to[0]) for one in mailoutbox}) == 1
        assert Email.objects.count() == 1

    def test_records_user_and_time(self, client: Client, outbox: Outbox, email: Email):
        anna = staff("view_email", "resend_email")
        client.force_login(anna)

        send_again(client, email)
        asked = Resend.objects.get()
        outbox.deliver_all(only="notifications")

        resend = Resend.objects.get()
        assert (resend.email, asked.sent_at) == (email, None)
        assert resend.requested_by == f"user:{anna.pk}"
        assert resend.sent_at
        assert resend.sent_at >= resend.requested_at
        event = Event.objects.get(name="notifications.ResendRequested")
        assert event.actor == f"user:{anna.pk}"
        assert event.payload == {"order_id": str(email.order_id), "resend_id": str(resend.pk)}
        page = client.get(f"/admin/notifications/email/{email.pk}/change/").content.decode()
        assert "anna" in page[page.index("resends-group") :]

    def test_needs_its_own_permission(self, client: Client, email: Email):
        client.force_login(staff("view_email"))

        page = send_again(client, email).content.decode()

        assert "send_again" not in page
        assert not Resend.objects.exists()

    def test_is_refused_before_the_first_sending(
        self, client: Client, outbox: Outbox, email: Email
    ):
        Email.objects.update(sent_at=None)
        client.force_login(staff("view_email", "resend_email"))

        page = send_again(client, email).content.decode()

        assert f"The e-mail (acknowledgement) of order {email.order_id} is not sent yet" in page
        assert f"manage.py outbox why {email.order_id}" in page
        assert not Resend.objects.exists()

    def test_is_possible_after_a_refusal(
        self,
        client: Client,
        outbox: Outbox,
        email: Email,
        mailoutbox: list[EmailMultiAlternatives],
    ):
        Email.objects.update(sent_at=None, refusal="550 No such mailbox")
        client.force_login(staff("view_email", "resend_email"))

        send_again(client, email)
        outbox.deliver_all(only="notifications")

        email.refresh_from_db()
        assert len(mailoutbox) == 2
        assert email.sent_at
        assert email.refusal == ""

    def test_is_refused_for_an_address_that_is_not_on_the_internet(
        self, client: Client, outbox: Outbox, email: Email
    ):
        """Failed: it promised "1 e-mail will be sent again.", and its delivery was dead."""
        Email.objects.update(recipient="a@localhost", sent_at=None, suppressed_because="address")
        client.force_login(staff("view_email", "resend_email"))

        page = send_again(client, email).content.decode()

        refusal = f"The e-mail (acknowledgement) of order {email.order_id} cannot be sent: its"
        assert f'<li class="error">{refusal}' in page
        assert "will be sent again" not in page
        assert not Resend.objects.exists()

    def test_shows_the_refusal_of_a_resend(
        self, client: Client, outbox: Outbox, email: Email, mail_server: MailServer
    ):
        """Failed: the resend had no reason, and the e-mail counted as sent and as refused."""
        mail_server.to_the_recipient = "550 5.1.1 No such mailbox"
        client.force_login(staff("view_email", "resend_email"))
        send_again(client, email)

        outbox.deliver_all(only="notifications", raise_errors=False)

        page = client.get(f"/admin/notifications/email/{email.pk}/change/").content.decode()
        assert "550 5.1.1 No such mailbox" in page[page.index("resends-group") :]
        assert Email.objects.get().refusal == ""

    def test_that_succeeds_later_shows_no_refusal(
        self, client: Client, outbox: Outbox, email: Email, mail_server: MailServer
    ):
        mail_server.to_the_recipient = "550 5.1.1 No such mailbox"
        services.request_resend(email_id=email.pk, by="anna")
        outbox.deliver_all(only="notifications", raise_errors=False)
        mail_server.to_the_recipient = "250 OK"

        operations.retry(operations.Choice(states=("dead",)), by="anna")
        outbox.deliver_all(only="notifications")

        resend = Resend.objects.get()
        assert resend.sent_at
        assert (resend.refusal, resend.unsent_reason) == ("", "")

    def test_that_is_refused_again_keeps_the_e_mail_refused(
        self, outbox: Outbox, email: Email, mail_server: MailServer
    ):
        Email.objects.update(sent_at=None, refusal="550 5.2.2 The mailbox is full")
        mail_server.to_the_recipient = "550 5.1.1 No such mailbox"
        services.request_resend(email_id=email.pk, by="anna")

        outbox.deliver_all(only="notifications", raise_errors=False)

        refusals = [Email.objects.get().refusal, Resend.objects.get().refusal]
        assert refusals == ["550 5.1.1 No such mailbox"] * 2


class TestAnEmailOfAForgottenCustomer:
    @pytest.fixture
    def email(self, outbox: Outbox, email: Email) -> Email:
        """Blanked before it was sent."""
        Email.objects.update(sent_at=None, recipient="", subject="", text="", html="")
        return Email.objects.get()

    @pytest.mark.parametrize("page", ["", "{}/change/"])
    def test_shows_why_it_was_not_sent(self, admin_client: Client, email: Email, page: str):
        """Failed: it looked like one that is still to be sent."""
        url = "/admin/notifications/email/" + page.format(email.pk)

        assert "the customer was forgotten" in admin_client.get(url).content.decode()

    def test_shows_the_reason_in_japanese(self, admin_client: Client, email: Email):
        url = f"/admin/notifications/email/{email.pk}/change/"

        page = admin_client.get(url, headers={"accept-language": "ja"}).content.decode()

        assert "お客様の個人情報が消去されたため" in page

    def test_is_not_sent_again(self, client: Client, email: Email):
        """Failed: it promised "1 e-mail will be sent again.", and nothing was sent."""
        client.force_login(staff("view_email", "resend_email"))

        page = send_again(client, email).content.decode()

        assert f"The e-mail (acknowledgement) of order {email.order_id} cannot be sent" in page
        assert "0 e-mails will be sent again." not in page
        assert not Resend.objects.exists()

    def test_shows_why_a_resend_was_not_sent(self, admin_client: Client, email: Email):
        email.resends.create(requested_by="anna")

        page = admin_client.get(f"/admin/notifications/email/{email.pk}/change/").content.decode()

        assert "the customer was forgotten" in page[page.index("resends-group") :]

    def test_has_no_refusal_of_a_resend(self, outbox: Outbox, email: Email):
        """A refusal quotes the address."""
        Email.objects.update(recipient="hanako@example.com")
        email.resends.create(requested_by="anna", refusal="550 5.1.1 hanako@example.com unknown")
        Order.objects.update(email="")  # as `orders.forget_customer` does

        services.forget_recipient(subject=f"user:{customer().pk}", waits=True)

        assert Resend.objects.get().refusal == ""

    def test_stores_no_refusal_that_comes_later(
        self, outbox: Outbox, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch, email: Email
    ):
        Email.objects.update(recipient="hanako@example.com", sent_at=email.written_at)
        mail_server.to_the_recipient = "550 5.1.1 hanako@example.com unknown"
        services.request_resend(email_id=email.pk, by="anna")
        send = EmailMultiAlternatives.send

        def send_while_it_is_erased(*args: Any) -> int:
            Email.objects.update(recipient="", refusal="")
            return send(*args)

        monkeypatch.setattr(EmailMultiAlternatives, "send", send_while_it_is_erased)

        outbox.deliver_all(only="notifications.resend_email", raise_errors=False)

        assert (Email.objects.get().refusal, Resend.objects.get().refusal) == ("", "")

    def test_keeps_another_reason(self, admin_client: Client, email: Email):
        Email.objects.update(suppressed_because="limit")

        page = admin_client.get("/admin/notifications/email/").content.decode()

        assert "too many e-mails to this recipient" in page
        assert "the customer was forgotten" not in page

    def test_stays_sent_if_it_was_sent_before(self, admin_client: Client, email: Email):
        Email.objects.update(sent_at=email.written_at)

        page = admin_client.get("/admin/notifications/email/").content.decode()

        assert "the customer was forgotten" not in page

    def test_is_named_by_its_kind_and_order(self, email: Email):
        assert str(email) == f"acknowledgement {email.order_id}"
