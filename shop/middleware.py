"""What holds for every request to the site, and for every response."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from rest_framework.exceptions import APIException, UnsupportedMediaType

from api.parsing import BodyTooLarge
from shop.problems import LengthRequired, refusal

GetResponse = Callable[[HttpRequest], HttpResponseBase]


class NoStoreMiddleware:
    """Let nobody keep an answer that does not say who may: most are one customer's, or secrets."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class BodyMiddleware:
    """Refuse a body that no view reads, before any of it is parsed.

    411: in chunks, which Django takes for an empty body. 413: longer than any view accepts.
    415: multipart, since no page takes a file; Django would store one in a temporary folder before
    a view could refuse it.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if error := _trouble_with_the_body(request):
            return refusal(request, error)
        return self.get_response(request)


def _trouble_with_the_body(request: HttpRequest) -> APIException | None:
    if "Transfer-Encoding" in request.headers:
        return LengthRequired()
    if _length(request) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        return BodyTooLarge()
    kind = request.content_type or ""
    if kind.startswith("multipart/"):
        return UnsupportedMediaType(kind)
    return None


def _length(request: HttpRequest) -> int:
    text = request.headers.get("Content-Length", "")
    return int(text[:20]) if text.isascii() and text.isdigit() else 0
