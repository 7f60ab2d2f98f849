"""Lets Django's test client send forms as a browser sends ours: URL-encoded, not multipart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.test.client import MULTIPART_CONTENT, RequestFactory

FORM = "application/x-www-form-urlencoded"


def install() -> None:
    """Change what `post(url, {...})` sends; a content type that is given is kept."""
    setattr(RequestFactory, "post", _url_encoded(RequestFactory.post))  # noqa: B010  for mypy


def _url_encoded(post: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(post)
    def wrapper(
        self: Any, path: str, data: Any = None, content_type: str = MULTIPART_CONTENT, **more: Any
    ) -> Any:
        if content_type == MULTIPART_CONTENT and isinstance(data, Mapping | None):
            data, content_type = urlencode(data or {}, doseq=True), FORM
        return post(self, path, data, content_type, **more)

    return wrapper
