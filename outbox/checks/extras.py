"""Check of the optional packages that settings need. The message:

E026 a setting needs a package that is not installed
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from django.conf import settings
from django.core.checks import CheckMessage, Error

#: Setting, the module that it needs, and the package to install.
_NEEDED = (
    ("METRICS_TOKEN", "prometheus_client", "prometheus-client"),
    ("TRACING", "opentelemetry", "opentelemetry-sdk"),
)


def check_extras() -> Iterator[CheckMessage]:
    """Find settings whose package is missing, before the first request fails."""
    given = getattr(settings, "OUTBOX", {})
    for name, module, package in _NEEDED:
        if given.get(name) and find_spec(module) is None:
            yield Error(
                f'OUTBOX["{name}"] needs {package}, which is not installed.',
                hint=f"pip install {package}",
                obj="settings",
                id="outbox.E026",
            )
