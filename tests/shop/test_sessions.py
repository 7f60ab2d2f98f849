"""How long staff and customers stay signed in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from shop.tasks import delete_old_sessions
from tests.storefront.factories import (
    basket_of,
    checkout_form,
    customer,
    product,
    put_into_basket,
    signed_in,
)

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"
PAGE = "/admin/orders/order/"


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(time.time(), tick=False) as traveller:
        yield traveller


@pytest.fixture
def browser(settings: Any, clock: Any) -> Client:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # soon done
    User.objects.create_superuser("admin", password=PASSWORD)
    client = Client()
    client.post("/admin/login/", {"username": "admin", "password": PASSWORD})
    assert client.get(PAGE).status_code == 200
    return client


def is_signed_in(browser: Client, **headers: str) -> bool:
    return browser.get(PAGE, headers=headers).status_code == 200


class TestASession:
    def test_ends_an_hour_after_the_last_request(self, browser: Client, clock: Any):
        clock.shift(timedelta(minutes=59))
        assert is_signed_in(browser)
        clock.shift(timedelta(minutes=59))
        assert is_signed_in(browser)

        clock.shift(timedelta(minutes=60))

        assert not is_signed_in(browser)

    def test_ends_twelve_hours_after_the_sign_in_however_often_it_is_used(
        self, browser: Client, clock: Any
    ):
        for _ in range(23):
            clock.shift(timedelta(minutes=30))
            assert is_signed_in(browser)

        clock.shift(timedelta(minutes=30))

        assert not is_signed_in(browser)

    def test_has_the_limits_of_the_settings(self, browser: Client, clock: Any, settings: Any):
        settings.SESSION_IDLE_MINUTES = 5

        clock.shift(timedelta(minutes=5))

        assert not is_signed_in(browser)

    def test_is_not_prolonged_by_polling(self, browser: Client, clock: Any):
        for _ in range(4):
            clock.shift(timedelta(minutes=14))
            assert is_signed_in(browser, HX_Request="true")

        clock.shift(timedelta(minutes=14))
        answer = browser.get(PAGE, headers={"HX-Request": "true"})

        assert answer["HX-Refresh"] == "true"
        assert b"order" not in answer.content

    def test_survives_a_poll_that_began_before_it(self, browser: Client):
        """The answer to a poll with the former session arrives after that to the sign-in."""
        poll = Client()
        poll.cookies["sessionid"] = "of-a-session-that-is-gone"

        answer = poll.get("/orders/", headers={"HX-Request": "true"})

        assert "sessionid" not in answer.cookies

    def test_that_is_gone_leaves_no_cookie_after_a_page(self, browser: Client):
        browser.session.delete()

        answer = browser.get(PAGE)

        assert answer.cookies["sessionid"].value == ""

    def test_is_not_prolonged_by_a_page_that_reloads_itself(self, browser: Client, clock: Any):
        for _ in range(4):
            clock.shift(timedelta(minutes=14))
            assert browser.get("/orders/?reload").status_code == 200

        clock.shift(timedelta(minutes=14))

        assert browser.get("/orders/?reload").status_code == 302

    def test_is_deleted_at_its_end(self, browser: Client, clock: Any):
        key = browser.cookies["sessionid"].value
        clock.shift(timedelta(hours=2))
        browser.get(PAGE)
        clock.shift(timedelta(hours=-2))

        browser.cookies["sessionid"] = key

        assert not is_signed_in(browser)

    def test_without_a_start_time_has_ended(self, browser: Client):
        session = browser.session
        del session["signed_in_at"], session["seen_at"]
        session.save()

        assert not is_signed_in(browser)

    def test_is_refused_by_the_api_after_its_end(self, browser: Client, clock: Any):
        assert browser.get("/api/orders/").status_code == 200

        clock.shift(timedelta(minutes=60))

        assert browser.get("/api/orders/").status_code == 401

    def test_is_written_once_a_minute_at_most(self, browser: Client, clock: Any):
        noted = browser.session["seen_at"]

        clock.shift(timedelta(seconds=59))
        assert is_signed_in(browser)
        assert browser.session["seen_at"] == noted

        clock.shift(timedelta(seconds=1))
        assert is_signed_in(browser)
        assert browser.session["seen_at"] == noted + 60


class TestTheSessionOfACustomer:
    def test_that_ends_during_the_checkout_loses_no_basket(self, clock: Any):
        tea, client = product(), Client()
        customer()
        credentials = {"username": "alice", "password": "a long phrase 1"}
        client.post("/account/sign-in/", credentials)
        put_into_basket(client, tea, 2)
        form = checkout_form(client)
        clock.shift(timedelta(minutes=61))

        answer = client.post("/checkout/", form, follow=True)

        assert "Your session has ended." in answer.content.decode()
        assert basket_of(client) == {tea: 2}

    def test_that_ends_before_the_checkout_loses_no_basket(self, clock: Any):
        tea, client = product(), Client()
        customer()
        credentials = {"username": "alice", "password": "a long phrase 1"}
        client.post("/account/sign-in/", credentials)
        put_into_basket(client, tea, 2)
        clock.shift(timedelta(minutes=61))

        answer = client.get("/checkout/", follow=True)
        client.post("/account/sign-in/", credentials)

        assert "Your session has ended." in answer.content.decode()
        assert basket_of(client) == {tea: 2}


class TestAnExpiredSession:
    def test_is_deleted_and_others_are_kept(self, clock: Any):
        clients = [signed_in(customer(name)) for name in ("alice", "hanako")]
        expired, kept = (client.session.session_key for client in clients)
        now = timezone.now()
        Session.objects.filter(pk=expired).update(expire_date=now - timedelta(seconds=1))

        delete_old_sessions()

        assert list(Session.objects.values_list("pk", flat=True)) == [kept]
