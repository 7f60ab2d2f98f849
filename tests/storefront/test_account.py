"""Customers sign up, sign in and sign out."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache

from storefront.forms import SignUpForm
from storefront.throttles import SignUpThrottle
from tests.storefront.factories import PASSWORD, basket_of, customer, product, put_into_basket

pytestmark = [pytest.mark.django_db, pytest.mark.once]

NEW = {
    "username": "yuki",
    "email": "yuki@example.com",
    "password1": PASSWORD,
    "password2": PASSWORD,
}


@pytest.fixture(autouse=True)
def no_counted_accounts() -> None:
    cache.clear()


class TestASignUp:
    def test_creates_a_customer_without_rights_who_is_signed_in(self, client):
        answer = client.post("/account/sign-up/", {**NEW, "is_staff": "on", "is_superuser": "on"})

        user = User.objects.get()
        assert answer.headers["Location"] == "/"
        assert (user.email, user.is_staff, user.is_superuser) == ("yuki@example.com", False, False)
        assert client.session["_auth_user_id"] == str(user.pk)

    def test_keeps_the_basket_and_goes_on(self, client):
        put_into_basket(client, product())

        answer = client.post("/account/sign-up/", {**NEW, "next": "/checkout/"})

        assert answer.headers["Location"] == "/checkout/"
        assert basket_of(client) == {"TEA": 1}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"email": ""},
            {"email": "root@localhost"},
            {"password2": "another phrase"},
            {"password1": "12345678", "password2": "12345678"},
            {"username": ""},
        ],
    )
    def test_with_bad_input_writes_nothing(self, client, wrong):
        answer = client.post("/account/sign-up/", {**NEW, **wrong})

        assert "errors" in answer.content.decode()
        assert not User.objects.exists()

    def test_by_a_second_click_is_refused_as_a_known_name(self, client, monkeypatch):
        """The second request passes the form before the first one has stored the account."""
        customer("yuki")
        monkeypatch.setattr(SignUpForm, "clean_username", lambda form: "yuki")
        monkeypatch.setattr(SignUpForm, "validate_unique", lambda form: None)

        answer = client.post("/account/sign-up/", NEW)

        assert answer.status_code == 200
        assert "already exists" in answer.content.decode()
        assert User.objects.count() == 1

    def test_goes_on_to_no_page_by_its_name(self, client):
        answer = client.post("/account/sign-up/", {**NEW, "next": "docs"})

        assert answer.headers["Location"] == "docs"

    def test_leads_to_no_other_site(self, client):
        answer = client.post("/account/sign-up/", {**NEW, "next": "https://example.com/"})

        assert answer.headers["Location"] == "/"

    def test_is_refused_after_too_many_from_one_address(self, client, monkeypatch):
        monkeypatch.setattr(SignUpThrottle, "rate", "1/hour")
        client.post("/account/sign-up/", NEW)

        answer = client.post(
            "/account/sign-up/", {**NEW, "username": "rin", "email": "rin@example.com"}
        )

        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 3000
        assert User.objects.count() == 1

    def test_is_counted_with_bad_input_too(self, client, monkeypatch):
        monkeypatch.setattr(SignUpThrottle, "rate", "1/hour")
        client.post("/account/sign-up/", {**NEW, "email": ""})

        assert client.post("/account/sign-up/", NEW).status_code == 429

    def test_is_counted_for_all_addresses_of_one_ipv6_network(self, client, monkeypatch):
        monkeypatch.setattr(SignUpThrottle, "rate", "1/hour")
        client.post("/account/sign-up/", NEW, REMOTE_ADDR="2001:db8::1")

        answer = client.post("/account/sign-up/", NEW, REMOTE_ADDR="2001:db8::2")

        assert answer.status_code == 429


class TestASignIn:
    def test_goes_on_where_it_was_needed(self, client):
        customer()

        answer = client.post(
            "/account/sign-in/", {"username": "alice", "password": PASSWORD, "next": "/orders/"}
        )

        assert answer.headers["Location"] == "/orders/"

    def test_with_a_name_that_no_user_can_have_is_refused(self, client):
        """django-axes would store the name, and PostgreSQL refuses one of that length."""
        answer = client.post("/account/sign-in/", {"username": "a" * 300, "password": PASSWORD})

        assert answer.status_code == 200
        assert "at most 150 characters" in answer.content.decode()

    def test_with_a_wrong_password_is_refused(self, client):
        customer()

        client.post("/account/sign-in/", {"username": "alice", "password": "guess"})

        assert "_auth_user_id" not in client.session


class TestASignOut:
    def test_empties_the_basket(self, client):
        client.force_login(customer())
        put_into_basket(client, product())

        client.post("/account/sign-out/")

        assert basket_of(client) == {}
        assert "_auth_user_id" not in client.session

    def test_from_the_admin_empties_the_basket(self, admin_client):
        put_into_basket(admin_client, product())

        admin_client.post("/admin/logout/")

        assert basket_of(admin_client) == {}

    def test_is_no_link_that_another_site_could_use(self, client):
        client.force_login(customer())

        assert client.get("/account/sign-out/").status_code == 405
