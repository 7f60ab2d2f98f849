"""Counts that stop at a number, so that their cost does not grow with a backlog."""

from __future__ import annotations

from typing import Any

from django.db.models import IntegerField, OuterRef, QuerySet, Subquery


class _Count(Subquery):
    """The number of rows of a subquery."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"
    output_field = IntegerField()


def number_of(rows: QuerySet[Any], *, most: int) -> Subquery:
    """Return an expression for queries of subscriptions: the number of their rows, up to `most`.

    Args:
        rows: rows with `subscription` and `due_at`, which an index has, in the index's order if two
            fit.
        most: the largest number that is counted.
    """
    mine = rows.filter(subscription=OuterRef("pk"))
    return _Count(mine.values("due_at")[:most])
