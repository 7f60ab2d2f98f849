"""The broker, Celery's treatment of the shop's tasks, and periodic tasks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from outbox.lost_hosts import rabbitmq_options, redis_options
from outbox.transports.sqs import transport_options

from .apps import INSTALLED_APPS
from .environment import env, readable


def _of_each_sentinel(url: str) -> str:
    """Return `sentinel://:password@one:26379,two:26379/0` as Celery reads it.

    Celery takes the credentials of the URL that it tries, so each one has them.
    """
    if not url.startswith("sentinel://") or ";" in url:
        return url
    place, _slash, database = url.removeprefix("sentinel://").partition("/")
    login, at, hosts = place.rpartition("@")
    return ";".join(f"sentinel://{login}{at}{host}/{database}" for host in hosts.split(","))


def _verified(url: str) -> str:
    """Return a URL of Redis with which Celery verifies the certificate of `rediss://`.

    Without an option in the URL it accepts any certificate.
    """
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def _nodes(url: str) -> Sequence[str]:
    """Return the URLs of the nodes of RabbitMQ.

    Raises:
        ImproperlyConfigured: commas separate them. Celery would read them as a virtual host, and
            write it to the log with the passwords.
    """
    nodes = url.split(";")
    if re.search(r",\s*(py)?amqps?://", url) or any("," in _hosts(one) for one in nodes):
        raise ImproperlyConfigured(
            "AMQP_URL has commas between nodes of RabbitMQ. Separate whole URLs by semicolons: "
            "amqp://user:password@one:5672//;amqp://user:password@two:5672//."
        )
    return nodes


def _hosts(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


# REDIS_URL: redis://:password@host:6379/0 (or rediss://). With Sentinel, all Sentinels:
# sentinel://:password@one:26379,two:26379,three:26379/0, with the password of Redis.
REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
# REDIS_MASTER_NAME: the name of the primary that Sentinel watches.
REDIS_MASTER_NAME = env.str("REDIS_MASTER_NAME", default="")
# SENTINEL_PASSWORD: the password of the Sentinels themselves, if they require one.
SENTINEL_PASSWORD = env.token("SENTINEL_PASSWORD", default="")
if REDIS_URL.startswith("sentinel://") and not REDIS_MASTER_NAME:
    raise ImproperlyConfigured(
        "REDIS_URL names Sentinels, and REDIS_MASTER_NAME is not set. Set it to the name in "
        '"sentinel monitor NAME ...".'
    )
# AMQP_URL: RabbitMQ instead of Redis. Several nodes are separated by semicolons.
AMQP_URL = env.str("AMQP_URL", default="")
# SQS_URL: Amazon SQS instead of both: sqs:// with the role or AWS_... variables of the process, or
# sqs://key:secret@host:port for another endpoint (percent-encode the secret).
SQS_URL = env.str("SQS_URL", default="")
# SQS_REGION: the queues' region. SQS_QUEUE_URL: the URL of each queue, with {queue} for its name.
SQS_REGION = env.str("SQS_REGION", default="")
SQS_QUEUE_URL = env.str("SQS_QUEUE_URL", default="")
# SQS_QUEUES: all queues of this installation; `check --deploy` names a missing one.
SQS_QUEUES = env.list(
    "SQS_QUEUES",
    default=[
        "outbox",
        "orders",
        "inventory",
        "payments",
        "payments.gateway",
        "notifications.smtp",
        "webhooks",
        "webhooks.http",
    ],
)
# SQS_VISIBILITY_SECONDS: the queues' visibility timeout, six hours, as for Redis below.
SQS_VISIBILITY_SECONDS = env.int("SQS_VISIBILITY_SECONDS", default=21600)

with readable("AMQP_URL" if AMQP_URL else "REDIS_URL"):
    _urls = (
        _nodes(AMQP_URL)
        if AMQP_URL
        else [_verified(one) for one in _of_each_sentinel(REDIS_URL).split(";")]
    )
    for _url in _urls:
        urlsplit(_url).port  # noqa: B018  it raises
CELERY_BROKER_URL = SQS_URL or ";".join(_urls)
CELERY_BROKER_CONNECTION_TIMEOUT = 3
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker without limit
# A publish to a frozen broker must fail instead of hang: the relay sends the message again.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any]
if SQS_URL:
    CELERY_BROKER_TRANSPORT_OPTIONS = transport_options(
        SQS_URL,
        region=SQS_REGION,
        queue_url=SQS_QUEUE_URL,
        queues=SQS_QUEUES,
        visibility_timeout=SQS_VISIBILITY_SECONDS,
    )
elif AMQP_URL:
    CELERY_BROKER_TRANSPORT_OPTIONS = rabbitmq_options(nodes=len(_urls))
else:
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        # Longer than the longest task (the hard limit below), otherwise Redis delivers it twice.
        "visibility_timeout": int(timedelta(hours=6).total_seconds()),
        **redis_options(master_name=REDIS_MASTER_NAME, sentinel_password=SENTINEL_PASSWORD),
    }
# Quorum queues survive the loss of a node, and replace RabbitMQ's classic queues.
CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum" if AMQP_URL and not SQS_URL else "classic"
CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = CELERY_TASK_DEFAULT_QUEUE_TYPE
CELERY_TASK_TIME_LIMIT = int(timedelta(hours=5).total_seconds())

# The broker drops a message only after its work is done. Not reject_on_worker_lost: it would
# repeat a task that kills its worker at once, for ever. Leases repeat it with a delay.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
# WORKER_GRACE: `make up` kills a worker so many seconds, and 10 more, after its SIGTERM. Celery's
# soft shutdown (SIGQUIT) cancels running tasks after it. SIGTERM waits for them without a limit.
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
# Beat stores at once what it has started, so that the monitor can show what is late.
CELERY_BEAT_SYNC_EVERY = 1
# The outbox adds its own entries.
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "orders.cancel_overdue": {
        "task": "orders.cancel_overdue",
        "schedule": 60.0,
        # The next sweep makes up for one that had to wait.
        "options": {"queue": "orders", "expire_seconds": 60},
    },
    "shop.reconcile": {
        "task": "shop.reconcile",
        "schedule": 3600.0,
        # Its workers reach the bank, with which the tables are compared.
        "options": {"queue": "payments.gateway", "expire_seconds": 3600},
    },
    "api.delete_old_rows": {"task": "api.delete_old_rows", "schedule": 3600.0},
    "shop.delete_old_sessions": {
        "task": "shop.delete_old_sessions",
        "schedule": 3600.0,
        "options": {"queue": "orders", "expire_seconds": 3600},
    },
    "webhooks.delete_old_rows": {
        "task": "webhooks.delete_old_rows",
        "schedule": 3600.0,
        "options": {"queue": "webhooks", "expire_seconds": 3600},
    },
}
# The periodic tasks of an app that is not installed are left out.
CELERY_BEAT_SCHEDULE = {
    name: entry
    for name, entry in CELERY_BEAT_SCHEDULE.items()
    if name.partition(".")[0] in INSTALLED_APPS
}
