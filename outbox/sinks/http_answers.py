"""The meaning of an HTTP receiver's answer. docs/decisions/0044-answers-of-an-http-receiver.md"""

from __future__ import annotations

from outbox.receipt import PermanentFailure

from .base import SinkUnavailable

#: The receiver objects to this message, so that no retry can help.
REJECTED = frozenset({400, 413, 414, 415, 422, 431})
#: The receiver, or a proxy in front of it, cannot take messages now, or refuses the credentials.
UNAVAILABLE = frozenset({401, 403, 407, 408, 425, 429})


class AnswerRefused(Exception):
    """The receiver answered with a status that lasts until its URL or its code is changed.

    The delivery is retried.
    """


class ReceiverBusy(SinkUnavailable):
    """The receiver asked to wait, by Retry-After.

    Attributes:
        retry_after: seconds.
    """

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def meaning_of(status: int, seconds: float, shown: str) -> Exception | None:
    """Return None for a status that acknowledges, else the error that it means."""
    if 200 <= status < 300:
        return None
    text = f"{shown}: HTTP {status}."
    if status in (429, 503) and seconds:
        return ReceiverBusy(f"{text} It asks to wait {seconds:g} s.", seconds)
    if status in UNAVAILABLE or status >= 500:
        return SinkUnavailable(text)
    if status in REJECTED:
        return PermanentFailure(f"{text} The receiver rejects this message.")
    if 300 <= status < 400:
        return AnswerRefused(f"{text} Redirects are not followed. Set the final URL as TOPIC.")
    return AnswerRefused(text)
