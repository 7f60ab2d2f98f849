"""Errors under /api/ are `application/problem+json` (RFC 9457), also those before any view.

A code is stable and has one meaning; docs/reference/api-errors.md explains each. An app defines
its own codes as `APIException`s. Errors that Django raises before any view are translated here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from django.core.exceptions import BadRequest as DjangosBadRequest
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy
from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.views import APIView, set_rollback

from api.parsing import BodyTooLarge
from api.problems import LONGEST_DETAIL, MOST_ERRORS
from outbox.context import CORRELATION_HEADER, current_cause, current_correlation_id

API = "/api/"
MEDIA_TYPE = "application/problem+json"
AT_THE_BODY = api_settings.NON_FIELD_ERRORS_KEY

# Texts of Django REST framework that have placeholders, or describe one occurrence.
TITLES = {
    "invalid": gettext_lazy("The request is not valid."),
    "parse_error": gettext_lazy("The body cannot be parsed."),
    "method_not_allowed": gettext_lazy("This URL does not support the method."),
    "unsupported_media_type": gettext_lazy("The body must be JSON."),
}


class BadRequest(exceptions.APIException):
    """Django refuses the request: a wrong host name, a forged session."""

    status_code = 400
    default_code = "bad_request"
    default_detail = gettext_lazy("The request is refused.")


class LengthRequired(exceptions.APIException):
    """The body is sent in chunks, without its length."""

    status_code = 411
    default_code = "length_required"
    default_detail = gettext_lazy(
        "The request needs a Content-Length. A chunked body is not accepted."
    )


class SecondFactorRequired(exceptions.APIException):
    """The session of staff has passed the password, but not the second factor."""

    status_code = 403
    default_code = "second_factor_required"
    default_detail = gettext_lazy("Enter the code of your second factor in the admin first.")


class InternalError(exceptions.APIException):
    """A bug, or an unavailable part of the system."""

    status_code = 500
    default_code = "internal_error"
    default_detail = gettext_lazy("An internal error occurred. Try again later.")


def handle(error: Exception, context: dict[str, Any]) -> JsonResponse | None:
    """Answer an exception of a view. Return None for a bug, which Django logs first."""
    refusal = as_refusal(error)
    if refusal is None:
        return None
    if isinstance(refusal, exceptions.NotAuthenticated):
        refusal = _why_unknown(refusal, context["request"])
    set_rollback()
    return problem(refusal)


def problem(error: exceptions.APIException) -> JsonResponse:
    """Return an error in the form of RFC 9457: at most MOST_ERRORS errors of a limited length."""
    correlation_id = current_correlation_id() or str(current_cause().correlation_id)
    errors = _errors(error)
    document = {
        "type": reverse("problem", args=[error.default_code]),
        "title": title_of(type(error)),
        "status": error.status_code,
        "detail": _detail(error, errors),
        "code": error.default_code,
        "errors": errors[:MOST_ERRORS],
        "correlation_id": correlation_id,
    }
    response = JsonResponse(document, status=error.status_code, content_type=MEDIA_TYPE)
    response[CORRELATION_HEADER] = correlation_id
    if header := getattr(error, "auth_header", ""):
        response["WWW-Authenticate"] = header
    if wait := getattr(error, "wait", None):
        response["Retry-After"] = str(math.ceil(wait))
    return response


def refusal(request: HttpRequest, error: exceptions.APIException) -> HttpResponseBase:
    """Refuse a request before any view: a problem under /api/, one line of text otherwise."""
    if request.path.startswith(API):
        return problem(error)
    return HttpResponse(f"{error.detail}\n", status=error.status_code, content_type="text/plain")


def title_of(kind: type[exceptions.APIException]) -> str:
    """Return the text that is the same for each error of a code."""
    return str(TITLES.get(kind.default_code, kind.default_detail))


class Nothing(APIView):
    """Any other address under /api/: 404, also where DEBUG would show its own page."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse every method."""
        text = gettext("There is no resource at this URL.")
        if not request.path.endswith("/"):
            text += " " + gettext("URLs of the API end with a slash.")
        raise exceptions.NotFound(text)


def as_refusal(error: Exception) -> exceptions.APIException | None:
    """Return the problem of an exception; None for a bug."""
    match error:
        case exceptions.APIException():
            return error
        case Http404():
            return exceptions.NotFound()
        case PermissionDenied():
            return exceptions.PermissionDenied()
        case RequestDataTooBig():
            return BodyTooLarge()
        case DjangosBadRequest():
            return BadRequest(str(error))
        case SuspiciousOperation():
            return BadRequest()
    return None


def _why_unknown(error: exceptions.APIException, request: Request) -> exceptions.APIException:
    """Return the reason of the second factor's middleware, if any, else the same error."""
    return SecondFactorRequired() if getattr(request, "second_factor_missing", False) else error


def _detail(error: exceptions.APIException, errors: Sequence[dict[str, str]]) -> str:
    if not isinstance(error, exceptions.ValidationError):
        return _short(error.detail)
    if len(errors) == 1:
        return errors[0]["detail"]
    if len(errors) > MOST_ERRORS:
        text = gettext(
            "The request has more than %(most)d errors. `errors` lists the first %(most)d."
        )
        return text % {"most": MOST_ERRORS}
    return gettext("The request has %(count)d errors. `errors` lists them.") % {
        "count": len(errors)
    }


def _errors(error: exceptions.APIException) -> list[dict[str, str]]:
    """Return each wrong part of the body: place (a JSON pointer), code, sentence.

    Return one more than MOST_ERRORS if there are more.
    """
    if not isinstance(error, exceptions.ValidationError):
        return []
    return [
        {"pointer": pointer, "code": str(detail.code), "detail": _short(detail)}
        for pointer, detail in islice(_flat(error.detail, "#"), MOST_ERRORS + 1)
    ]


def _short(detail: object) -> str:
    """Truncate a text that quotes a long value of the request."""
    text = str(detail)
    return text if len(text) <= LONGEST_DETAIL else f"{text[: LONGEST_DETAIL - 1]}…"


def _flat(detail: Any, pointer: str) -> Iterator[tuple[str, exceptions.ErrorDetail]]:
    if isinstance(detail, dict):
        for name, part in detail.items():
            yield from _flat(part, pointer if name == AT_THE_BODY else f"{pointer}/{_step(name)}")
    elif isinstance(detail, list):
        for index, part in enumerate(detail):
            is_text = isinstance(part, exceptions.ErrorDetail)
            yield from _flat(part, pointer if is_text else f"{pointer}/{index}")
    else:
        yield pointer, detail


def _step(name: object) -> str:
    """Return one step of a JSON pointer, in a URI's fragment."""
    return quote(str(name).replace("~", "~0").replace("/", "~1"), safe="~")


def known_problems() -> dict[str, type[exceptions.APIException]]:
    """Return every code of the API, and its exception."""
    found: dict[str, type[exceptions.APIException]] = {}
    waiting = [exceptions.APIException]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "default_code" in vars(kind) and kind is not exceptions.APIException:
            found.setdefault(kind.default_code, kind)
    return found


class Problem(APIView):
    """The page of a code, at the address in `type`."""

    permission_classes = (AllowAny,)
    schema = None

    def get(self, request: Request, code: str) -> JsonResponse:
        """Return the code's status and title."""
        kind = known_problems().get(code)
        if kind is None:
            raise exceptions.NotFound
        return JsonResponse(
            {"code": code, "status": kind.status_code, "title": title_of(kind)},
            headers={"Cache-Control": "max-age=3600"},
        )
