"""The confirmation of an action in the admin, sent as a browser sends it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any

from django.test import Client


def hidden_in(html: str) -> dict[str, list[str]]:
    """Return the hidden fields of a page, as a browser sends them."""
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', html):
        # A form is sent with CR LF for each line break.
        fields.setdefault(name, []).append(re.sub("\r\n?|\n", "\r\n", unescape(value)))
    return fields


def confirmation(client: Client, url: str, form: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields of the confirmation that a form leads to, as a browser sends them."""
    return dict(hidden_in(client.post(url, form).content.decode()))


def confirm(
    client: Client, url: str, form: Mapping[str, object], *, reason: str, **typed: str
) -> Any:
    """Send a form, then its confirmation with a reason; return the response that follows."""
    asked = confirmation(client, url, form)
    return client.post(url, {**asked, "reason": reason, **typed}, follow=True)
