"""`manage.py outbox alerts`: open alerts with their messages, and a test of each channel."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.test.utils import override_script_prefix
from pytest_django import Settings

from outbox.models import Alert
from tests.outbox.alerts.world import STUCK, check, hook_config, problem, send
from tests.outbox.command import outbox_command, refused
from tests.outbox.sinks.receiver import Receiver, answers
from tests.servers.smtp import MailServer

pytestmark = pytest.mark.django_db(transaction=True)


class TestTheTest:
    def test_sends_a_message_to_each_channel(
        self, mails: MailServer, hook: Receiver, settings: Settings
    ):
        channels = {"mail": {"EMAIL": ["a@example.com"]}, "chat": {"WEBHOOK": hook.url}}
        settings.OUTBOX = {"ALERTS": {"CHANNELS": channels, "SITE_URL": "https://shop.example.com"}}

        output = outbox_command("alerts", "test")

        assert "ok       mail: the test message was taken." in output
        assert "ok       chat: the test message was taken." in output
        assert "https://shop.example.com/admin/outbox/minute/" in mails.taken[0].get_content()
        assert "There is no problem." in json.loads(hook.requests[0].body)["text"]

    def test_sends_the_link_that_real_messages_have(self, hook: Receiver, settings: Settings):
        """Failed: of a site with a script prefix, the link had it twice."""
        channels = {"chat": {"WEBHOOK": hook.url}}
        settings.OUTBOX = {"ALERTS": {"CHANNELS": channels, "SITE_URL": "https://x.example/shop"}}

        with override_script_prefix("/shop/"):
            outbox_command("alerts", "test")

        text = json.loads(hook.requests[0].body)["text"]
        assert text.endswith("https://x.example/shop/admin/outbox/minute/")

    def test_prints_each_outcome_and_fails_if_one_channel_fails(
        self, mails: MailServer, hook: Receiver, settings: Settings
    ):
        hook.behaviour = answers(403)
        channels = {"chat": {"WEBHOOK": hook.url}, "mail": {"EMAIL": ["a@example.com"]}}
        settings.OUTBOX = {"ALERTS": {"CHANNELS": channels}}
        out = StringIO()

        with pytest.raises(SystemExit) as caught:
            call_command("outbox", "alerts", "test", stdout=out)

        assert caught.value.code == 1
        assert "ERROR    chat: The webhook did not take it: 127.0.0.1 answered 403." in (
            out.getvalue()
        )
        assert "ok       mail" in out.getvalue()

    def test_of_an_unknown_channel_is_refused(self, settings: Settings):
        settings.OUTBOX = {"ALERTS": {"CHANNELS": {"mail": {"EMAIL": ["a@example.com"]}}}}

        assert "has no channel mial. Did you mean mail?" in refused("alerts", "test", "mial")

    def test_without_channels_is_refused(self, settings: Settings):
        settings.OUTBOX = {}

        assert "No channel is configured." in refused("alerts", "test")

    def test_with_invalid_settings_is_refused(self, settings: Settings):
        settings.OUTBOX = {"ALERTS": {"CHANNELS": {"mail": {}}}}

        assert "needs one of EMAIL" in refused("alerts", "test")


class TestTheList:
    def test_has_the_open_alerts_with_their_messages(self, hook: Receiver):
        config = hook_config(hook.url)
        check(config, problem())
        send(config)

        output = outbox_command("alerts")

        assert STUCK in output
        assert "    chat: sent at 20" in output

    def test_has_resolved_ones_only_on_request(self, hook: Receiver):
        config = hook_config(hook.url)
        check(config, problem())
        row = Alert.objects.get()
        Alert.objects.update(resolved_at=row.seen_at)

        assert "No alert is open." in outbox_command("alerts")
        assert "resolved at" in outbox_command("alerts", "--all")

    def test_is_also_json(self, hook: Receiver):
        config = hook_config(hook.url)
        check(config, problem())
        send(config)

        [one] = json.loads(outbox_command("alerts", "--json"))

        assert (one["trigger"], one["problem"], one["resolved_at"]) == (
            "dead",
            "dead:parcels",
            None,
        )
        assert one["channels"][0]["name"] == "chat"
