"""django-domain-events, as its documentation says, tuned to wake at once."""

from benchmarks.project.base import *  # noqa: F403  all that the sides share

INSTALLED_APPS = [*INSTALLED_APPS, "django_domain_events", "benchmarks.project.domain_events"]  # noqa: F405
BENCHMARK_PUBLISH = "benchmarks.project.domain_events.publishing.publish"
DJANGO_DOMAIN_EVENTS = {
    "CODEC": "django_domain_events.codecs.dacite_codec.DaciteCodec",
    "NOTIFY_COALESCE_SECONDS": 0,
}
