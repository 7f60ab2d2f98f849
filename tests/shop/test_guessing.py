"""Whoever guesses tokens or passwords waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from api.guessing import WrongTokens
from api.tokens import add_token
from tests.orders.buyer import customer

pytestmark = pytest.mark.django_db

GUESSER, OTHER = "192.0.2.1", "192.0.2.2"
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    yield
    cache.clear()


class TestAGuesserOfTokens:
    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(WrongTokens, "rate", "2/min", raising=False)
        add_token(user=customer(), label="", token="right")

    def ask(self, token: str, address: str = GUESSER, **headers: str) -> tuple[int, str]:
        browser = APIClient(REMOTE_ADDR=address)
        answer = browser.get(
            "/api/orders/", headers={"Authorization": f"Bearer {token}", **headers}
        )
        return answer.status_code, answer.headers.get("Retry-After", "")

    def test_waits_after_some_wrong_ones_and_does_not_learn_of_a_right_one(self) -> None:
        refused = [self.ask("wrong")[0] for _ in range(3)]

        status, wait = self.ask("right")

        assert refused == [401, 401, 429]
        assert status == 429
        assert 0 < int(wait) <= 60

    def test_costs_the_database_nothing_while_it_waits(
        self, django_assert_num_queries: Callable[[int], AbstractContextManager[Any]]
    ) -> None:
        for _ in range(2):
            self.ask("wrong")

        with django_assert_num_queries(0):
            assert self.ask("wrong")[0] == 429

    def test_keeps_nobody_else_out(self) -> None:
        for _ in range(3):
            self.ask("wrong")

        assert self.ask("right", OTHER)[0] == 200

    def test_gains_nothing_by_inventing_addresses(self) -> None:
        for number in range(3):
            self.ask("wrong", **{"X-Forwarded-For": f"198.51.100.{number}"})

        assert self.ask("right")[0] == 429

    def test_may_go_on_when_the_minute_has_passed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for _ in range(3):
            self.ask("wrong")
        started = WrongTokens.timer

        monkeypatch.setattr(WrongTokens, "timer", staticmethod(lambda: started() + 61))

        assert self.ask("right")[0] == 200

    def test_is_not_who_only_sends_right_ones(self) -> None:
        assert [self.ask("right")[0] for _ in range(5)] == [200] * 5


class TestAGuesserOfPasswords:
    @pytest.fixture(autouse=True)
    def _staff(self, settings: Any) -> None:
        settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # soon done
        User.objects.create_superuser("admin", password=PASSWORD)

    def sign_in(self, password: str, address: str = GUESSER) -> int:
        form = {"username": "admin", "password": password}
        return Client(REMOTE_ADDR=address).post("/admin/login/", form).status_code

    def guess(self) -> list[int]:
        return [self.sign_in(f"guess-{number}") for number in range(configured.AXES_FAILURE_LIMIT)]

    def test_is_told_to_wait_and_does_not_learn_of_the_right_one(self) -> None:
        statuses = self.guess()

        assert statuses == [200] * (configured.AXES_FAILURE_LIMIT - 1) + [429]
        assert self.sign_in(PASSWORD) == 429

    def test_sees_a_page_without_anything_inline(self) -> None:
        self.guess()

        form = {"username": "admin", "password": PASSWORD}
        page = Client(REMOTE_ADDR=GUESSER).post("/admin/login/", form).content.decode()

        assert "Wait a quarter of an hour" in page
        assert "<style" not in page

    def test_keeps_nobody_else_out(self) -> None:
        self.guess()

        assert self.sign_in(PASSWORD, OTHER) == 302

    def test_is_let_in_again_by_who_runs_the_site(self) -> None:
        self.guess()

        call_command("axes_reset_ip", GUESSER)

        assert self.sign_in(PASSWORD) == 302

    def test_leaves_no_password_behind(self) -> None:
        self.sign_in("my-other-secret")

        (row,) = AccessAttempt.objects.values()

        assert "my-other-secret" not in str(row)
