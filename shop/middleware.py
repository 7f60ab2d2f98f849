"""Middleware for every request and response of the site."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponseBase, UnreadablePostError
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, UnsupportedMediaType

from api.parsing import BodyTooLarge
from shop.problems import API, LengthRequired, refusal

#: NUL, which no text column of PostgreSQL holds, and surrogates, which have no UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

GetResponse = Callable[[HttpRequest], HttpResponseBase]


class NoStoreMiddleware:
    """Forbid caching of responses without Cache-Control: most are private or contain secrets."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class BodyMiddleware:
    """Refuse a body that no view reads, before any of it is parsed.

    411: in chunks, which Django takes for an empty body. 413: longer than any view accepts.
    415: multipart, since no page accepts a file; Django would store one in a temporary folder
    before a view could refuse it.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if error := _body_error(request):
            return refusal(request, error)
        return self.get_response(request)


def _body_error(request: HttpRequest) -> APIException | None:
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


class StorableTextMiddleware:
    """Refuse a NUL character and half of a surrogate pair in every text of a request.

    The texts are its path, headers, cookies, query and form. In a query such a text makes the
    database raise an error, which would be a 500. `api.parsing` refuses the same in bodies of the
    API.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        for where, text in _texts(request):
            if _UNSTORABLE.search(text):
                why = _("%(where)s contains a NUL character or an unpaired surrogate. Remove it.")
                raise BadRequest(why % {"where": ascii(where)})
        return self.get_response(request)


def _texts(request: HttpRequest) -> Iterator[tuple[str, str]]:
    """Yield each text of a request, with the name of its place."""
    yield "path", request.path_info
    yield from request.headers.items()
    for name, cookie in request.COOKIES.items():
        yield name, f"{name}{cookie}"
    forms = [request.GET]
    # A body that `BodyMiddleware` refuses is not parsed.
    if not request.path.startswith(API) and _body_error(request) is None:
        forms.append(_form(request))
    for form in forms:
        for name, values in form.lists():
            yield name, name
            yield from ((name, str(value)) for value in values)


def _form(request: HttpRequest) -> Any:
    try:
        return request.POST
    except UnreadablePostError as error:
        raise BadRequest(_("The form in the request is incomplete. Send it again.")) from error
