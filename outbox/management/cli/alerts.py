"""The subcommand alerts: list the stored alerts, and test the channels."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox import databases
from outbox.alerts.channels import ChannelFailed, send
from outbox.alerts.configuration import AlertsConfig, ChannelConfig, configured
from outbox.alerts.findings import page
from outbox.alerts.listing import outcomes, stored
from outbox.alerts.messages import message_of_test
from outbox.formatting import did_you_mean, format_time
from outbox.models import Alert

from .common import Options, Write, add_json, write_json

_NONE = gettext_lazy('No channel is configured. Set OUTBOX["ALERTS"]["CHANNELS"].')


class Alerts:
    """List the open alerts, or send a test message to each channel."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --all, --json and the action."""
        add_json(parser)
        parser.add_argument("--all", action="store_true", help=_("also alerts that are resolved"))
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        summary = (Test.__doc__ or "").splitlines()[0]
        Test().add_arguments(actions.add_parser("test", help=summary, description=summary))

    def run(self, options: Options, write: Write) -> None:
        """Run the action, or list the alerts. Raise `CommandError` for invalid settings."""
        try:
            config = configured()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if options["action"]:
            Test().run(config, options, write)
        else:
            _list(config, options, write)


class Test:
    """Send a test message to each channel, and print each outcome."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the channel."""
        parser.add_argument("name", nargs="?", metavar="NAME", help=_("a channel (default: all)"))

    def run(self, config: AlertsConfig, options: Options, write: Write) -> None:
        """Write the outcomes; exit with status 1 if a channel did not take its message."""
        taken = [_is_tested(one, config, write) for one in _chosen(config, options["name"])]
        if not all(taken):
            sys.exit(1)


def _chosen(config: AlertsConfig, name: str | None) -> list[ChannelConfig]:
    known = config.channels
    if not known:
        raise CommandError(str(_NONE))
    if name is None:
        return list(known.values())
    if name not in known:
        names = ", ".join(known)
        hint = did_you_mean(name, known) or _("Channels: %(names)s.") % {"names": names}
        text = _('OUTBOX["ALERTS"]["CHANNELS"] has no channel %(name)s. %(hint)s')
        raise CommandError(text % {"name": name, "hint": hint})
    return [known[name]]


def _is_tested(channel: ChannelConfig, config: AlertsConfig, write: Write) -> bool:
    try:
        send(channel, message_of_test(channel=channel.name, url=_overview(config)))
    except ChannelFailed as error:
        write(f"ERROR    {channel.name}: {error}")
        return False
    text = _("%(channel)s: the test message was taken.") % {"channel": channel.name}
    write(f"ok       {text}")
    return True


def _overview(config: AlertsConfig) -> str:
    """Return the URL of the overview, so that the test also shows whether links work."""
    path = page("outbox_minute_changelist")
    return f"{config.site_url}{path}" if config.site_url and path else ""


def _list(config: AlertsConfig, options: Options, write: Write) -> None:
    found = stored(using=databases.alias(), with_resolved=options["all"])
    if options["json"]:
        write_json([_as_json(one) for one in found], write)
        return
    for one in found:
        for line in _lines(one):
            write(line)
    if not found:
        write(_("No alert.") if options["all"] else _("No alert is open."))
    if not config.channels:
        write(str(_NONE))


def _lines(one: Alert) -> list[str]:
    head = _("%(trigger)s, since %(opened)s")
    if one.resolved_at:
        head = _("%(trigger)s, since %(opened)s, resolved at %(resolved)s")
    facts = {
        "trigger": one.trigger,
        "opened": format_time(one.opened_at),
        "resolved": format_time(one.resolved_at) if one.resolved_at else "",
    }
    return [head % facts, *(f"    {text}" for text in (one.text, *outcomes(one)))]


def _as_json(one: Alert) -> dict[str, Any]:
    return {
        "id": one.pk,
        "trigger": one.trigger,
        "problem": one.problem,
        "text": one.text,
        "path": one.path,
        "opened_at": one.opened_at,
        "resolved_at": one.resolved_at,
        "channels": [
            {"name": row.channel, "sent_at": row.sent_at, "error": row.error}
            for row in one.notices.all()
        ],
    }
