"""The AsyncAPI document of this code: channels of sinks and sources, and the internal ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from outbox.conf import conf

from .builder import Builder
from .internal import add_internal
from .published import add_published
from .received import add_received
from .versions import versions

#: The version of the specification. 3.1 adds only bindings for ROS 2, and fewer tools read it.
ASYNCAPI = "3.0.0"


def document(*, internal: bool = True) -> dict[str, Any]:
    """Return the AsyncAPI document of the installed apps' events.

    Args:
        internal: include the channels between `emit()` and the handlers of this code. Without
            them, the document describes only what other systems see.

    Raises:
        ValueError: an `events.lock.json` is invalid.
        ImproperlyConfigured: a sink or source of the settings is invalid.
    """
    builder = Builder()
    known = list(versions())
    if internal:
        add_internal(builder, known)
    add_published(builder, known)
    add_received(builder)
    return {
        "asyncapi": ASYNCAPI,
        "info": _info(),
        "defaultContentType": "application/json",
        "servers": builder.servers,
        "channels": builder.channels,
        "operations": builder.operations,
        "components": {
            "messages": builder.messages,
            "schemas": dict(sorted(builder.components.schemas.items())),
        },
    }


def as_text(made: Mapping[str, Any]) -> str:
    """Return a document as JSON, as it is committed."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _info() -> dict[str, str]:
    outbox = conf()
    # A project of workers has no URLs, and settings.configure() has no module.
    module = getattr(settings, "ROOT_URLCONF", None) or settings.SETTINGS_MODULE
    project = str(module or "this project").partition(".")[0]
    return {
        "title": outbox.ASYNCAPI_TITLE or f"Events of {project}",
        "version": outbox.ASYNCAPI_VERSION,
        "description": "Written by `manage.py outbox asyncapi`.",
    }
