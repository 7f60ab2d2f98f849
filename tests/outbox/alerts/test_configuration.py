"""OUTBOX["ALERTS"]: each invalid value is an error of the system check, which quotes no URL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

from outbox.alerts.configuration import LIMITS, configured
from tests.outbox.alerts.world import alerts

SECRET = "hooks.example.com/T0/secret"
PLACE = 'OUTBOX["ALERTS"]'
MAIL = f'{PLACE}["CHANNELS"]["mail"]'
NIGHT = {"FROM": "22:00", "TO": "07:00", "TIME_ZONE": "Asia/Tokyo"}


def mail(**values: Any) -> dict[str, Any]:
    return {"CHANNELS": {"mail": {"EMAIL": ["a@example.com"], **values}}}


INVALID = {
    "no dict": (["mail"], f"{PLACE} must be a dict."),
    "an unknown key": ({"CHANNEL": {}}, f"{PLACE} has no key 'CHANNEL'. Did you mean CHANNELS?"),
    "nothing to do": ({"SITE_URL": "https://example.com"}, "has neither CHANNELS nor DEAD_MAN"),
    "a channel without a kind": ({"CHANNELS": {"mail": {}}}, f"{MAIL} needs one of EMAIL"),
    "a channel of two kinds": (mail(WEBHOOK=f"https://{SECRET}"), "It has EMAIL and WEBHOOK."),
    "a bad name": ({"CHANNELS": {"my mail": {}}}, "the invalid name 'my mail'"),
    "one address as a text": (
        {"CHANNELS": {"mail": {"EMAIL": "a@example.com"}}},
        f'{MAIL}["EMAIL"] is invalid: it must be a list of e-mail addresses',
    ),
    "a webhook that is no URL": (
        {"CHANNELS": {"chat": {"WEBHOOK": f"ftp://{SECRET}"}}},
        '["chat"]["WEBHOOK"] is invalid: it must be a URL',
    ),
    "a webhook with a user": (
        {"CHANNELS": {"chat": {"WEBHOOK": f"https://me:pass@{SECRET}"}}},
        "it contains a user",
    ),
    "a function that is missing": (
        {"CHANNELS": {"pager": {"CALL": "tests.outbox.alerts.nothing"}}},
        "cannot be imported",
    ),
    "a function that is none": (
        {"CHANNELS": {"pager": {"CALL": "tests.outbox.alerts.test_configuration.PLACE"}}},
        "is not callable",
    ),
    "an unknown trigger": (mail(TRIGGERS=["died"]), "'died' is no trigger"),
    "a limit of an unknown trigger": (
        {**mail(), "LIMITS": {"leg": 5}},
        f"{PLACE}[\"LIMITS\"] has no key 'leg'. Did you mean lag?",
    ),
    "a limit below zero": ({**mail(), "LIMITS": {"lag": -1}}, '["LIMITS"]["lag"] is invalid'),
    "a limit without end": ({**mail(), "LIMITS": {"lag": float("inf")}}, '["lag"] is invalid'),
    "a repetition each second": (mail(REPEAT_SECONDS=1), "of 60 or more, or None"),
    "an empty list of triggers": (
        mail(TRIGGERS=[]),
        '["TRIGGERS"] is invalid: it is empty, so no message would be sent; leave it out',
    ),
    "quiet hours without a zone": (
        mail(QUIET_HOURS={"FROM": "22:00", "TO": "07:00"}),
        '["QUIET_HOURS"]["TIME_ZONE"] is invalid',
    ),
    "quiet hours of an unknown zone": (
        mail(QUIET_HOURS={**NIGHT, "TIME_ZONE": "Tokyo/Asia"}),
        "'Tokyo/Asia' is no time zone",
    ),
    "quiet hours of a path": (
        mail(QUIET_HOURS={**NIGHT, "TIME_ZONE": "../../etc/passwd"}),
        "is no time zone",
    ),
    "quiet hours at a bad time": (mail(QUIET_HOURS={**NIGHT, "TO": "7:00"}), '["TO"] is invalid'),
    "quiet hours all day": (mail(QUIET_HOURS={**NIGHT, "TO": "22:00"}), "must differ from FROM"),
    "quiet hours with an unknown exception": (
        mail(QUIET_HOURS={**NIGHT, "EXCEPT": ["all"]}),
        "'all' is no trigger",
    ),
    "a dead man without a URL": ({"DEAD_MAN": {"SECONDS": 60}}, '["DEAD_MAN"]["URL"] is invalid'),
    "a dead man by another method": (
        {"DEAD_MAN": {"URL": f"https://{SECRET}", "METHOD": "HEAD"}},
        '["METHOD"] is invalid: it must be "GET" or "POST"',
    ),
    "a dead man each second": (
        {"DEAD_MAN": {"URL": f"https://{SECRET}", "SECONDS": 1}},
        "of 10 or more",
    ),
}


# From Django 6.1 on, the checks of models ask the database for its features.
@pytest.mark.django_db
@pytest.mark.once
class TestAnInvalidSetting:
    @pytest.mark.parametrize("name", INVALID)
    def test_is_an_error_that_names_it(self, name: str, settings: Settings):
        given, text = INVALID[name]
        settings.OUTBOX = {"ALERTS": given}

        found = [one for one in run_checks() if PLACE in str(one.msg)]

        assert [one.id for one in found] == ["outbox.E012"]
        assert text in found[0].msg
        assert SECRET not in found[0].msg


@pytest.mark.django_db
@pytest.mark.once
class TestAValidSetting:
    def test_has_no_message_of_the_check(self, settings: Settings):
        channels = {
            "mail": {"EMAIL": ["a@example.com"], "QUIET_HOURS": NIGHT},
            "chat": {"WEBHOOK": f"https://{SECRET}", "TRIGGERS": ["dead"]},
            "pager": {"CALL": "tests.outbox.alerts.test_channels.keep"},
        }
        dead_man = {"URL": f"https://{SECRET}", "METHOD": "POST", "SECONDS": 30}
        settings.OUTBOX = {
            "ALERTS": {"CHANNELS": channels, "LIMITS": {"lag": 600}, "DEAD_MAN": dead_man}
        }

        assert [one for one in run_checks() if "ALERTS" in str(one.msg)] == []

    def test_may_turn_a_trigger_off(self):
        config = alerts(LIMITS={"lag": None, "dead": 5})

        assert config.limits == {**{k: v for k, v in LIMITS.items() if k != "lag"}, "dead": 5.0}

    def test_shows_no_url_in_its_representation(self):
        config = alerts(
            CHANNELS={"chat": {"WEBHOOK": f"https://{SECRET}"}},
            DEAD_MAN={"URL": f"https://{SECRET}"},
        )

        assert "secret" not in repr(config)

    def test_without_alerts_is_off(self, settings: Settings):
        settings.OUTBOX = {}

        assert not configured().is_on


@pytest.mark.once
class TestQuietHours:
    @pytest.mark.parametrize(
        ("begin", "end", "utc", "is_quiet"),
        [
            ("22:00", "07:00", 13, True),  # 22:00 in Tokyo
            ("22:00", "07:00", 12, False),
            ("22:00", "07:00", 21, True),  # 06:00
            ("22:00", "07:00", 22, False),  # 07:00
            ("09:00", "17:00", 1, True),
            ("09:00", "17:00", 8, False),
        ],
    )
    def test_follow_the_clock_of_their_zone(self, begin: str, end: str, utc: int, is_quiet: bool):
        config = alerts(**mail(QUIET_HOURS={**NIGHT, "FROM": begin, "TO": end}))
        quiet = config.channels["mail"].quiet

        assert quiet is not None
        assert quiet.are_now(datetime(2026, 11, 28, utc, 0, tzinfo=UTC)) == is_quiet

    def test_follow_summer_time(self):
        """07:30 in Berlin is 05:30 UTC in summer and 06:30 UTC in winter."""
        hours = {"FROM": "22:00", "TO": "07:00", "TIME_ZONE": "Europe/Berlin"}
        quiet = alerts(**mail(QUIET_HOURS=hours)).channels["mail"].quiet

        assert quiet is not None
        assert not quiet.are_now(datetime(2026, 7, 1, 5, 30, tzinfo=UTC))
        assert quiet.are_now(datetime(2026, 12, 1, 5, 30, tzinfo=UTC))
