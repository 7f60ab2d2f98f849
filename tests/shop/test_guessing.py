"""Clients that guess tokens or passwords are throttled or locked out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from axes.models import AccessAttempt
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from api.models import WrongToken
from api.tasks import delete_old_rows
from api.throttling import WrongTokenThrottle
from api.tokens import add_token
from tests.orders.factories import customer

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
        monkeypatch.setattr(WrongTokenThrottle, "rate", "2/min", raising=False)
        add_token(user=customer(), label="", token="right")

    def ask(self, token: str, address: str = GUESSER, **headers: str) -> tuple[int, str]:
        browser = APIClient(REMOTE_ADDR=address)
        answer = browser.get(
            "/api/orders/", headers={"Authorization": f"Bearer {token}", **headers}
        )
        return answer.status_code, answer.headers.get("Retry-After", "")

    def test_is_throttled_after_some_wrong_tokens(self) -> None:
        answers = [self.ask("wrong") for _ in range(3)]

        assert [status for status, _wait in answers] == [401, 401, 429]
        assert 0 < int(answers[-1][1]) <= 60

    def test_does_not_block_valid_tokens(self) -> None:
        """Seen to fail where the address is refused before its token is looked up."""
        for _ in range(90):
            self.ask("wrong")

        assert self.ask("right")[0] == 200

    def test_does_not_throttle_other_addresses(self) -> None:
        for _ in range(3):
            self.ask("wrong")

        assert self.ask("wrong", OTHER)[0] == 401

    def test_gains_nothing_by_forging_addresses(self) -> None:
        for number in range(3):
            self.ask("wrong", **{"X-Forwarded-For": f"198.51.100.{number}"})

        assert self.ask("wrong")[0] == 429

    def test_may_continue_after_the_period(self) -> None:
        for _ in range(3):
            self.ask("wrong")

        with time_machine.travel(timezone.now() + timedelta(seconds=61)):
            assert self.ask("wrong")[0] == 401

    def test_gets_the_time_until_the_oldest_attempt_expires(self) -> None:
        with time_machine.travel(timezone.now(), tick=False) as clock:
            self.ask("wrong")
            clock.shift(timedelta(seconds=10))
            self.ask("wrong")
            clock.shift(timedelta(seconds=10))

            assert self.ask("wrong") == (429, "40")

    def test_is_deleted_after_all_attempts_expire(self) -> None:
        self.ask("wrong")

        delete_old_rows()
        assert WrongToken.objects.count() == 1

        with time_machine.travel(timezone.now() + timedelta(seconds=61)):
            delete_old_rows()
        assert not WrongToken.objects.exists()

    def test_is_counted_across_web_processes(self) -> None:
        """Seen to fail with the process's own cache: each process took as many."""
        for _ in range(2):
            self.ask("wrong")
            cache.clear()  # as another process has it

        assert self.ask("wrong")[0] == 429

    def test_is_not_a_sender_of_valid_tokens(self) -> None:
        assert [self.ask("right")[0] for _ in range(5)] == [200] * 5

    def test_behind_a_proxy_is_throttled_alone(self, settings: Any) -> None:
        """The proxy is as the documentation has it, and the guesser writes a header as well."""
        settings.BEHIND_PROXY, settings.TRUSTED_PROXIES = True, ["10.0.0.0/8"]
        forged = [{"X-Forwarded-For": f"198.51.100.{number}, {GUESSER}"} for number in range(3)]
        other = {"X-Forwarded-For": OTHER}

        statuses = [self.ask("wrong", "10.0.0.2", **headers)[0] for headers in forged]

        assert statuses == [401, 401, 429]
        assert self.ask("wrong", "10.0.0.2", **other)[0] == 401

    def test_with_a_network_of_ipv6_is_one_client(self) -> None:
        statuses = [self.ask("wrong", f"2001:db8:1:2::{number:x}")[0] for number in range(3)]

        assert statuses == [401, 401, 429]
        assert self.ask("wrong", "2001:db8:1:3::1")[0] == 401


class TestAGuesserOfPasswords:
    @pytest.fixture(autouse=True)
    def _staff(self, settings: Any) -> None:
        settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # soon done
        User.objects.create_superuser("admin", password=PASSWORD)

    def sign_in(self, password: str, address: str = GUESSER, **headers: str) -> int:
        form = {"username": "admin", "password": password}
        browser = Client(REMOTE_ADDR=address)
        return browser.post("/admin/login/", form, headers=headers).status_code

    def guess(self) -> list[int]:
        return [self.sign_in(f"guess-{number}") for number in range(configured.AXES_FAILURE_LIMIT)]

    def test_is_locked_out_even_with_the_right_password(self) -> None:
        statuses = self.guess()

        assert statuses == [200] * (configured.AXES_FAILURE_LIMIT - 1) + [429]
        assert self.sign_in(PASSWORD) == 429

    def test_sees_a_page_without_inline_code(self) -> None:
        self.guess()

        form = {"username": "admin", "password": PASSWORD}
        page = Client(REMOTE_ADDR=GUESSER).post("/admin/login/", form).content.decode()

        assert "Wait 15 minutes" in page
        assert "<style" not in page

    def test_does_not_lock_out_others(self) -> None:
        self.guess()

        assert self.sign_in(PASSWORD, OTHER) == 302

    def test_behind_a_proxy_is_locked_out_alone(self, settings: Any) -> None:
        settings.BEHIND_PROXY, settings.TRUSTED_PROXIES = True, ["10.0.0.0/8"]
        for number in range(configured.AXES_FAILURE_LIMIT):
            forged = {"X-Forwarded-For": f"198.51.100.{number}, {GUESSER}"}
            self.sign_in(f"guess-{number}", "10.0.0.2", **forged)

        assert self.sign_in(PASSWORD, "10.0.0.2", **{"X-Forwarded-For": GUESSER}) == 429
        assert self.sign_in(PASSWORD, "10.0.0.2", **{"X-Forwarded-For": OTHER}) == 302

    def test_with_a_network_of_ipv6_is_one_client(self) -> None:
        for number in range(configured.AXES_FAILURE_LIMIT):
            self.sign_in(f"guess-{number}", f"2001:db8:1:2::{number:x}")

        assert self.sign_in(PASSWORD, "2001:db8:1:2:3::4") == 429
        assert self.sign_in(PASSWORD, "2001:db8:1:3::1") == 302

    def test_can_be_unlocked_by_the_administrator(self) -> None:
        self.guess()

        call_command("axes_reset_ip", GUESSER)

        assert self.sign_in(PASSWORD) == 302

    def test_leaves_no_stored_password(self) -> None:
        self.sign_in("my-other-secret")

        (row,) = AccessAttempt.objects.values()

        assert "my-other-secret" not in str(row)
