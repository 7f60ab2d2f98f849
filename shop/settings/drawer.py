"""The development drawer: it exists only in a development copy that `manage.py up` has started."""

from __future__ import annotations

from .apps import INSTALLED_APPS, MIDDLEWARE, TEMPLATES
from .environment import DEBUG, FOR_REAL, env

# UP_CONTROL: the folder in which `manage.py up` takes requests of the drawer. Only `up` sets it.
UP_CONTROL = env.str("UP_CONTROL", default="") if DEBUG and not FOR_REAL else ""

if UP_CONTROL:
    INSTALLED_APPS += ["shop.drawer"]
    # Inside of the middleware that chooses the correlation id.
    _after = MIDDLEWARE.index("outbox.context.RequestContextMiddleware") + 1
    MIDDLEWARE[_after:_after] = ["shop.drawer.clicks.LastClickMiddleware"]
    TEMPLATES[0]["OPTIONS"]["context_processors"] += ["shop.drawer.views.development"]  # type: ignore[index]  # a dict
