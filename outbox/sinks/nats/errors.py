"""Errors of nats-py and JetStream as the errors of a sink. No text quotes a server's URL."""

from __future__ import annotations

from contextlib import suppress

from outbox.receipt import PermanentFailure
from outbox.sinks.base import SinkUnavailable

with suppress(ImportError):  # reported when the sink is created
    import nats.errors
    import nats.js.errors

#: Codes of JetStream (`errors.json` of nats-server): the message or its headers are too large.
TOO_LARGE = frozenset({10054, 10097})
#: Another copy of the message is being stored.
CONFLICT = 409


class NatsRefusal(Exception):
    """NATS refuses the message until a person changes something. The delivery is retried."""


def error_of(error: Exception, *, subject: str) -> Exception:
    """Return the error of a sink for an exception of a publication to this subject."""
    if isinstance(error, nats.js.errors.APIError):
        return _error_of_answer(error, subject=subject)
    if isinstance(error, nats.errors.MaxPayloadError):
        return PermanentFailure("The message is larger than max_payload of the NATS server.")
    if isinstance(error, nats.errors.BadSubjectError | nats.errors.BadHeaderError):
        return PermanentFailure(
            f'NATS cannot carry the message for the subject "{subject}": its subject or the name '
            "of a header is invalid. Correct TOPIC, or the sink's mapper."
        )
    if isinstance(error, TimeoutError):
        return SinkUnavailable(f'No acknowledgement for the subject "{subject}" in time.')
    if isinstance(error, nats.errors.Error | OSError):
        return SinkUnavailable(f"The connection to NATS has failed ({type(error).__name__}).")
    if isinstance(error, ValueError | KeyError | TypeError):
        return NatsRefusal(
            f'The answer for the subject "{subject}" is no acknowledgement of JetStream. Another '
            "subscriber answers. Use a subject that only a stream stores."
        )
    return error


def _error_of_answer(error: nats.js.errors.APIError, *, subject: str) -> Exception:
    text = f'The stream of the subject "{subject}" refuses the message: {error.description}'
    if error.err_code in TOO_LARGE:
        return PermanentFailure(
            f"{text}. Publish less data, or raise the stream's maximum message size."
        )
    if (error.code or 0) >= 500 or error.code == CONFLICT:
        return SinkUnavailable(f"{text} ({error.err_code}).")
    return NatsRefusal(f"{text} ({error.err_code}). Correct the stream's configuration.")
