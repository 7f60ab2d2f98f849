"""Orders of one customer: all events have one key, and one row is changed for each."""

from benchmarks.project.ours.settings import *  # noqa: F403  all that ours has

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.project.hot"]  # noqa: F405
BENCHMARK_PUBLISH = "benchmarks.project.hot.publishing.publish"
