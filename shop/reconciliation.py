"""Run the reconciliation of all apps, format it as text and JSON, and store it."""

from __future__ import annotations

import logging
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.reconciliation import Difference, examination
from outbox.reconciliation.examination import InvariantResult
from outbox.reconciliation.examination import reconcile as reconcile
from shop.models import Reconciliation

logger = logging.getLogger(__name__)

Report = dict[str, Any]


def report_of(done: examination.Reconciliation) -> Report:
    """Return the result as one JSON object."""
    return {
        "balanced": done.is_balanced,
        "checked_at": done.checked_at.isoformat(),
        "seconds": round(done.seconds, 3),
        "differences": done.differences,
        "unsettled": done.unsettled,
        "invariants": [_result(one) for one in done.findings],
    }


def _result(one: InvariantResult) -> Report:
    return {
        "name": one.invariant.name,
        "rule": one.invariant.statement,
        "checked": one.checked,
        "differences": one.differences,
        "unsettled": one.unsettled,
        "remedy": one.invariant.remedy,
        "difference_examples": [_difference(found) for found in one.kept],
        "unsettled_examples": [_difference(found) for found in one.kept_unsettled],
    }


def _difference(found: Difference) -> Report:
    row = found.row
    return {
        "text": found.text,
        "key": found.key,
        "model": row._meta.label_lower if row else "",
        "id": str(row.pk) if row else "",
    }


def store(done: examination.Reconciliation) -> Reconciliation:
    """Store the result for the admin, delete the oldest, and log an error if anything differs."""
    report = report_of(done)
    facts = ("seconds", "balanced", "differences", "unsettled")
    stored = Reconciliation.objects.create(
        checked_at=done.checked_at, report=report, **{name: report[name] for name in facts}
    )
    Reconciliation.objects.filter(id__lte=stored.id - Reconciliation.KEPT).delete()
    if not done.is_balanced:
        logger.error(
            "The reconciliation found differences: %d. Run `manage.py reconcile`, or see "
            "Reconciliations in the admin.",
            done.differences,
        )
    return stored


def as_text(report: Report) -> str:
    """Return the result as text: a line for each invariant, then the differences."""
    lines = [_line(one) for one in report["invariants"]]
    for one in report["invariants"]:
        lines += _paragraph(one)
    return "\n".join([*lines, "", _conclusion(report)])


def _line(one: Report) -> str:
    mark = _("DIFFERS") if one["differences"] else _("holds")
    waiting = ", " + _("%d unsettled") % one["unsettled"] if one["unsettled"] else ""
    differing = ", " + _("%d differ") % one["differences"] if one["differences"] else ""
    checked = _("%s checked") % f"{one['checked']:>9,}"
    return f"{mark:8} {one['name']:45} {checked}{differing}{waiting}"


def _paragraph(one: Report) -> list[str]:
    if not one["differences"]:
        return []
    more = one["differences"] - len(one["difference_examples"])
    return [
        "",
        f"{one['name']}: {one['rule']}",
        *(f"  - {found['text']}" for found in one["difference_examples"]),
        *([("  " + _("- and %(more)s more") % {"more": f"{more:,}"})] if more else []),
        ("  " + _("Next step: %(remedy)s") % {"remedy": one["remedy"]}),
    ]


def _conclusion(report: Report) -> str:
    unsettled, number = report["unsettled"], report["differences"]
    owed = (
        _("Keys with owed deliveries: %(unsettled)s. See: manage.py outbox status.")
        % {"unsettled": f"{unsettled:,}"}
        if unsettled
        else _("No delivery is owed.")
    )
    found = _("no differences")
    if number:
        text = ngettext("%(number)s difference", "%(number)s differences", number)
        found = text % {"number": f"{number:,}"}
    return _("The reconciliation found %(found)s. %(owed)s") % {"found": found, "owed": owed}
