"""Errors under /api/ are `application/problem+json` (RFC 9457), whoever refuses the request.

A code is stable and means one thing; docs/reference/api-errors.md explains each. An app brings
its own codes as `APIException`s; what Django refuses before any view is translated here.
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
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy
from django.views import defaults
from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.views import APIView, set_rollback

from api.parsing import BodyTooLarge
from api.problems import LONGEST_DETAIL, MOST_ERRORS
from outbox.context import CORRELATION_HEADER, current_cause

API = "/api/"
MEDIA_TYPE = "application/problem+json"
AT_THE_BODY = api_settings.NON_FIELD_ERRORS_KEY

# Django REST framework's texts have blanks to fill in, or say what went wrong this time.
TITLES = {
    "invalid": gettext_lazy("The request is not valid."),
    "parse_error": gettext_lazy("The body cannot be read."),
    "method_not_allowed": gettext_lazy("This address does not know the method."),
    "unsupported_media_type": gettext_lazy("The body must be JSON."),
}


class BadRequest(exceptions.APIException):
    """Django itself refuses the request: a wrong host name, a forged session."""

    status_code = 400
    default_code = "bad_request"
    default_detail = gettext_lazy("The request is refused.")


class LengthRequired(exceptions.APIException):
    """The body comes in chunks, without its length."""

    status_code = 411
    default_code = "length_required"
    default_detail = gettext_lazy(
        "The request needs a Content-Length; a body in chunks is not read."
    )


class SecondFactorRequired(exceptions.APIException):
    """The session of staff has passed the password, and not the second factor."""

    status_code = 403
    default_code = "second_factor_required"
    default_detail = gettext_lazy("Enter the code of your second factor in the admin first.")


class InternalError(exceptions.APIException):
    """A bug, or a part of us that is away."""

    status_code = 500
    default_code = "internal_error"
    default_detail = gettext_lazy("Something went wrong here; it is not your fault.")


def handle(error: Exception, context: dict[str, Any]) -> JsonResponse | None:
    """Answer an exception of a view. None: it is a bug, and Django logs it first."""
    refusal = _as_refusal(error)
    if refusal is None:
        return None
    if isinstance(refusal, exceptions.NotAuthenticated):
        refusal = _why_unknown(refusal, context["request"])
    set_rollback()
    return problem(refusal)


def problem(error: exceptions.APIException) -> JsonResponse:
    """Write an error down as RFC 9457 has it: at most MOST_ERRORS errors of a bounded length."""
    correlation_id = str(current_cause().correlation_id)
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
    """Refuse a request before any view: a problem under /api/, one line of text elsewhere."""
    if request.path.startswith(API):
        return problem(error)
    return HttpResponse(f"{error.detail}\n", status=error.status_code, content_type="text/plain")


def title_of(kind: type[exceptions.APIException]) -> str:
    """The text that is the same for each error of a code."""
    return str(TITLES.get(kind.default_code, kind.default_detail))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler400."""
    if request.path.startswith(API):
        return problem(_as_refusal(exception) or BadRequest())
    if isinstance(exception, DjangosBadRequest):  # its text is for the visitor
        return render(request, "shop/refused.html", {"why": exception}, status=400)
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Django's handler500."""
    if request.path.startswith(API):
        return problem(InternalError())
    return defaults.server_error(request)


class Nothing(APIView):
    """Any other address under /api/: 404, also where DEBUG would show a page of its own."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse every method."""
        text = gettext("There is nothing at this address.")
        if not request.path.endswith("/"):
            text += " " + gettext("Addresses end with a slash.")
        raise exceptions.NotFound(text)


def _as_refusal(error: Exception) -> exceptions.APIException | None:
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
    """Return a better reason than "no credentials" where the second factor's middleware has one."""
    return SecondFactorRequired() if getattr(request, "second_factor_missing", False) else error


def _detail(error: exceptions.APIException, errors: Sequence[dict[str, str]]) -> str:
    if not isinstance(error, exceptions.ValidationError):
        return _short(error.detail)
    if len(errors) == 1:
        return errors[0]["detail"]
    if len(errors) > MOST_ERRORS:
        text = gettext("More than %(most)d things are wrong; `errors` names the first %(most)d.")
        return text % {"most": MOST_ERRORS}
    return gettext("%(count)d things are wrong; `errors` names each.") % {"count": len(errors)}


def _errors(error: exceptions.APIException) -> list[dict[str, str]]:
    """Each wrong part of the body: where (a JSON pointer), a code, a sentence.

    One more than MOST_ERRORS if there are more.
    """
    if not isinstance(error, exceptions.ValidationError):
        return []
    return [
        {"pointer": pointer, "code": str(detail.code), "detail": _short(detail)}
        for pointer, detail in islice(_flat(error.detail, "#"), MOST_ERRORS + 1)
    ]


def _short(detail: object) -> str:
    """Cut a text that quotes a long value of the request."""
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
    """One step of a JSON pointer, in a URI's fragment."""
    return quote(str(name).replace("~", "~0").replace("/", "~1"), safe="~")


def known_problems() -> dict[str, type[exceptions.APIException]]:
    """Every code that the API answers with, and the exception behind it."""
    found: dict[str, type[exceptions.APIException]] = {}
    waiting = [exceptions.APIException]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "default_code" in vars(kind) and kind is not exceptions.APIException:
            found.setdefault(kind.default_code, kind)
    return found


class Problem(APIView):
    """What a code means: the address that `type` names."""

    permission_classes = (AllowAny,)
    schema = None

    def get(self, request: Request, code: str) -> JsonResponse:
        """Answer with the code's status and title."""
        kind = known_problems().get(code)
        if kind is None:
            raise exceptions.NotFound
        return JsonResponse(
            {"code": code, "status": kind.status_code, "title": title_of(kind)},
            headers={"Cache-Control": "max-age=3600"},
        )
