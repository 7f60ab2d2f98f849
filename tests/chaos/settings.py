"""The shop's settings with the proving ground, and short leases so that recovery can be watched."""

import os

from outbox.transports import celery_worker
from shop.settings import *  # noqa: F403  the whole of them, by intention

INSTALLED_APPS = [
    app
    for app in INSTALLED_APPS  # noqa: F405
    if app not in {"orders", "inventory", "payments", "notifications", "webhooks", "storefront"}
] + ["tests.chaos.ground"]
ROOT_URLCONF = "tests.chaos.urls"
OUTBOX = {
    "LEASE_SECONDS": float(os.environ.get("GROUND_LEASE", "2")),
    "MAX_WORKER_CRASHES": 3,
    **({"TRANSPORTS": ["local"]} if os.environ.get("TEST_BROKER") == "none" else {}),
    **({"TRANSPORTS": ["celery", "local"]} if os.environ.get("GROUND_HAS_BOTH") else {}),
}
if seconds := os.environ.get("GROUND_VISIBILITY"):  # Celery sends what a lost worker had reserved
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        **CELERY_BROKER_TRANSPORT_OPTIONS,  # noqa: F405
        "visibility_timeout": int(seconds),
    }
CELERY_BEAT_SCHEDULE = {"outbox.relay": {"task": "outbox.relay", "schedule": 1.0}}
celery_worker.ACKNOWLEDGE_AFTER_SECONDS = float(os.environ.get("GROUND_ACKNOWLEDGES_AFTER", "300"))
