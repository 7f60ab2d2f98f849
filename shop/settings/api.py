"""The HTTP API and its schema."""

from __future__ import annotations

from typing import Any

from .apps import INSTALLED_APPS
from .environment import DEBUG, FOR_REAL, env

# Throttles count in the memory of each web process. Django's default keeps 300 entries and removes
# the least recently used ones. Then the requests of 150 other clients would reset a limit.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 50_000},
    }
}

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "api.tokens.TokenAuthentication",
        "api.tokens.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        *(["rest_framework.renderers.BrowsableAPIRenderer"] if DEBUG else []),
    ],
    "DEFAULT_PARSER_CLASSES": ["api.parsing.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": [
        "api.throttling.UserRateThrottle",
        "api.throttling.AnonRateThrottle",
    ],
    # REMOTE_ADDR is the client's address: `shop.proxies` has evaluated the proxies' headers.
    "NUM_PROXIES": 0,
    # API_RATE_USER, API_RATE_ANONYMOUS: requests per user, and per address; each web process counts
    # for itself. API_RATE_WRONG_TOKENS: wrong tokens of an address, after which each further one is
    # answered 429; counted in the database.
    "DEFAULT_THROTTLE_RATES": {
        "user": env.str("API_RATE_USER", default="1200/min"),
        "anon": env.str("API_RATE_ANONYMOUS", default="120/min"),
        "wrong_tokens": env.str("API_RATE_WRONG_TOKENS", default="30/min"),
        # API_RATE_WEBHOOKS: requests of one user that may cause a look-up of a webhook's host.
        "webhook_lookups": env.str(
            "API_RATE_WEBHOOKS", default="20/min" if FOR_REAL else "1200/min"
        ),
    },
    "EXCEPTION_HANDLER": "shop.problems.handle",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    # No `?format=`: content negotiation by `Accept` is enough.
    "URL_FORMAT_OVERRIDE": None,
}

# The largest body of a request, in bytes; an order with all its lines is 10 kB.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
# The largest body that the web server accepts. Above the first limit the API answers a problem.
MOST_BODY_BYTES = 2 * DATA_UPLOAD_MAX_MEMORY_SIZE
# REQUEST_SECONDS: the time in which a client must send a whole request, and after which a
# response without progress is abandoned.
REQUEST_SECONDS = env.float("REQUEST_SECONDS", default=20.0)

SPECTACULAR_SETTINGS = {
    "TITLE": "Shop",
    "DESCRIPTION": (
        "Place orders, and follow their events. Press *Authorize* and paste a token. `make up` "
        "prints tokens, and `manage.py create_api_token` creates one. Then *Try it out* works: "
        "each `Idempotency-Key` is new, and the id of an order is filled in once an answer has it. "
        "Operations for staff need the token of a user with their permission."
    ),
    # Two enums would be named RefundStatusEnum.
    "ENUM_NAME_OVERRIDES": {"OrderRefundStatusEnum": "orders.queries.RefundStatus"},
    "OAS_VERSION": "3.1.0",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    # The page about the API asks for one thing. A browser that is signed in to the admin has it.
    "AUTHENTICATION_WHITELIST": ["api.tokens.TokenAuthentication"],
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "api.schema.add_problems",
        *(["webhooks.schema.add_headers"] if "webhooks" in INSTALLED_APPS else []),
    ],
    # Messages to customers' systems.
    "WEBHOOKS": "webhooks.schema.WEBHOOKS" if "webhooks" in INSTALLED_APPS else [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
