"""Pages that a cursor leads through."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class SafeCursorPagination(CursorPagination):
    """Cursor paging that answers an invented cursor with 404, where DRF's own ends in a 500."""

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Refuse a position that a database cannot even compare with."""
        cursor = super().decode_cursor(request)
        if cursor and "\0" in str(cursor.position):
            raise NotFound(self.invalid_cursor_message)
        return cursor

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """Refuse a position that is no value of the column, such as a text for a UUID."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except ValidationError as error:
            raise NotFound(self.invalid_cursor_message) from error


class LatestFirst(SafeCursorPagination):
    """Pages of what has a UUIDv7 for its id, which begins with the time."""

    ordering = "-id"
    page_size = 50
