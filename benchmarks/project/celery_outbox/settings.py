"""django-celery-outbox, as its documentation says, without statsd."""

import logging

import structlog

from benchmarks.project.base import *  # noqa: F403  all that the sides share

INSTALLED_APPS = [*INSTALLED_APPS, "django_celery_outbox", "benchmarks.project.celery_outbox"]  # noqa: F405
BENCHMARK_PUBLISH = "benchmarks.project.celery_outbox.publishing.publish"
CELERY_OUTBOX_APP = "benchmarks.project.celery_outbox.celery.app"
MONITORING_METRICS_ENABLED = False

# As the root logger: a line for each message would be measured along.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
