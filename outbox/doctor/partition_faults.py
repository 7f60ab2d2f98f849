"""Findings about partitioned tables that were changed by hand, or whose rights are missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from django.utils.translation import gettext as _

from outbox.partitions.ahead import DAYS_AHEAD
from outbox.partitions.catalogue import EVENT, TABLES, partitions
from outbox.partitions.days import PER_DAY, first_seq
from outbox.partitions.grants import lacking_numbering
from outbox.partitions.preparation import leftover_checks, range_check
from outbox.partitions.publications import publishers
from outbox.partitions.room import endless, expected_days
from outbox.partitions.table_refusals import foreign_keys_to

from .findings import Finding, error, warning

_PART = "partitions"


def faults(today: date, *, using: str) -> Iterator[Finding]:
    """Yield the faults that prevent emits, new partitions or the removal of a day."""
    yield from _of_checks(using)
    yield from _of_rights(using)
    yield from _of_ranges(today, using)
    for table in TABLES:
        yield from _of_removal(table, using)
    yield from _of_number(using)


def _of_checks(using: str) -> Iterator[Finding]:
    for table in leftover_checks(using=using):
        yield error(
            _PART,
            _("The check %(name)s refuses the rows of later days.") % {"name": range_check(table)},
            _("Run ALTER TABLE %(table)s DROP CONSTRAINT %(name)s.")
            % {"table": table, "name": range_check(table)},
        )


def _of_rights(using: str) -> Iterator[Finding]:
    for table in TABLES:
        for role, sequence in lacking_numbering(table, using=using):
            yield error(
                _PART,
                _(
                    "The role %(role)s has INSERT on %(table)s, but no USAGE on its sequence, so "
                    "each insert fails."
                )
                % {"role": role, "table": table},
                _("Run GRANT USAGE ON SEQUENCE %(sequence)s TO %(role)s.")
                % {"sequence": sequence, "role": role},
            )


def _of_ranges(today: date, using: str) -> Iterator[Finding]:
    known = [partitions(table, using=using) for table in TABLES]
    first = first_seq(today)
    ranges = [{(one.low, one.high) for one in found if one.high > first} for found in known]
    if differing := sorted(ranges[0] ^ ranges[1]):
        yield error(
            _PART,
            _("Events and deliveries have different partitions from the number %(low)s on.")
            % {"low": differing[0][0]},
            _("A relay creates a missing one within a minute. Detach one that has another range."),
        )
    for one in (one for one in known[0] if one.high > first and not differing):
        if one.low and one.high - one.low != PER_DAY:
            yield error(
                _PART,
                _("The partition %(name)s covers %(days)s days instead of one.")
                % {"name": one.name, "days": f"{(one.high - one.low) / PER_DAY:g}"},
                _("Detach it and that of deliveries while empty. A relay creates those of days."),
            )


def _of_removal(table: str, using: str) -> Iterator[Finding]:
    for name, other in foreign_keys_to(table, using=using):
        yield error(
            _PART,
            _("The foreign key %(name)s of %(other)s refers to %(table)s. No day can be removed.")
            % {"name": name, "other": other, "table": table},
            _("Store the event's id in a column without a foreign key, and drop the constraint."),
        )
    for one in publishers(table, using=using):
        if one.has_changes:
            yield error(
                _PART,
                _(
                    "The publication %(name)s has more than the inserts of %(table)s. Subscribers "
                    "would keep the rows of removed days."
                )
                % {"name": one.name, "table": table},
                _("Run %(statement)s.")
                % {"statement": f"ALTER PUBLICATION {one.name} SET (publish = 'insert')"},
            )


def _of_number(using: str) -> Iterator[Finding]:
    number, expected = len(partitions(EVENT, using=using)), expected_days()
    if number > expected + DAYS_AHEAD:
        yield warning(
            _PART,
            _(
                "Each table has %(number)s partitions, and %(expected)s are expected. With each "
                "one, statements get slower and need more locks."
            )
            % {"number": f"{number:,}", "expected": f"{expected:,}"},
            endless()
            or _(
                'Set OUTBOX["RETENTION"]["default"] to a number of days, run `manage.py outbox '
                "prune`, and settle deliveries that are owed for long."
            ),
        )
