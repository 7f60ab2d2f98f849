"""Pagination by cursor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

T = TypeVar("T")

#: Digits of any number that a BIGINT can hold.
_LONGEST_NUMBER = 18


class SafeCursorPagination(CursorPagination):
    """Cursor pagination that answers an invalid cursor with 404, where DRF's own ends in a 500."""

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Refuse a position that a database cannot compare."""
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


class NewestFirstPagination(SafeCursorPagination):
    """Pages of rows whose id is a UUIDv7, which begins with the time."""

    ordering = "-id"
    page_size = 50


class ForwardPagination(SafeCursorPagination):
    """Pages of numbered rows in ascending order, fetched by a function instead of a queryset.

    `previous` is always null.
    """

    page_size = 50
    _next: str | None = None

    def page_of(
        self, request: Request, fetch: Callable[[int, int], list[T]], *, number: Callable[[T], int]
    ) -> list[T]:
        """Return the rows of the page that the request's cursor names.

        Args:
            fetch: takes a number and a limit; returns the first rows above the number, in any
                order.
            number: returns a row's number, which is at least 1.

        Raises:
            NotFound: the cursor is invalid.
        """
        self.base_url = request.build_absolute_uri()
        rows = fetch(self._start(request), self.page_size + 1)
        if len(rows) > self.page_size:
            rows.remove(max(rows, key=number))
            position = max(map(number, rows))
            self._next = self.encode_cursor(Cursor(offset=0, reverse=False, position=position))
        return rows

    def get_next_link(self) -> str | None:
        """Return the address of the next page, if there is one."""
        return self._next

    def get_previous_link(self) -> None:
        """Return None: pages lead forward only."""

    def _start(self, request: Request) -> int:
        cursor = self.decode_cursor(request)
        if cursor is None:
            return 0
        position = str(cursor.position)
        if not (position.isascii() and position.isdecimal() and len(position) <= _LONGEST_NUMBER):
            raise NotFound(self.invalid_cursor_message)
        return int(position)
