"""Findings about partitions: whether they exist, are created ahead, and can all be locked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db import connections
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock
from outbox.conf import conf
from outbox.partitions.ahead import (
    DAYS_AHEAD,
    is_behind,
    may_create,
    may_read_last,
    missing_days,
)
from outbox.partitions.catalogue import EVENT, TABLES, is_partitioned, partitions, read
from outbox.partitions.days import day_at
from outbox.partitions.room import Room

from .findings import Finding, error, ok, warning
from .partition_faults import faults

_PART = "partitions"
#: Time after midnight within which a relay lets the sequence jump: it checks once a minute.
_JUMPS_WITHIN = timedelta(minutes=5)


def examine(*, using: str) -> Iterator[Finding]:
    """Examine the partitions; nothing if the tables have none and the setting is empty."""
    if connections[using].vendor != "postgresql":
        return  # `check` refuses the setting
    if not is_partitioned(using=using):
        if conf().PARTITION:
            yield _not_converted()
        return
    if not conf().PARTITION:
        yield _no_setting()
    now = clock.now(using=using)
    found = [*_missing(now, using), *_behind(now, using), *_detaching(using)]
    found += faults(day_at(now), using=using)
    yield from found or [_covered(using)]
    yield from _locks(using)


def _not_converted() -> Finding:
    return warning(
        _PART,
        _('OUTBOX["PARTITION"] is set, and the tables have no partitions.'),
        _("Run `manage.py outbox partition`. Events are stored meanwhile."),
    )


def _no_setting() -> Finding:
    return error(
        _PART,
        _(
            'The tables have partitions, and OUTBOX["PARTITION"] is not set. No relay creates '
            "those of the next days, and each statement locks all of them."
        ),
        _('Set OUTBOX["PARTITION"] to "day", and restart all processes.'),
    )


def _missing(now: datetime, using: str) -> Iterator[Finding]:
    today = day_at(now)
    # A run once a day, as the owner, has not created the last one yet.
    complete = today + timedelta(days=DAYS_AHEAD)
    missing = [day for day in missing_days(today, using=using) if day < complete]
    if not missing:
        return
    step = _("Check that a relay runs, and read its log. Or run `manage.py outbox partition`.")
    if not may_create(using=using):
        step = _(
            "This role is not the owner of the tables, and a relay with this role cannot create "
            "them. Run `manage.py outbox partition` once a day as the owner."
        )
    if today + timedelta(days=1) in missing:
        text = _("Tomorrow has no partition. Events of coming days are stored with earlier ones.")
        yield error(_PART, text, step)
    else:
        text = _("%(day)s has no partition. Partitions are created %(days)d days ahead.")
        yield warning(_PART, text % {"day": missing[0], "days": DAYS_AHEAD}, step)


def _behind(now: datetime, using: str) -> Iterator[Finding]:
    if not may_read_last(using=using):
        yield warning(
            _PART,
            _(
                "This role may not read the sequence of events. Relays with this role read all "
                "partitions."
            ),
            _("Give the role of the relays USAGE of the sequence outbox_event_seq_seq."),
        )
    elif is_behind(day_at(now - _JUMPS_WITHIN), using=using):
        yield warning(
            _PART,
            _(
                "Events of today are stored in the partition of an earlier day. They are safe. "
                "That partition is removed later, since it has events of several days."
            ),
            _(
                "Check that a relay runs and that its role has the rights. If it is the role of "
                "this command: GRANT USAGE, UPDATE ON SEQUENCE outbox_event_seq_seq TO %(role)s. "
                "If it is another one, name that one. Or run `manage.py outbox partition`."
            )
            % {"role": _role(using)},
        )


def _role(using: str) -> str:
    """Return the role of this session, as SQL. Relays may have another one."""
    [[role]] = read("SELECT quote_ident(current_user)", using=using)
    return str(role)


def _detaching(using: str) -> Iterator[Finding]:
    for table in TABLES:
        for one in partitions(table, using=using):
            if one.is_detaching:
                yield warning(
                    _PART,
                    _("The removal of the partition %(name)s was interrupted.")
                    % {"name": one.name},
                    _("The next run of `manage.py outbox prune` finishes it."),
                )


def _locks(using: str) -> Iterator[Finding]:
    room = Room(using=using)
    if not room.is_ample:
        yield warning(_PART, room.cause(), room.step())


def _covered(using: str) -> Finding:
    number = len(partitions(EVENT, using=using))
    return ok(
        _PART,
        ngettext(
            "%(number)s partition of each table, and those of the next days exist.",
            "%(number)s partitions of each table, and those of the next days exist.",
            number,
        )
        % {"number": f"{number:,}"},
    )
