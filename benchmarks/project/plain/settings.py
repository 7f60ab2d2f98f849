"""Celery without an outbox, by its own defaults."""

from benchmarks.project.base import *  # noqa: F403  all that the sides share

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.project.plain"]  # noqa: F405
BENCHMARK_PUBLISH = "benchmarks.project.plain.publishing.publish"
