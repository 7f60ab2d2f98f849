"""procrastinate, as its documentation says: jobs are rows, and workers wake by NOTIFY."""

from benchmarks.project.base import *  # noqa: F403  all that the sides share

INSTALLED_APPS = [
    *INSTALLED_APPS,  # noqa: F405
    "procrastinate.contrib.django",
    "benchmarks.project.procrastinate_side",
]
BENCHMARK_PUBLISH = "benchmarks.project.procrastinate_side.publishing.publish"
