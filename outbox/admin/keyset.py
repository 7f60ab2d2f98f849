"""Lists with keyset pagination: a page begins at the last key of the previous one.

Rows are neither counted nor skipped. So each page is one index range and costs the same.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from .base import BoundedChangeList

#: Query parameters: only rows older, or newer, than this key.
OLDER, NEWER = "older", "newer"


class KeysetChangeList(BoundedChangeList):
    """A list ordered only by descending key, from a given row.

    Attributes:
        is_keyset: True; the number of pages is unknown.
        newer_url: URL of the previous page; empty on the first.
        older_url: URL of the next page; empty on the last.
        newest_url: URL of the first page; empty on the first.
    """

    is_keyset = True

    def get_results(self, request: HttpRequest) -> None:
        """Read one page, and one row more to know whether it is the last page."""
        rows, has_newer, has_older = self._read(request)
        self.result_list = rows
        self.result_count = len(rows)
        is_all = not has_newer and not has_older
        is_narrowed = bool(self.query or self.has_active_filters)
        # If the two counts differ, the admin shows the number of results: only if all are known.
        self.full_result_count = -1 if is_all and is_narrowed else self.result_count
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = False
        self.multi_page = not is_all
        self.newer_url = self.get_query_string({NEWER: rows[0].pk}) if rows and has_newer else ""
        self.older_url = self.get_query_string({OLDER: rows[-1].pk}) if rows and has_older else ""
        is_first = is_all or bool(rows and not has_newer)
        self.newest_url = "" if is_first else self.get_query_string()

    def _read(self, request: HttpRequest) -> tuple[list[Any], bool, bool]:
        older, newer = (_number(request.GET.get(name, "")) for name in (OLDER, NEWER))
        size = self.list_per_page
        if newer is not None:
            found = self.first(size + 1, newer=newer)
            return found[:size][::-1], len(found) > size, True
        found = self.first(size + 1, older=older)
        return found[:size], older is not None, len(found) > size

    def first(
        self, number: int, *, older: int | None = None, newer: int | None = None
    ) -> list[Any]:
        """Return `number` rows: above `newer` ascending, otherwise below `older` descending."""
        if newer is not None:
            return list(self.queryset.filter(pk__gt=newer).order_by("pk")[:number])
        rows = self.queryset if older is None else self.queryset.filter(pk__lt=older)
        return list(rows.order_by("-pk")[:number])

    def get_queryset(self, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        """Keep the order by key, whatever the URL requests."""
        # A page's start is no filter. Filters and searches begin at the first page, so their links
        # leave it out, as Django does with its number of a page.
        for name in (OLDER, NEWER):
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        return super().get_queryset(*args, **kwargs).order_by("-pk")


def _number(text: str) -> int | None:
    """Parse a key; return None, for the first page, if the text is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
