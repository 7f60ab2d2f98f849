"""Terms that both directions use, and their exception."""

from __future__ import annotations

SPEC_VERSION = "1.0"
JSON = "application/json"
#: Media type of structured encoding.
STRUCTURED = "application/cloudevents+json"
CONTENT_TYPE = "content-type"


class InvalidCloudEvent(ValueError):
    """An event cannot be written as a CloudEvent, or a message is none. Names cause and fix.

    Args:
        reason: the cause and the fix, the same for each message with this problem.
        where: position of the problem in the message, "line 1, column 7", or "".
    """

    def __init__(self, reason: str, *, where: str = "") -> None:
        super().__init__(reason)
        self.where = where
