"""The middleware and decorator of the Content Security Policy: Django's own from 6.0 on.

Before, they are those of django-csp. The policy is `SECURE_CSP` in shop/settings/web.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import django
from django.conf import settings

__all__ = ["MIDDLEWARE", "with_sources"]

_IS_IN_DJANGO = django.VERSION >= (6, 0)

MIDDLEWARE = (
    "django.middleware.csp.ContentSecurityPolicyMiddleware"
    if _IS_IN_DJANGO
    else "csp.middleware.CSPMiddleware"
)


def with_sources(directive: str, sources: Sequence[str]) -> Callable[[Any], Any]:
    """Return a decorator of a view whose policy has these sources in one directive."""
    if _IS_IN_DJANGO:
        from django.views.decorators.csp import csp_override

        decorator: Callable[[Any], Any] = csp_override({**settings.SECURE_CSP, directive: sources})
        return decorator
    from csp.decorators import csp_update

    older: Callable[[Any], Any] = csp_update({directive: list(sources)})
    return older
