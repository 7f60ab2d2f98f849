"""With the outbox, as `docs/how-to/use-outbox-in-your-project.md` says."""

import json
import os

from benchmarks.project.base import *  # noqa: F403  all that the sides share

INSTALLED_APPS = ["outbox", *INSTALLED_APPS, "benchmarks.project.ours"]  # noqa: F405
BENCHMARK_PUBLISH = "benchmarks.project.ours.publishing.publish"

CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 6 * 3600,
    "socket_timeout": 5,
    "socket_connect_timeout": 3,
}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "outbox"

OUTBOX = json.loads(os.environ.get("OUTBOX", "{}"))
