"""Terms that both directions use, and their exception."""

from __future__ import annotations

SPEC_VERSION = "1.0"
JSON = "application/json"
#: Media type of structured encoding.
STRUCTURED = "application/cloudevents+json"
CONTENT_TYPE = "content-type"


class InvalidCloudEvent(ValueError):
    """An event cannot be written as a CloudEvent, or a message is none. Names cause and fix."""
