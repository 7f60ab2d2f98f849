"""`manage.py outbox` in a test."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError


def outbox_command(*arguments: str) -> str:
    """Run `manage.py outbox` in this process and return its output."""
    out = StringIO()
    call_command("outbox", *arguments, stdout=out)
    return out.getvalue()


def refused(*arguments: str) -> str:
    """Run it, assert that it fails, and return its output and its error."""
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("outbox", *arguments, stdout=out)
    return out.getvalue() + str(caught.value)
