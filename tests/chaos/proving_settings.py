"""The shop's settings with the proving app, and short waits so that recovery can be watched."""

from shop.settings import *  # noqa: F403  the whole of them, by intention
from tests.chaos.proving import sabotage

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.proving"]  # noqa: F405
OUTBOX = {
    "TRANSPORTS": OUTBOX.get("TRANSPORTS", ()),  # noqa: F405
    "LEASE_SECONDS": 3600.0 if sabotage.is_chosen("endless_leases") else 4.0,
    # So little in flight that a slow machine, too, gets through it within a lease.
    "WINDOW": 20,
    "BACKOFF_BASE": 0.2,
    "BACKOFF_CAP": 2.0,
    "MAX_WORKER_CRASHES": 6,
}
EMAIL_BACKEND = "tests.chaos.proving.mail.Backend"
EMAIL_TIMEOUT = 1
CELERY_BEAT_SCHEDULE = {
    "outbox.relay": {"task": "outbox.relay", "schedule": 2.0},
    "orders.cancel_overdue": {
        "task": "orders.cancel_overdue",
        "schedule": 5.0,
        "options": {"queue": "orders", "expire_seconds": 5},
    },
}
