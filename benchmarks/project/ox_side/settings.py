"""django-ox, as its documentation says: tasks are rows, and workers poll for them."""

from benchmarks.project.base import *  # noqa: F403  all that the sides share

INSTALLED_APPS = [*INSTALLED_APPS, "django_ox", "benchmarks.project.ox_side"]  # noqa: F405
TASKS = {"default": {"BACKEND": "django_ox.backend.OxBackend"}}
BENCHMARK_PUBLISH = "benchmarks.project.ox_side.publishing.publish"
