"""Conventions of an HTTP API on Django REST framework, which every app's views share.

    class Wanted(StrictSerializer):                # refuses unknown fields
        quantity = StrictIntegerField(min_value=1)

    def post(self, request):
        wanted = Wanted(data=request.data)
        wanted.is_valid(raise_exception=True)
        return answer_once(request, lambda: self._place(wanted))    # Idempotency-Key

This module is the whole public API. It knows no shop and imports no models, so it may be imported
anywhere. The project defines the form of errors (`shop/problems.py`). An app raises
`APIException`s with a stable `default_code`, such as a `Conflict`.
"""

from __future__ import annotations

from .addresses import counted_address
from .conditional import IF_NONE_MATCH, if_changed
from .idempotency import (
    IDEMPOTENCY_KEY,
    AnswerGone,
    answer_once,
    digest_of_key,
    erase_answers_at,
    erase_answers_of,
)
from .linking import FIRST_ID, ITS_ID, SAME_ID, link, links
from .paging import ForwardPagination, NewestFirstPagination, SafeCursorPagination
from .problems import Conflict
from .serializers import (
    BoundedListField,
    MoneyField,
    NothingSerializer,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)

__all__ = [
    "FIRST_ID",
    "IDEMPOTENCY_KEY",
    "IF_NONE_MATCH",
    "ITS_ID",
    "SAME_ID",
    "AnswerGone",
    "BoundedListField",
    "Conflict",
    "ForwardPagination",
    "MoneyField",
    "NewestFirstPagination",
    "NothingSerializer",
    "SafeCursorPagination",
    "StrictBooleanField",
    "StrictCharField",
    "StrictIntegerField",
    "StrictSerializer",
    "answer_once",
    "counted_address",
    "digest_of_key",
    "erase_answers_at",
    "erase_answers_of",
    "if_changed",
    "link",
    "links",
]
