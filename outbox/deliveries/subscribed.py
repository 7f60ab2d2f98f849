"""Whether a handler's subscription is stored. Callers that may not lose an event ask before it."""

from __future__ import annotations

from django.apps import apps

#: Subscriptions that this process has found: database, handler and event. Only staff end one.
_found: set[tuple[str, str, str]] = set()


def has_subscription(handler: str, event: str, *, using: str) -> bool:
    """Return whether the relay would create a delivery to a handler. It queries once per process.

    Args:
        handler: pinned name of the handler.
        event: name of the event.
        using: alias of the outbox's database.
    """
    wanted = (using, handler, event)
    if wanted not in _found:
        rows = apps.get_model("outbox", "Subscription")._default_manager.using(using)
        if not rows.filter(handler=handler, event=event, active=True).exists():
            return False
        _found.add(wanted)
    return True


def forget() -> None:
    """Forget the subscriptions that this process has found, for tests."""
    _found.clear()
