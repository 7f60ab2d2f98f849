"""Checks of sinks whose entries are valid, without a connection. The messages:

E012 a header of an HTTP sink is invalid
"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from outbox.sinks.configuration import backend_of, configured
from outbox.sinks.http import HttpSink
from outbox.sinks.http_headers import wrong_headers


def check_sinks() -> Iterator[CheckMessage]:
    """Find headers of HTTP sinks that HTTP does not allow."""
    try:
        found = configured()
    except ImproperlyConfigured:  # the check of the settings reports it
        return
    for one in found.values():
        if issubclass(backend_of(one), HttpSink):
            for problem in wrong_headers(one.name, one.options):
                yield Error(problem, obj="settings", id="outbox.E012")
