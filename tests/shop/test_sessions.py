"""How long staff stay signed in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client

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
