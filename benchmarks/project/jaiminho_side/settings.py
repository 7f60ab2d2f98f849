"""django-jaiminho, as its documentation says; keep-order is the mode that stores each event."""

from benchmarks.project.base import *  # noqa: F403  all that the sides share

INSTALLED_APPS = [*INSTALLED_APPS, "jaiminho", "benchmarks.project.jaiminho_side"]  # noqa: F405
BENCHMARK_PUBLISH = "benchmarks.project.jaiminho_side.publishing.publish"
JAIMINHO_CONFIG = {"PUBLISH_STRATEGY": "keep-order", "DELETE_AFTER_SEND": True}
