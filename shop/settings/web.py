"""The site: keys, hosts, languages, static files, security and sessions."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from .environment import FOR_REAL, LOCAL_DIR, env, local_secret_key

# SECRET_KEY: at least 50 random characters; a development copy generates its own.
SECRET_KEY = env.str("SECRET_KEY", default="")
if not SECRET_KEY and FOR_REAL:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Give it at least 50 random characters, for example from: "
        "python -c 'import secrets; print(secrets.token_urlsafe(64))'"
    )
SECRET_KEY = SECRET_KEY or local_secret_key()
# SECRET_KEY_FALLBACKS: former keys, separated by commas, which still verify and decrypt.
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])

# ALLOWED_HOSTS: the host names of this site, separated by commas.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

# SITE_ORIGIN: scheme and host with which links in e-mails begin, such as https://shop.example.com.
SITE_ORIGIN = env.str("SITE_ORIGIN", default="")
SITE_ORIGIN = SITE_ORIGIN.rstrip("/")


def _is_origin(text: str) -> bool:
    try:
        has_host = bool(urlsplit(text).hostname) and urlsplit(text).port != 0
    except ValueError:  # an unclosed bracket, or a port that is no number
        return False
    return has_host and bool(re.fullmatch(r"https?://[^\s/?#@]+", text))


if SITE_ORIGIN and not _is_origin(SITE_ORIGIN):
    raise ImproperlyConfigured(
        f"SITE_ORIGIN is {SITE_ORIGIN!r}. Give a scheme and a host, such as "
        "https://shop.example.com, without a path."
    )

# CSRF_TRUSTED_ORIGINS: origins with scheme, needed if a proxy changes the host name.
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
CSRF_FAILURE_VIEW = "shop.error_handlers.csrf_failure"

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"

# LANGUAGE_CODE: en or ja, for commands and e-mails of the site, and for visitors whose browser asks
# for neither.
LANGUAGE_CODE = env.str("LANGUAGE_CODE", default="en")
LANGUAGES = [("en", _("English")), ("ja", _("Japanese"))]
# Who has chosen a language on a page keeps it for a year, whatever the browser asks for.
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
# STATIC_ROOT: the folder of collectstatic, from which WhiteNoise serves.
STATIC_ROOT = env.str("STATIC_ROOT", default=str(LOCAL_DIR / "static"))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if FOR_REAL
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not FOR_REAL
WHITENOISE_AUTOREFRESH = not FOR_REAL

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
# The link to a new password in an e-mail of the storefront is valid for an hour.
PASSWORD_RESET_TIMEOUT = 3600

# After so many wrong passwords an address is locked out, even with the right password. The
# database counts for all web processes.
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AXES_LOCKOUT_PARAMETERS = ["ip_address"]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_CLIENT_IP_CALLABLE = "api.addresses.counted_address"
AXES_LOCKOUT_TEMPLATE = "shop/locked_out.html"
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

# SESSION_HOURS, SESSION_IDLE_MINUTES: how long a user stays signed in to admin or storefront, at
# most, and without a request.
SESSION_HOURS = env.float("SESSION_HOURS", default=12.0)
SESSION_IDLE_MINUTES = env.float("SESSION_IDLE_MINUTES", default=60.0)
SESSION_COOKIE_AGE = int(SESSION_HOURS * 3600)
# Messages of the next page in a cookie only: Django's default stores a session row for many.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"

# Every script, style and picture is a file of ours; none is inline.
SECURE_CSP = {  # of Django, from 6.0 on
    "default-src": ["'self'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
    "object-src": ["'none'"],
}
CONTENT_SECURITY_POLICY = {"DIRECTIVES": SECURE_CSP}  # of django-csp

# HTTPS: false only if a proxy in front already enforces it.
_https = env.bool("HTTPS", default=FOR_REAL)
SECURE_SSL_REDIRECT = _https
SESSION_COOKIE_SECURE = _https
CSRF_COOKIE_SECURE = _https
LANGUAGE_COOKIE_SECURE = _https
# HSTS_SECONDS: how long a browser remembers to use HTTPS; 0 turns it off.
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=30 * 24 * 3600) if _https else 0
# BEHIND_PROXY: true if proxies set X-Forwarded-For and X-Forwarded-Proto.
BEHIND_PROXY = env.bool("BEHIND_PROXY", default=False)
# TRUSTED_PROXIES: the proxies' addresses or networks, separated by commas; `unix` for peers on a
# Unix domain socket. The headers of all others are dropped.
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=[])
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
# Both apply to a whole domain with all its other sites, so they are no defaults of a shop.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
