"""Tokens authenticate their users, are shown once, and are stored as hashes."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from api.models import ApiToken
from tests.orders.factories import customer

pytestmark = pytest.mark.django_db


def created(user: User) -> str:
    output = StringIO()
    call_command("create_api_token", user.get_username(), "--label", "import", stdout=output)
    return output.getvalue().strip()


def ask(authorization: str) -> Any:
    return APIClient(headers={"Authorization": authorization}).get("/api/orders/")


class TestAToken:
    @pytest.mark.parametrize("kind", ["Bearer", "Token", "bearer"])
    def test_authenticates_its_user(self, kind: str):
        token = created(customer())

        assert ask(f"{kind} {token}").status_code == 200

    def test_authenticates_no_other_user(self):
        created(customer("taro"))
        token = created(customer("hanako"))

        answer = ask(f"Bearer {token}")

        assert answer.wsgi_request.user.get_username() == "hanako"

    def test_is_stored_only_as_a_hash(self):
        token = created(customer())

        (row,) = ApiToken.objects.values()

        assert token not in str(row)
        assert (row["start"], row["label"]) == (token[:4], "import")

    def test_differs_each_time(self):
        user = customer()

        assert created(user) != created(user)
        assert user.api_tokens.count() == 2

    @pytest.mark.parametrize("text", ["Bearer wrong", "Bearer", "Token ", "Bearer é", "Bearer a b"])
    def test_that_is_unknown_is_refused(self, text: str):
        answer = ask(text)

        assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")
        assert answer["WWW-Authenticate"] == 'Bearer realm="api"'

    def test_that_was_revoked_is_refused(self):
        token = created(customer())
        ApiToken.objects.all().delete()

        assert ask(f"Bearer {token}").status_code == 401

    def test_of_an_inactive_user_is_refused(self):
        token = created(customer())
        User.objects.update(is_active=False)

        assert ask(f"Bearer {token}").status_code == 401

    def test_is_created_for_existing_users_only(self):
        with pytest.raises(CommandError, match="no user 'nobody'"):
            call_command("create_api_token", "nobody")

    def test_is_not_created_for_an_inactive_user(self):
        """Failed: the command printed a token that every request refused as invalid."""
        customer("taro", is_active=False)

        with pytest.raises(CommandError, match="The user 'taro' is not active"):
            call_command("create_api_token", "taro")

        assert not ApiToken.objects.exists()

    def test_has_a_label_of_at_most_100_characters(self):
        """Failed: a traceback on PostgreSQL, and on SQLite a label longer than its column."""
        customer("taro")
        call_command("create_api_token", "taro", label="x" * 100, stdout=StringIO())

        with pytest.raises(CommandError, match=r"has 101 characters\. Give at most 100"):
            call_command("create_api_token", "taro", label="x" * 101)

        assert ApiToken.objects.get().label == "x" * 100


class TestTheAdminPage:
    def test_lists_tokens_and_revokes_them(self, client: Any):
        token = created(customer())
        client.force_login(User.objects.create_superuser("admin"))
        url = f"/admin/api/apitoken/{ApiToken.objects.get().pk}"

        page = client.get("/admin/api/apitoken/").content.decode()
        client.post(f"{url}/delete/", {"post": "yes"})

        assert token[:4] in page
        assert token not in page
        assert ask(f"Bearer {token}").status_code == 401

    def test_creates_none(self, client: Any):
        client.force_login(User.objects.create_superuser("admin"))

        assert client.get("/admin/api/apitoken/add/").status_code == 403
