"""Sentences for `diagnosis.why` about received messages that were stored as they were received."""

from __future__ import annotations

from django.utils.translation import gettext as _

from outbox.models import Delivery, Event
from outbox.sources.events import find_external
from outbox.sources.unreadable import HANDLER

State = Delivery.State


def result_of(delivery: Delivery) -> str:
    """Name the event of a message that was read again, or why there is none.

    "" if the delivery is not of a message.
    """
    return _result(delivery.event) if _is_of_message(delivery) else ""


def result_of_correction(delivery: Delivery) -> str:
    """Describe the correction of a discarded delivery; "" if it is of no corrected message."""
    if not _is_of_message(delivery):
        return ""
    event = delivery.event
    # `corrects` has no index. A correction has the correlation id of the event that it corrects.
    same = Event.objects.using(delivery._state.db).filter(correlation_id=event.correlation_id)
    corrected = same.filter(corrects=event.id).order_by("-seq").first()
    if corrected is None:
        return ""
    rows = corrected.deliveries.filter(subscription__handler=HANDLER)
    if (last := rows.order_by("-id").first()) is None:  # pruned
        return ""
    if last.state == State.DONE:
        return _result(corrected)
    text = _("The delivery of the correction, %(id)d, is %(state)s.")
    return text % {"id": last.pk, "state": last.get_state_display()}


def correction_of(delivery: Delivery) -> str:
    """Name the way to correct a dead delivery; "" if it is not of a message."""
    if not _is_of_message(delivery):
        return ""
    text = _(
        "Or correct the message in the admin or by `manage.py outbox correct %(id)d --body FILE`."
    )
    return text % {"id": delivery.pk}


def _is_of_message(delivery: Delivery) -> bool:
    return delivery.subscription.handler == HANDLER


def _result(stored: Event) -> str:
    """Name the event that the handler stored for a message, or why it stored none."""
    same = Event.objects.using(stored._state.db).filter(correlation_id=stored.correlation_id)
    mine = same.filter(causation_id=stored.id, emitted_by=HANDLER)
    if (event := mine.order_by("-seq").first()) is not None:
        return _("It became event %(id)s: %(name)s.") % {"id": event.id, "name": event.name}
    source, kind = stored.payload.get("source", ""), stored.payload.get("unknown_type")
    if kind:
        text = _(
            "Kept: type unknown. No external event of the source %(source)s declares the type "
            "%(kind)s. After a release that declares it: `manage.py outbox replay %(id)s --reason "
            "TEXT`."
        )
        if find_external(source, kind):
            text = _(
                "Kept: the type %(kind)s was unknown. This release declares it: `manage.py outbox "
                "replay %(id)s --reason TEXT`."
            )
        return text % {"source": source, "kind": kind, "id": stored.id}
    return _(
        "It became no event: a message with its id was stored before, or the mapper dropped it, or "
        "it reports a settlement."
    )
