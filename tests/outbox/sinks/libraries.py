"""A process in which a client library is not installed."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys

sys.modules[sys.argv[1]] = None  # as if it were not installed
import django

django.setup()
from django.utils.module_loading import import_string

try:
    import_string(sys.argv[2])("audit", {})
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def error_without(library: str, backend: str) -> str:
    """Return the error of creating a sink in a process without a library."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, library, backend],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
