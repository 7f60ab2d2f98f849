"""The options that choose deliveries or events, and their parsing."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from outbox import clock, databases, events, operations
from outbox.models import Delivery, Event, Subscription

from .common import find_deliveries, is_key

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
#: A hundred years. The time before a longer age may be none that a database can store.
_LONGEST = timedelta(days=36_600)


def add_choice(parser: ArgumentParser) -> None:
    """Declare the filters of deliveries; a delivery must match all."""
    parser.add_argument(
        "id", nargs="*", metavar="ID", help=_("delivery ids, event ids (UUIDs), or keys")
    )
    parser.add_argument("--handler", metavar="HANDLER", help=_("only deliveries of this handler"))
    parser.add_argument(
        "--state",
        action="append",
        choices=Delivery.State.values,
        help=_("only deliveries in this state; can be repeated"),
    )
    add_event_choice(parser)
    parser.add_argument(
        "--exception",
        metavar="NAME",
        help=_("only if the latest attempt raised this; '': none (the worker died or was cut off)"),
    )
    parser.add_argument(
        "--place", metavar="PLACE", help=_("only if it was raised here; see `groups`")
    )
    parser.add_argument(
        "--message", metavar="TEXT", help=_("only if it was raised with this text; see `groups`")
    )
    parser.add_argument(
        "--overtaken",
        action="store_true",
        help=_("only dead deliveries that a later event of their key overtook; see `groups`"),
    )


def add_event_choice(parser: ArgumentParser) -> None:
    """Declare the filters of events."""
    parser.add_argument("--event", metavar="EVENT", help=_('only this event, "app.ClassName"'))
    parser.add_argument("--key", metavar="KEY", help=_("only events with this key"))
    parser.add_argument(
        "--since", type=_age_or_time, metavar="TIME", help=_("emitted at or after this time (UTC)")
    )
    parser.add_argument(
        "--until", type=_age_or_time, metavar="TIME", help=_("emitted before this time (UTC)")
    )


def choice_of(options: Mapping[str, Any]) -> operations.Choice:
    """Return the choice; raise `CommandError` for an unknown id, handler or event."""
    given, key = options.get("id") or [], options.get("key") or ""
    if len(given) == 1 and not key and is_key(given[0]):
        given, key = [], given[0]  # a key may have more deliveries than a query takes ids
    # Empty, and not None, if an event has no deliveries: then the choice matches none.
    ids = tuple(sorted(find_deliveries(given))) if given else None
    if options.get("handler"):
        refuse_unknown_handler(options["handler"])
    if options.get("event"):
        _refuse_unknown_event(options["event"])
    return operations.Choice(
        ids=ids,
        handler=options.get("handler") or "",
        event=options.get("event") or "",
        key=key,
        states=tuple(options.get("state") or ()),
        since=_moment(options.get("since")),
        until=_moment(options.get("until")),
        exception=options.get("exception"),
        place=options.get("place"),
        message=options.get("message"),
        overtaken=bool(options.get("overtaken")),
    )


def narrow_choice(options: Mapping[str, Any], *, last: str) -> operations.Choice:
    """Return the choice; raise `CommandError` if no option narrows it.

    `last` is one more option for the error's text.
    """
    choice = choice_of(options)
    if choice.is_empty:
        raise CommandError(
            _(
                "No deliveries chosen. Give delivery or event ids, keys, --handler "
                "HANDLER, or %(last)s."
            )
            % {"last": last}
        )
    return choice


def refuse_unknown_handler(handler: str) -> None:
    """Raise `CommandError`, with similar names, for a handler without subscriptions."""
    try:
        operations.subscriptions_of(handler)
    except operations.UnknownHandler as error:
        raise CommandError(str(error)) from error


def parse_age(text: str) -> timedelta:
    """Parse 30d, 12h or 90m."""
    age = _age(text)
    if age is None:
        raise ArgumentTypeError(
            _("invalid age %(text)s; give days, hours or minutes: 30d, 12h, 90m")
            % {"text": repr(text)}
        )
    return age


def parse_time(text: str) -> datetime:
    """Parse 2026-11-25 or 2026-11-25T10:00 (UTC)."""
    try:
        found = parse_datetime(text if len(text) > 10 else f"{text}T00:00")
    except ValueError:
        found = None
    if found is None:
        raise ArgumentTypeError(
            _("invalid time %(text)s; give an age before now (12h), or 2026-11-25T10:00 (UTC)")
            % {"text": repr(text)}
        )
    return found if timezone.is_aware(found) else found.replace(tzinfo=UTC)


def _age_or_time(text: str) -> timedelta | datetime:
    """Parse an age before now, as 12h, or a time.

    `choice_of` subtracts an age from the clock of the chosen database, which is not known yet.
    """
    age = _age(text)
    return parse_time(text) if age is None else age


def _age(text: str) -> timedelta | None:
    """Return the age, or None if the text is none; raise `ArgumentTypeError` if it is too long."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([dhm])", text)
    if not found:
        return None
    age = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if age > _LONGEST:
        text = _("the age %(text)s is more than a hundred years (36600d)") % {"text": repr(text)}
        raise ArgumentTypeError(text)
    return age


def _moment(given: datetime | timedelta | None) -> datetime | None:
    """Return the time that an option gives by the clock of the chosen database."""
    return clock.now() - given if isinstance(given, timedelta) else given


def _refuse_unknown_event(name: str) -> None:
    if Event.objects.using(databases.alias()).filter(name=name).exists():
        return
    rows = Subscription.objects.using(databases.alias()).only("event")
    subscribed = {row.event for row in rows if not row.has_several_events}
    known = sorted({*events.registry, *subscribed})
    if name not in known:
        close = get_close_matches(name, known, n=3)
        hint = (
            _("Did you mean %(names)s?") % {"names": (" " + _("or") + " ").join(close)}
            if close
            else _("See `manage.py outbox events`.")
        )
        raise CommandError(
            _("No event has the name %(name)s. %(hint)s") % {"name": name, "hint": hint}
        )
