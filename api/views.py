"""View of the API's schema, which is generated once for each form."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from django.utils.translation import get_language, get_supported_language_variant, override
from drf_spectacular.views import SpectacularAPIView
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from .conditional import conditional_response

_GENERATING = Lock()


class SchemaView(SpectacularAPIView):
    """The schema in YAML or JSON, by `Accept`, and in the language of `?lang=` or of the request.

    It is the same for all users and for the life of the process, so each form is generated once. A
    release starts new processes, so it never shows the schema of an older one. There is one
    version: `?version=` is ignored.
    """

    schema = None
    http_method_names = ["get", "head", "options"]

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Return the schema, or 304 if If-None-Match names it."""
        renderer: BaseRenderer = request.accepted_renderer
        language = _language_of(request)
        content = _rendered_once(type(renderer), language)
        response = HttpResponse(content, content_type=f"{renderer.media_type}; charset=utf-8")
        response["Content-Disposition"] = f'inline; filename="schema.{renderer.format}"'
        response["Content-Language"] = language
        return conditional_response(request, response, content=content, policy="public, no-cache")


def _language_of(request: Request) -> str:
    """Return one of our languages: gettext would keep any other name in memory for ever."""
    try:
        return get_supported_language_variant(request.GET.get("lang", ""))
    except LookupError:
        return get_language() or settings.LANGUAGE_CODE


def _rendered_once(renderer: type[BaseRenderer], language: str) -> bytes:
    with _GENERATING:  # `cache` alone lets each of many first requests generate it
        return _rendered(renderer, language)  # type: ignore[arg-type]  # a class is hashable


@cache
def _rendered(renderer: type[BaseRenderer], language: str) -> bytes:
    with override(language):
        generator = SchemaView.generator_class()
        schema = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # spectacular's
        content = renderer().render(schema)
    return content if isinstance(content, bytes) else content.encode()
