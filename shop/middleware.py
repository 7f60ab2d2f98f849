"""What holds for every answer of the site, and for every request to its API."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from shop.problems import API, LengthRequired, problem

GetResponse = Callable[[HttpRequest], HttpResponseBase]


class NoStoreMiddleware:
    """Let nobody keep an answer that does not say who may: most are one customer's, or secrets."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class LengthMiddleware:
    """Refuse a body in chunks, which Django takes for an empty one: half a change is none."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "Transfer-Encoding" in request.headers and request.path.startswith(API):
            return problem(LengthRequired())
        return self.get_response(request)
