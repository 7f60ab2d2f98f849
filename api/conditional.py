"""ETag and If-None-Match: do not send a client an answer that it already has."""

from __future__ import annotations

import hashlib
from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

#: The header, for `extend_schema(parameters=[...])`.
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="The `ETag` of an earlier answer.",
)


def if_changed(request: Request, response: Response) -> HttpResponseBase:
    """Return the response with its ETag, or 304 if If-None-Match names it."""
    content: Any = JSONRenderer().render(response.data)
    return conditional_response(request, response, content=content, policy="private, no-cache")


def conditional_response(
    request: Request, response: HttpResponse, *, content: bytes, policy: str
) -> HttpResponseBase:
    """Return the response with an ETag of its content, or 304 if If-None-Match names it.

    Args:
        content: the bytes that the ETag stands for.
        policy: the value of Cache-Control; "no-cache" lets a cache store it and revalidate it.
    """
    etag = quote_etag(hashlib.sha256(content).hexdigest()[:32])
    response["ETag"] = etag
    response["Cache-Control"] = policy
    return get_conditional_response(request._request, etag=etag, response=response) or response
