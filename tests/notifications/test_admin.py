from __future__ import annotations

import pytest
from django.test import Client

from notifications.models import Email
from outbox.testing import Outbox
from tests.inventory.shelf import put_on_sale
from tests.orders.buyer import customer, place


@pytest.fixture
def email(outbox: Outbox) -> Email:
    put_on_sale()
    customer(first_name="<script>alert(1)</script>")
    place()
    outbox.deliver_all(only="notifications")
    return Email.objects.get()


class TestEmailAdmin:
    def test_lists_what_was_sent_to_whom(self, admin_client: Client, email: Email):
        page = admin_client.get("/admin/notifications/email/").content.decode()

        assert email.subject in page
        assert email.recipient in page

    def test_previews_it_without_running_it(self, admin_client: Client, email: Email):
        url = f"/admin/notifications/email/{email.pk}/change/"

        page = admin_client.get(url).content.decode()

        assert "Thank you for shopping with us." in page
        assert "<script>alert(1)" not in page

    def test_lets_nobody_edit_it(self, admin_client: Client, email: Email):
        url = f"/admin/notifications/email/{email.pk}/"

        edited = admin_client.post(f"{url}change/", {"recipient": "other@example.com"})
        deleted = admin_client.post(f"{url}delete/", {"post": "yes"})

        assert (edited.status_code, deleted.status_code) == (403, 403)
