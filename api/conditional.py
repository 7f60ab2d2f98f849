"""ETag and If-None-Match: who has the latest already need not be sent it again."""

from __future__ import annotations

import hashlib
from typing import Any

from django.http import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

#: The header, for `extend_schema(parameters=[...])`.
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", OpenApiTypes.STR, OpenApiParameter.HEADER, description="An earlier `ETag`."
)


def if_changed(request: Request, response: Response) -> HttpResponseBase:
    """Return the response with its ETag, or 304 where If-None-Match names that."""
    content: Any = JSONRenderer().render(response.data)
    etag = quote_etag(hashlib.sha256(content).hexdigest()[:32])
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"  # keep it, but ask each time
    return get_conditional_response(request._request, etag=etag, response=response) or response
