"""The shop's settings with the app of the edges. EDGES has OUTBOX's sinks and sources."""

import json
import os

from shop.settings import *  # noqa: F403  the whole of them, by intention

INSTALLED_APPS = [
    app
    for app in INSTALLED_APPS  # noqa: F405
    if app not in {"orders", "inventory", "payments", "notifications", "webhooks", "storefront"}
] + ["tests.chaos.edges.harbour"]
ROOT_URLCONF = "tests.chaos.edges.urls"
OUTBOX = {
    "SOURCE": "/harbour",
    "LEASE_SECONDS": 4.0,
    "WINDOW": 40,
    "BACKOFF_BASE": 0.2,
    "BACKOFF_CAP": 2.0,
    # A worker that is killed while a system is frozen had all its deliveries in hand.
    "MAX_WORKER_CRASHES": 50,
    "HEARTBEAT_SECONDS": 2.0,
    **json.loads(
        os.environ.get("EDGES", "{}").replace("{member}", os.environ.get("EDGES_MEMBER", ""))
    ),
}
CELERY_BEAT_SCHEDULE = {}
