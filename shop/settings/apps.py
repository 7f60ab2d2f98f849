"""Apps, middleware and templates. A new app is a line here."""

from __future__ import annotations

from shop.content_security import MIDDLEWARE as _csp_middleware

from .environment import BASE_DIR

INSTALLED_APPS = [
    "outbox",
    "orders",
    "inventory",
    "payments",
    "notifications",
    "webhooks",
    "storefront",
    "api",
    "django_celery_beat",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    # Django's admin, with a site that refuses lookups which no filter declares.
    "shop.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "shop",
]

MIDDLEWARE = [
    # First of all: everything below reads the client's address and the scheme.
    "shop.proxies.ProxyMiddleware",
    # Early, so that a probe needs no host name, no HTTPS and no session.
    "shop.health.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    _csp_middleware,
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "shop.middleware.NoStoreMiddleware",
    "shop.sessions.KeptCookieMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    # Before every query by a cookie, a header or a field.
    "shop.middleware.StorableTextMiddleware",
    "shop.sessions.SessionLimitMiddleware",
    # Before every page of the storefront, also those of refused requests.
    "storefront.baskets.BasketMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "outbox.context.RequestContextMiddleware",
    "shop.middleware.BodyMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Last, as its documentation requires: it answers a login from an address with too many guesses.
    "axes.middleware.AxesMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # First, so that a template of the project overrides that of any app.
        "DIRS": [BASE_DIR / "shop" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
