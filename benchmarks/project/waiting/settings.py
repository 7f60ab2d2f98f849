"""One handler that waits for someone outside, and one that does not, on queues of their own."""

from benchmarks.project.ours.settings import *  # noqa: F403  all that ours has

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.project.waiting"]  # noqa: F405
BENCHMARK_PUBLISH = "benchmarks.project.waiting.publishing.publish"
