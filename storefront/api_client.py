"""Requests to the shop's API within this process, with the same contract as any other client.

The view of the API gets a request of its own: a JSON body, an Idempotency-Key, and the signed-in
user. Its validation, idempotency, limits and errors apply. No port, no token and no second web
process are needed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.urls import get_script_prefix, resolve, reverse
from django.utils.translation import get_language

#: Parts of the browser's request that the request to the API repeats.
_REPEATED = ("SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "HTTP_HOST", "REMOTE_ADDR")


class RefusedByApi(Exception):
    """The API refused a request.

    Attributes:
        status: of HTTP.
        code: the stable code of the problem, such as "idempotency_key_reused".
        detail: a sentence for the user.
        errors: the wrong parts of the body, as in RFC 9457: pointer, code and detail.
        wait: seconds until the request may succeed, after too many; else None.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], *, wait: int | None = None) -> None:
        self.status = status
        self.wait = wait
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail", ""))
        self.errors: list[dict[str, str]] = list(problem.get("errors", ()))
        super().__init__(f"{status} {self.code}: {self.detail}")

    @property
    def sentences(self) -> list[str]:
        """One sentence for each wrong part of the body, or the detail."""
        return [error["detail"] for error in self.errors] or [self.detail]


def post(
    request: HttpRequest, name: str, *args: object, key: str, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Send a POST request to the API for the user of `request`, and return the answer's document.

    Call it in a view that Django's CSRF middleware protects.

    Args:
        name: of the API's address, such as "orders:orders".
        args: the parts of the address that vary.
        key: the Idempotency-Key. A repetition with the same body gets the same answer.

    Raises:
        RefusedByApi: the API answered with a problem.
    """
    path = "/" + reverse(name, args=args).removeprefix(get_script_prefix())
    found = resolve(path)
    answer = found.func(_request(request, path, key, body), *found.args, **found.kwargs)
    document = answer.data if hasattr(answer, "data") else json.loads(answer.content)
    if answer.status_code >= HTTPStatus.BAD_REQUEST:
        wait = answer.headers.get("Retry-After", "")
        raise RefusedByApi(answer.status_code, document, wait=int(wait) if wait else None)
    return dict(document)


def _request(original: HttpRequest, path: str, key: str, body: Mapping[str, Any]) -> WSGIRequest:
    content = json.dumps(body).encode()
    request = WSGIRequest(
        {
            **{name: original.META[name] for name in _REPEATED if name in original.META},
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": get_script_prefix().rstrip("/"),
            "PATH_INFO": path,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(content)),
            "HTTP_ACCEPT": "application/json",
            "HTTP_ACCEPT_LANGUAGE": get_language() or "en",
            "HTTP_IDEMPOTENCY_KEY": key,
            "wsgi.url_scheme": original.scheme,
            "wsgi.input": io.BytesIO(content),
        }
    )
    request.user = original.user
    # The browser's form had a token, which the middleware has checked.
    request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # Django reads it
    return request
