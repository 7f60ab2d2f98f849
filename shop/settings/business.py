"""The outbox, and the business settings: currency, deadlines, bank, webhooks, e-mail."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from .environment import DEBUG, FOR_REAL, LOCAL_DIR, env, readable


def _outbox() -> dict[str, Any]:
    """Return OUTBOX of the environment. An error quotes no value: it may be a password."""
    try:
        given = env.json("OUTBOX", default={})
    except json.JSONDecodeError as error:
        raise ImproperlyConfigured(f"OUTBOX is not valid JSON: {error}.") from None
    if not isinstance(given, dict):
        raise ImproperlyConfigured('OUTBOX is no JSON object, such as {"LEASE_SECONDS": 30}.')
    return given


# OUTBOX: its settings as a JSON object, such as {"LEASE_SECONDS": 30}.
OUTBOX: dict[str, Any] = {
    "ASYNCAPI_TITLE": "Shop",
    "GUARD_TASKS": True,
    "LOOKUPS": {"orders.queries.find_orders": _("order id, reference or e-mail address")},
    **_outbox(),
}
# OTEL_EXPORTER_OTLP_ENDPOINT: the OpenTelemetry collector for traces; without it, no tracing.
OTEL_EXPORTER_OTLP_ENDPOINT = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", default="")
if OTEL_EXPORTER_OTLP_ENDPOINT:
    OUTBOX["TRACING"] = True
# TRACE_URL: the page of a trace, with {trace_id} in it; the admin links to it.
if _url := env.str("TRACE_URL", default=""):
    OUTBOX["TRACE_URL"] = _url
# METRICS_TOKEN: the token of scrapers of /metrics; without one, /metrics is off.
if _token := env.token("METRICS_TOKEN", default=""):
    OUTBOX["METRICS_TOKEN"] = _token

# SHOP_CURRENCY: currency of the demo products (ISO 4217). Other products have that of their price.
SHOP_CURRENCY = env.str("SHOP_CURRENCY", default="JPY")

# How long an order waits before it is cancelled; 0 or unset: without limit. DEADLINE_STOCK,
# DEADLINE_PAYMENT, DEADLINE_CAPTURE, DEADLINE_SHIPPING: minutes.
SHOP_DEADLINES = {
    "stock": timedelta(minutes=env.float("DEADLINE_STOCK", default=60)),
    "payment": timedelta(minutes=env.float("DEADLINE_PAYMENT", default=60)),
    "capture": timedelta(minutes=env.float("DEADLINE_CAPTURE", default=1440)),
    "shipping": timedelta(minutes=env.float("DEADLINE_SHIPPING", default=0)),
}
# GATEWAY: "bank" (BANK_URL) or "stripe" (STRIPE_API_KEY; it needs the extra of that name).
GATEWAY = env.str("GATEWAY", default="bank")
# STRIPE_API_KEY, STRIPE_API_URL: a secret key; another address, for tests only.
STRIPE_API_KEY = env.token("STRIPE_API_KEY", default="")
STRIPE_API_URL = env.str("STRIPE_API_URL", default="https://api.stripe.com")

# BANK_URL, BANK_API_KEY: the payment gateway; in development, the simulator that `up` starts.
BANK_URL = env.str("BANK_URL", default="http://127.0.0.1:8090")
BANK_API_KEY = env.token("BANK_API_KEY", default="")
# BANK_TIMEOUT_SECONDS: time limit of one request to the bank to connect, and again to answer.
BANK_TIMEOUT_SECONDS = env.float("BANK_TIMEOUT_SECONDS", default=10.0)
# BANK_PROCESSING_SECONDS: how long the bank may work on a request after our time-out.
BANK_PROCESSING_SECONDS = env.float("BANK_PROCESSING_SECONDS", default=60.0)
# BANK_WEBHOOK_SECRETS: secrets of the bank's signatures; several while a secret changes.
BANK_WEBHOOK_SECRETS = env.list("BANK_WEBHOOK_SECRETS", default=[])

# WEBHOOK_TIMEOUT_SECONDS: time limit of one webhook to a customer's receiver.
WEBHOOK_TIMEOUT_SECONDS = env.float("WEBHOOK_TIMEOUT_SECONDS", default=10.0)
# WEBHOOK_PRIVATE_HOSTS: private hosts that are allowed in customers' webhooks, also by http.
WEBHOOK_PRIVATE_HOSTS = env.list(
    "WEBHOOK_PRIVATE_HOSTS", default=["localhost", "127.0.0.1"] if DEBUG else []
)

# EMAIL_URL: smtp+tls://user:password@host:587; in development each e-mail is a file.
with readable("EMAIL_URL"):
    _email = env.email_url("EMAIL_URL", default=f"filemail:///{LOCAL_DIR / 'mail'}")
EMAIL_BACKEND = _email["EMAIL_BACKEND"]
EMAIL_HOST = _email.get("EMAIL_HOST") or "localhost"
EMAIL_PORT = _email.get("EMAIL_PORT") or 25
EMAIL_HOST_USER = _email.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD = _email.get("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS = bool(_email.get("EMAIL_USE_TLS"))
EMAIL_USE_SSL = bool(_email.get("EMAIL_USE_SSL"))
EMAIL_FILE_PATH = "/" + str(_email.get("EMAIL_FILE_PATH") or "").lstrip("/")
# EMAIL_TIMEOUT_SECONDS: time limit of each step of a session with the mail server.
EMAIL_TIMEOUT = env.float("EMAIL_TIMEOUT_SECONDS", default=10.0)
# EMAIL_FROM: the sender of every e-mail, with or without a name.
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="The shop <shop@example.com>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL
# EMAIL_LIMIT: maximum e-mails to one recipient within EMAIL_LIMIT_HOURS; 0: no limit.
EMAIL_LIMIT = env.int("EMAIL_LIMIT", default=50 if FOR_REAL else 0)
# EMAIL_LIMIT_ESSENTIAL: the same for cancellations and refunds, which are counted separately.
EMAIL_LIMIT_ESSENTIAL = env.int("EMAIL_LIMIT_ESSENTIAL", default=200 if FOR_REAL else 0)
# EMAIL_LIMIT_HOURS: the period in which they are counted.
EMAIL_LIMIT_SPAN = timedelta(hours=env.float("EMAIL_LIMIT_HOURS", default=24))
