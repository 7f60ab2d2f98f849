"""All settings of the shop, read from the environment; each variable is explained where it is read.

Three sources, the first that knows a variable wins: the environment, the file `.local/run.json`
that a running `manage.py up` leaves (so that a second terminal finds the same database and
broker), the default written here. Whoever sets ALLOWED_HOSTS, or DEBUG to false, runs for real:
then the run file is ignored, SECRET_KEY is required, and cookies and redirects insist on HTTPS.
"""

from __future__ import annotations

import json
import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _
from pythonjsonlogger.core import RESERVED_ATTRS

BASE_DIR = Path(__file__).resolve().parent.parent

# SHOP_LOCAL_DIR: where a development copy keeps its database, e-mails, keys and run file.
LOCAL_DIR = Path(os.environ.get("SHOP_LOCAL_DIR") or BASE_DIR / ".local")

FOR_REAL = bool(
    os.environ.get("ALLOWED_HOSTS")
    or os.environ.get("DEBUG", "").strip().lower() in {"0", "false", "no", "off"}
)


def _run_file() -> dict[str, str]:
    """Return what a running `manage.py up` tells, or nothing."""
    try:
        told = json.loads((LOCAL_DIR / "run.json").read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {name: str(value) for name, value in told.items() if name.isupper()}


def _local_secret_key() -> str:
    """Return this copy's own key, made on first use, so that a clone works without settings."""
    path = LOCAL_DIR / "secret_key"
    LOCAL_DIR.mkdir(parents=True, exist_ok=True)
    try:
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(64))
    except FileExistsError:
        pass
    # Another process may have created the file and not yet written it: take our own key then.
    return path.read_text() or secrets.token_urlsafe(64)


class _Environment(environ.Env):  # type: ignore[misc]  # django-environ is untyped
    ENVIRON = dict(os.environ) if FOR_REAL else {**_run_file(), **os.environ}


env = _Environment(interpolate=False)

# --- Who and where ---------------------------------------------------------------------------

# DEBUG: off unless set, or unless `manage.py up` is running here.
DEBUG = env.bool("DEBUG", default=False)

# SECRET_KEY: at least 50 random characters; a development copy makes its own.
SECRET_KEY = env.str("SECRET_KEY", default="")
if not SECRET_KEY and FOR_REAL:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Give it at least 50 random characters, for example from: "
        "python -c 'import secrets; print(secrets.token_urlsafe(64))'"
    )
SECRET_KEY = SECRET_KEY or _local_secret_key()

# ALLOWED_HOSTS: the host names that this site answers to, separated by commas.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

# CSRF_TRUSTED_ORIGINS: origins with scheme, where a proxy changes the host name.
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"

INSTALLED_APPS = [
    "outbox",
    "orders",
    "inventory",
    "payments",
    "notifications",
    "webhooks",
    "api",
    "django_celery_beat",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "shop",
]

MIDDLEWARE = [
    # First, so that a probe needs no host name, no HTTPS and no session.
    "shop.health.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "shop.middleware.NoStoreMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "outbox.context.RequestContextMiddleware",
    "shop.middleware.LengthMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Last, as it asks to be: it answers a login from an address that has guessed too often.
    "axes.middleware.AxesMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # First of all, so that the project may put a template before that of any app.
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

# --- Database --------------------------------------------------------------------------------

# DATABASE_URL: postgres://user:password@host:5432/name in production; SQLite by default.
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{LOCAL_DIR / 'db.sqlite3'}")
}
_database = DATABASES["default"]
_options = _database.setdefault("OPTIONS", {})
if _database["ENGINE"] == "django.db.backends.sqlite3":
    LOCAL_DIR.mkdir(parents=True, exist_ok=True)
    # IMMEDIATE takes the write lock at BEGIN, where SQLite waits for it; a deferred transaction
    # that turns into a writer fails at once. FULL: a commit survives a power cut.
    _options.setdefault("transaction_mode", "IMMEDIATE")
    _options.setdefault("timeout", 30)
    _options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    # A file, as in life: tests with threads and processes need more than one connection.
    _database["TEST"] = {"NAME": str(LOCAL_DIR / "test.sqlite3")}
else:
    # DATABASE_MAX_AGE: seconds that a web process keeps its connection.
    _database["CONN_MAX_AGE"] = env.int("DATABASE_MAX_AGE", default=60)
    _database["CONN_HEALTH_CHECKS"] = True
    _options.setdefault("connect_timeout", 5)
    # BEHIND_PGBOUNCER: its transaction mode lends a connection for one transaction; a cursor that
    # is read beyond that would be gone. Prepared statements are off already, and no lock is held
    # for longer.
    _database["DISABLE_SERVER_SIDE_CURSORS"] = env.bool("BEHIND_PGBOUNCER", default=False)

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Broker and Celery -----------------------------------------------------------------------

# REDIS_URL: redis://:password@host:6379/0 (or rediss://). AMQP_URL: RabbitMQ instead of it.
REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
AMQP_URL = env.str("AMQP_URL", default="")

CELERY_BROKER_URL = AMQP_URL or REDIS_URL
CELERY_BROKER_CONNECTION_TIMEOUT = 3
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker however long
# A publish to a frozen broker must fail instead of hang: the relay sends it again anyway.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}
    if AMQP_URL
    else {
        # Longer than the longest task (the hard limit below), else Redis hands it out twice.
        "visibility_timeout": int(timedelta(hours=6).total_seconds()),
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
    }
)
# Quorum queues survive the loss of a node, and RabbitMQ means them to replace the classic ones.
CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum" if AMQP_URL else "classic"
CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = CELERY_TASK_DEFAULT_QUEUE_TYPE
# Tasks keep their database connection; the outbox drops what is too old or dead before each task.
CELERY_DB_REUSE_MAX = 1_000_000
CELERY_TASK_TIME_LIMIT = int(timedelta(hours=5).total_seconds())

# A message is dropped from the broker only after its work is done. Not reject_on_worker_lost:
# that runs a task which kills its worker again at once, for ever; leases do it with patience.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
# WORKER_GRACE: seconds that a stopping worker gives its tasks; stop_timeouts must be longer.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = env.float("WORKER_GRACE", default=20.0)
CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE = False
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 30
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TASK_SEND_SENT_EVENT = False

CELERY_TASK_DEFAULT_QUEUE = "outbox"
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TIMEZONE = "UTC"

CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "outbox.relay": {"task": "outbox.relay", "schedule": 10.0},
    # Does nothing unless OUTBOX has a RETENTION.
    "outbox.prune": {
        "task": "outbox.prune",
        "schedule": 300.0,
        "options": {"expire_seconds": 300},
    },
    "orders.cancel_overdue": {
        "task": "orders.cancel_overdue",
        "schedule": 60.0,
        # A sweep that had to wait is made up for by the next one.
        "options": {"queue": "orders", "expire_seconds": 60},
    },
    "shop.reconcile": {
        "task": "shop.reconcile",
        "schedule": 3600.0,
        "options": {"queue": "orders", "expire_seconds": 3600},
    },
    "api.forget_old_answers": {"task": "api.forget_old_answers", "schedule": 3600.0},
    "webhooks.forget": {
        "task": "webhooks.forget",
        "schedule": 3600.0,
        "options": {"queue": "webhooks", "expire_seconds": 3600},
    },
}
# An app that is taken out takes what it does by the clock along.
CELERY_BEAT_SCHEDULE = {
    name: entry
    for name, entry in CELERY_BEAT_SCHEDULE.items()
    if name.partition(".")[0] in INSTALLED_APPS
}

# --- The outbox and the shop -----------------------------------------------------------------

# OUTBOX: its settings as a JSON object, such as {"LEASE_SECONDS": 30}.
OUTBOX: dict[str, Any] = env.json("OUTBOX", default={})
# OTEL_EXPORTER_OTLP_ENDPOINT: where traces go, by OpenTelemetry; without one nothing is traced.
OTEL_EXPORTER_OTLP_ENDPOINT = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", default="")
if OTEL_EXPORTER_OTLP_ENDPOINT:
    OUTBOX["TRACING"] = True
# TRACE_URL: where a trace is shown, with {trace_id} in it; the admin links to it.
if _url := env.str("TRACE_URL", default=""):
    OUTBOX["TRACE_URL"] = _url
# METRICS_TOKEN: what a scraper of /metrics brings; without one nothing answers there.
if _token := env.str("METRICS_TOKEN", default=""):
    OUTBOX["METRICS_TOKEN"] = _token

# SHOP_CURRENCY: the one currency of all prices (ISO 4217).
SHOP_CURRENCY = env.str("SHOP_CURRENCY", default="JPY")

# How long an order waits before it is cancelled; 0 or left out: without an end. DEADLINE_STOCK,
# DEADLINE_PAYMENT, DEADLINE_CAPTURE, DEADLINE_SHIPPING: minutes.
SHOP_DEADLINES = {
    "stock": timedelta(minutes=env.float("DEADLINE_STOCK", default=60)),
    "payment": timedelta(minutes=env.float("DEADLINE_PAYMENT", default=60)),
    "capture": timedelta(minutes=env.float("DEADLINE_CAPTURE", default=1440)),
    "shipping": timedelta(minutes=env.float("DEADLINE_SHIPPING", default=0)),
}
# GATEWAY: "bank" (BANK_URL) or "stripe" (STRIPE_API_KEY; it needs the extra of that name).
GATEWAY = env.str("GATEWAY", default="bank")
# STRIPE_API_KEY, STRIPE_API_URL: a secret key; another address for tests only.
STRIPE_API_KEY = env.str("STRIPE_API_KEY", default="")
STRIPE_API_URL = env.str("STRIPE_API_URL", default="https://api.stripe.com")

# BANK_URL, BANK_API_KEY: the payment gateway; in development the simulator that `up` starts.
BANK_URL = env.str("BANK_URL", default="http://127.0.0.1:8090")
BANK_API_KEY = env.str("BANK_API_KEY", default="")
# BANK_TIMEOUT_SECONDS: how long one request to the bank may wait to connect, and for its answer.
BANK_TIMEOUT_SECONDS = env.float("BANK_TIMEOUT_SECONDS", default=10.0)
# BANK_PROCESSING_SECONDS: how long the bank may work on a request that we gave up waiting for.
BANK_PROCESSING_SECONDS = env.float("BANK_PROCESSING_SECONDS", default=60.0)
# BANK_WEBHOOK_SECRETS: what the bank signs its webhooks with; several while a secret changes.
BANK_WEBHOOK_SECRETS = env.list("BANK_WEBHOOK_SECRETS", default=[])

# WEBHOOK_TIMEOUT_SECONDS: how long a customer's receiver may take for one webhook.
WEBHOOK_TIMEOUT_SECONDS = env.float("WEBHOOK_TIMEOUT_SECONDS", default=10.0)
# WEBHOOK_PRIVATE_HOSTS: private hosts that customers may have us call, by http, too.
WEBHOOK_PRIVATE_HOSTS = env.list(
    "WEBHOOK_PRIVATE_HOSTS", default=["localhost", "127.0.0.1"] if DEBUG else []
)

# --- E-mail ----------------------------------------------------------------------------------

# EMAIL_URL: smtp+tls://user:password@host:587; in development each e-mail is a file.
_email = env.email_url("EMAIL_URL", default=f"filemail:///{LOCAL_DIR / 'mail'}")
EMAIL_BACKEND = _email["EMAIL_BACKEND"]
EMAIL_HOST = _email.get("EMAIL_HOST") or "localhost"
EMAIL_PORT = _email.get("EMAIL_PORT") or 25
EMAIL_HOST_USER = _email.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD = _email.get("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS = bool(_email.get("EMAIL_USE_TLS"))
EMAIL_USE_SSL = bool(_email.get("EMAIL_USE_SSL"))
EMAIL_FILE_PATH = "/" + str(_email.get("EMAIL_FILE_PATH") or "").lstrip("/")
# EMAIL_TIMEOUT_SECONDS: how long each step of talking to the mail server may take.
EMAIL_TIMEOUT = env.float("EMAIL_TIMEOUT_SECONDS", default=10.0)
# EMAIL_FROM: the sender of every e-mail, with or without a name.
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="The shop <shop@example.com>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# --- API -------------------------------------------------------------------------------------

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
        "rest_framework.throttling.UserRateThrottle",
        "rest_framework.throttling.AnonRateThrottle",
    ],
    # API_RATE_USER, API_RATE_ANONYMOUS: requests per user, and per address. API_RATE_WRONG_TOKENS:
    # of an address, until it waits, with a right token, too. Each web process counts for itself.
    "DEFAULT_THROTTLE_RATES": {
        "user": env.str("API_RATE_USER", default="1200/min"),
        "anon": env.str("API_RATE_ANONYMOUS", default="120/min"),
        "wrong_tokens": env.str("API_RATE_WRONG_TOKENS", default="30/min"),
    },
    "EXCEPTION_HANDLER": "shop.problems.handle",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    # Nobody asks for a representation by `?format=`, and one way is enough.
    "URL_FORMAT_OVERRIDE": None,
}

# The largest body of a request that is held in memory; an order with all its lines is 10 kB.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

SPECTACULAR_SETTINGS = {
    "TITLE": "Shop",
    "DESCRIPTION": "Place orders and watch what follows from them.",
    "OAS_VERSION": "3.1.0",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "api.schema.add_problems",
        *(["webhooks.schema.add_headers"] if "webhooks" in INSTALLED_APPS else []),
    ],
    # What we send to customers' systems.
    "WEBHOOKS": "webhooks.schema.WEBHOOKS" if "webhooks" in INSTALLED_APPS else [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# --- Languages and time ----------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("ja", _("Japanese"))]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# --- Static files ----------------------------------------------------------------------------

STATIC_URL = "/static/"
# STATIC_ROOT: where collectstatic puts its files and WhiteNoise finds them.
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

# --- Security --------------------------------------------------------------------------------

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

# So many wrong passwords from one address, and it waits; counted in the database, for all web
# processes together. The right password is refused meanwhile, too.
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AXES_LOCKOUT_PARAMETERS = ["ip_address"]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_CLIENT_IP_CALLABLE = "api.guessing.address_of"
AXES_LOCKOUT_TEMPLATE = "shop/locked_out.html"
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

# No page needs a script, a style or a picture that is not a file of ours; none stands inline.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
    }
}

# HTTPS: off only where something in front of us already insists on it.
_https = env.bool("HTTPS", default=FOR_REAL)
SECURE_SSL_REDIRECT = _https
SESSION_COOKIE_SECURE = _https
CSRF_COOKIE_SECURE = _https
# HSTS_SECONDS: how long a browser remembers to use HTTPS; 0 turns it off.
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=30 * 24 * 3600) if _https else 0
# BEHIND_PROXY: true if a proxy sets (and strips from outside) X-Forwarded-Proto.
BEHIND_PROXY = env.bool("BEHIND_PROXY", default=False)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Whose requests an anonymous visitor's are: the proxy's last word counts, and nobody else's.
REST_FRAMEWORK["NUM_PROXIES"] = 1 if BEHIND_PROXY else 0
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
# Both speak for a whole domain with all its other sites, which a shop's default must not do.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# --- Logging ---------------------------------------------------------------------------------

# LOG_LEVEL: DEBUG, INFO, WARNING or ERROR. LOG_FORMAT: "json", an object a line, or "plain".
LOG_FORMAT = env.str("LOG_FORMAT", default="json" if FOR_REAL else "plain")
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"correlation": {"()": "outbox.context.CorrelationFilter"}},
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(levelname)s %(name)s %(message)s",
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": "time",
            # An object that only Django can use; its text would bring the whole query string.
            "reserved_attrs": [*RESERVED_ATTRS, "request"],
        },
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["correlation"],
            "formatter": LOG_FORMAT,
        }
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        # Django prints its own copy of each line otherwise.
        "django": {"handlers": [], "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        # A line for each request to the bank: our own say what came of it.
        "httpx": {"level": "WARNING"},
    },
}
if LOG_FORMAT == "json":
    # Gunicorn's own lines, too; as plain text it formats them by its options.
    LOGGING["filters"]["access"] = {"()": "shop.logs.AccessFilter"}
    LOGGING["loggers"] |= {
        "gunicorn.error": {"handlers": [], "propagate": True},
        "gunicorn.access": {"handlers": [], "propagate": True, "filters": ["access"]},
    }
