"""The effects of a handler's rules on its failures."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.contrib.auth.models import Group
from django.utils import timezone
from pytest_django import Settings

from outbox import (
    Breaker,
    Dead,
    Discard,
    LeaseLost,
    Pause,
    PermanentFailure,
    Retry,
    RetryAfter,
    operations,
    subscribe,
    subscriptions,
)
from outbox.checks import check_settings
from outbox.checks.handlers import check_policy
from outbox.models import Attempt, Delivery, Subscription
from outbox.policy import Rules, action_for, wait_of
from outbox.testing import Outbox

pytestmark = pytest.mark.usefixtures("own_registry")

NOW = datetime.fromisoformat("2030-01-01T00:00:00Z")


class BankDown(Exception):
    pass


class BankAsleep(BankDown):
    pass


class Asked(Exception):
    """An exception of a library that carries a delay."""

    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


class Unreadable(Exception):
    """An exception of a library that reads the delay from an answer without one."""

    @property
    def retry_after(self) -> float:
        raise KeyError("Retry-After")


def raising(error: Exception, **policy: object) -> Delivery:
    """Let a handler with this policy write a row and raise; return its delivery afterwards."""

    @subscribe("shops.Ordered", **policy)  # type: ignore[arg-type]  # whatever the test gives
    def charge() -> None:
        Group.objects.create(name="half done")
        raise error

    outbox = Outbox()
    outbox.given("shops.Ordered", order_id=uuid4())
    outbox.deliver_all(raise_errors=False)
    assert not Group.objects.exists(), "its effects are rolled back, whatever the rule"
    return Delivery.objects.select_related("subscription").get()


class TestARule:
    def test_retries_after_its_delay_instead_of_the_backoff(self):
        with time_machine.travel(NOW, tick=False):
            delivery = raising(BankDown(), rules={BankDown: Retry(after=90)}, backoff_base=0)

        assert (delivery.state, delivery.attempts) == ("pending", 1)
        assert delivery.due_at == NOW + timedelta(seconds=90)

    @pytest.mark.parametrize("error", [Asked(10**400), Unreadable()], ids=["digits", "property"])
    def test_with_an_unreadable_delay_records_the_failure(self, error: Exception):
        """Failed: the failure could not be stored, so the run counted as a worker's death."""
        delivery = raising(error)

        assert delivery.state == "pending"
        assert [one.outcome for one in Attempt.objects.all()] == ["failed"]

    @pytest.mark.parametrize("error", [RetryAfter(600), Asked(600), Asked(timedelta(minutes=10))])
    def test_is_overruled_by_the_time_that_the_exception_carries(self, error):
        with time_machine.travel(NOW, tick=False):
            delivery = raising(error, rules={type(error): Retry(after=5)})

        assert delivery.due_at == NOW + timedelta(minutes=10)

    def test_gives_up_immediately(self):
        delivery = raising(BankDown("no such card"), rules={BankDown: Dead()})

        assert (delivery.state, delivery.attempts) == ("dead", 1)
        assert Attempt.objects.get().outcome == "refused"

    def test_discards_with_its_reason(self):
        delivery = raising(BankDown("B2B"), rules={BankDown: Discard("not an order of ours")})

        assert (delivery.state, delivery.is_owed) == ("discarded", False)
        assert delivery.settled_at is not None
        assert delivery.note == "not an order of ours (BankDown: B2B)"

    def test_pauses_the_handler_and_names_the_rule_and_the_error(self):
        """Seen to fail with the attempt counted: each resume would use up another one."""
        delivery = raising(BankDown("expired"), rules={BankDown: Pause("renew it")}, attempts=1)

        row = Subscription.objects.get()
        assert (delivery.state, delivery.attempts) == ("parked", 0)
        assert (row.paused_by, row.pause_reason) == (
            "rule:BankDown",
            "renew it (BankDown: expired)",
        )
        assert Attempt.objects.get().outcome == "failed"

    def test_that_paused_a_handler_ends_when_a_person_resumes_it(self):
        raising(BankDown(), rules={BankDown: Pause("renew it")})
        operations.resume("tests.charge", by="ann")

        Outbox().deliver_all(raise_errors=False)

        assert Subscription.objects.get().paused_at is not None, "it was tried, and failed again"
        assert Attempt.objects.count() == 2


class TestTwoRules:
    RULES: Rules = {Exception: Dead(), BankDown: Retry(after=1), BankAsleep: Discard("it sleeps")}

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (BankAsleep(), Discard("it sleeps")),
            (BankDown(), Retry(after=1)),
            (type("BankBusy", (BankDown,), {})(), Retry(after=1)),
            (ValueError(), Dead()),
        ],
    )
    def test_apply_by_the_nearest_class(self, error, expected):
        assert action_for(error, self.RULES) == expected

    def test_are_not_needed_for_a_permanent_failure(self):
        assert action_for(PermanentFailure(), {}) == Dead()
        assert action_for(PermanentFailure(), {Exception: Retry()}) == Dead()
        assert action_for(PermanentFailure(), {PermanentFailure: Retry()}) == Retry()


class TestADelayThatAnExceptionCarries:
    @pytest.mark.parametrize("nonsense", [None, "soon", -1, float("nan"), float("inf"), True])
    def test_is_ignored_if_it_is_invalid(self, nonsense):
        assert wait_of(Asked(nonsense), Retry(after=7)) == timedelta(seconds=7)

    @pytest.mark.parametrize("long", [1e300, 10**9, timedelta(days=4000)])
    def test_is_a_week_at_most(self, long):
        assert wait_of(Asked(long), Retry()) == timedelta(days=7)


class TestAnInvalidPolicy:
    @pytest.mark.parametrize(
        "rules",
        [
            {"BankDown": Dead()},
            {BankDown(): Dead()},
            {KeyboardInterrupt: Dead()},
            {LeaseLost: Dead()},
            {BankDown: Dead},
            {BankDown: "dead"},
        ],
    )
    def test_is_refused_at_import(self, rules):
        with pytest.raises(TypeError, match=r"tests\.charge"):

            @subscribe("shops.Ordered", rules=rules)
            def charge() -> None: ...

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Retry(after=-1),
            lambda: Retry(after="1"),  # type: ignore[arg-type]
            lambda: Retry(after=timedelta(days=8)),
            lambda: Retry(after=604_801),
            lambda: Discard(""),
            lambda: Pause(" "),
        ],
    )
    def test_is_refused_when_it_is_created(self, make):
        with pytest.raises(ValueError, match=r"Retry|Discard|Pause"):
            make()

    def test_may_be_a_retry_after_a_week(self):
        assert wait_of(BankDown(), Retry(after=timedelta(days=7))) == timedelta(days=7)

    @pytest.mark.parametrize(
        ("policy", "error"),
        [
            (
                {"attempts": "5"},
                "attempts='5' must be a whole number of 1 or more, or None for no limit",
            ),
            ({"attempts": 0}, "attempts=0 must be a whole number of 1 or more"),
            ({"batch": 0}, "batch=0 must be a whole number of 1 or more"),
            ({"batch": True}, "batch=True must be a whole number of 1 or more"),
            ({"window": -1}, "window=-1 must be a whole number of 1 or more"),
            ({"window": 2.5}, "window=2.5 must be a whole number of 1 or more"),
            ({"lease": 0}, "lease=0 must be a number of seconds above zero"),
            (
                {"lease": 1e12},
                r"lease=1000000000000\.0 must be a number of seconds above zero, at most a year",
            ),
            (
                {"backoff_cap": 1e12},
                "backoff_cap=.* must be a number of seconds of 0 or more, at most a year",
            ),
            ({"lease": timedelta(minutes=1)}, "lease=.* must be a number of seconds above zero"),
            ({"time_limit": "1"}, "time_limit='1' must be a number of seconds above zero"),
            ({"backoff_base": -1}, "backoff_base=-1 must be a number of seconds of 0 or more"),
            (
                {"backoff_cap": float("inf")},
                "backoff_cap=inf must be a number of seconds of 0 or more",
            ),
        ],
    )
    def test_with_a_number_out_of_range_is_refused(self, policy: dict[str, Any], error: str):
        """Seen to fail where a default takes its place, or nobody looks at it."""
        with pytest.raises(ValueError, match=rf"tests\.charge: {error}"):
            subscribe("shops.Ordered", name="tests.charge", **policy)(lambda: None)

    def test_from_a_default_setting_is_refused_by_the_check(self, settings: Settings):
        """The error then names the setting."""
        settings.OUTBOX = {"WINDOW": 0}

        subscribe("shops.Ordered", name="tests.charge")(lambda: None)

        assert [one.id for one in check_settings()] == ["outbox.E012"]

    def test_with_invalid_durations_or_names_is_refused(self):
        with pytest.raises(ValueError, match="time_limit=60 must be above zero and below"):
            subscribe("shops.Ordered", lease=60, time_limit=60)(lambda: None)
        with pytest.raises(ValueError, match="on_dead="):
            subscribe("shops.Ordered", ordered=True, on_dead="skip")(lambda: None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="on_dead= needs ordered=True"):
            subscribe("shops.Ordered", on_dead="pass")(lambda: None)


class TestTheCheck:
    def found(self, **policy) -> list[str]:
        subscribe("shops.Ordered", name="tests.charge", **policy)(lambda: None)
        [handler] = subscriptions.registry
        return [str(message.id) for message in check_policy(handler)]

    def test_accepts_a_valid_policy(self):
        assert self.found(rules={BankDown: Retry(after=1)}) == []

    def test_finds_a_breaker_that_counts_errors_that_a_rule_makes_final(self):
        breaker = Breaker(on=(BankAsleep,))

        assert "outbox.E013" in self.found(rules={BankDown: Dead()}, breaker=breaker)

    def test_finds_a_breaker_of_a_handler_without_external_calls(self):
        assert self.found(breaker=Breaker(on=(BankDown,))) == ["outbox.W003"]

    def test_finds_a_retry_rule_of_a_handler_with_a_single_attempt(self):
        assert self.found(rules={BankDown: Retry()}, attempts=1) == ["outbox.W004"]


class TestTheCadenceOfRetries:
    @pytest.mark.parametrize("passes", [1, 8])
    def test_does_not_depend_on_how_many_relays_and_workers_run(self, passes: int):
        """With a failure that is due at once, or by who looks: more passes, more attempts."""
        tried: list[datetime] = []

        @subscribe("shops.Ordered", rules={BankDown: Retry(after=60)}, attempts=100)
        def charge() -> None:
            tried.append(timezone.now())
            raise BankDown

        with time_machine.travel(NOW, tick=False) as clock:
            outbox = Outbox()
            outbox.given("shops.Ordered", order_id=uuid4())
            for _ in range(100):
                for _ in range(passes):
                    outbox.deliver_all(raise_errors=False)
                clock.shift(timedelta(seconds=10))

        assert tried == [NOW + timedelta(minutes=n) for n in range(17)]
