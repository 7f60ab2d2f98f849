"""The pages tested in a browser: storefront, outbox, orders, another app, and the login."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.browser.scene import IN_ORDER, Scene
from tests.browser.site import Site

OUTBOX = "/admin/outbox"
Address = Callable[[Site, Scene], str]


def _at(path: str) -> Address:
    return lambda _site, _scene: path


def _row(path: str, statement: str, *parameters: str) -> Address:
    """The page of the row that a statement finds."""
    return lambda site, _scene: path.format(site.value(statement, *parameters))


_PLACED = "SELECT max(seq) FROM outbox_event WHERE name = 'orders.OrderPlaced'"
_DEAD = (
    "SELECT min(d.id) FROM outbox_delivery d JOIN outbox_subscription s ON s.id = d.subscription_id"
    " WHERE d.state = 'dead' AND s.handler <> 'outbox.read_message'"
)
_UNREADABLE = (
    "SELECT min(d.id) FROM outbox_delivery d JOIN outbox_subscription s ON s.id = d.subscription_id"
    " WHERE d.state = 'dead' AND s.handler = 'outbox.read_message'"
)
_DONE = "SELECT min(id) FROM outbox_delivery WHERE state = 'done'"
_PARKED = "SELECT min(id) FROM outbox_delivery WHERE state = 'parked'"
_HANDLER = "SELECT min(id) FROM outbox_subscription WHERE handler = ?"
_OPERATION = "SELECT min(id) FROM outbox_operation"
_SETTLEMENT = "SELECT min(id) FROM outbox_settlement"
_ALERT = "SELECT min(id) FROM outbox_alert"
_LATER = "SELECT id FROM outbox_delayedevent"

#: By what each is called in a test's name.
PAGES: Mapping[str, Address] = {
    "the catalogue": _at("/"),
    "the empty basket": _at("/basket/"),
    "the sign-in of a customer": _at("/account/sign-in/"),
    "the sign-up of a customer": _at("/account/sign-up/"),
    "the forgotten password of a customer": _at("/account/new-password/"),
    "the link that verifies an address": lambda _, scene: f"/account/verify/{scene.link}/",
    "the link that is not valid": _at("/account/verify/forged/"),
    "the account": _at("/account/"),
    "the change of the address": _at("/account/address/"),
    "the login": _at("/admin/login/"),
    "the admin": _at("/admin/"),
    "the outbox in the admin": _at(f"{OUTBOX}/"),
    "the overview": _at(f"{OUTBOX}/minute/"),
    "the search": _at(f"{OUTBOX}/minute/search/"),
    "the health checks": _at(f"{OUTBOX}/minute/health-checks/"),
    "the events": _at(f"{OUTBOX}/event/"),
    "the events, narrowed": _at(f"{OUTBOX}/event/?app=orders&state=dead&since=1d"),
    "the events, nothing found": _at(f"{OUTBOX}/event/?q=nothing"),
    "an event": _row(f"{OUTBOX}/event/{{}}/change/", _PLACED),
    "the timeline of nothing": _at(f"{OUTBOX}/event/timeline/"),
    "the timeline of what nobody knows": _at(f"{OUTBOX}/event/timeline/?q=nothing"),
    "the timeline of an order": lambda _, scene: f"{OUTBOX}/event/timeline/?q={scene.well.id}",
    "the timeline of a stuck order": lambda _, scene: (
        f"{OUTBOX}/event/timeline/?q={scene.stuck.id}"
    ),
    "the dead letters": _at(f"{OUTBOX}/delivery/dead/"),
    "the dead letters, nothing found": _at(f"{OUTBOX}/delivery/dead/?handler=nobody"),
    "the deliveries": _at(f"{OUTBOX}/delivery/"),
    "a dead delivery": _row(f"{OUTBOX}/delivery/{{}}/change/", _DEAD),
    "a done delivery": _row(f"{OUTBOX}/delivery/{{}}/change/", _DONE),
    "a parked delivery": _row(f"{OUTBOX}/delivery/{{}}/change/", _PARKED),
    "the correction of a payload": _row(f"{OUTBOX}/delivery/{{}}/correct/", _DEAD),
    "the blocked keys": _at(f"{OUTBOX}/delivery/blocked/"),
    "the delayed events": _at(f"{OUTBOX}/delayedevent/"),
    "a delayed event": _row(f"{OUTBOX}/delayedevent/{{}}/change/", _LATER),
    "the handlers": _at(f"{OUTBOX}/subscription/handlers/"),
    "the subscriptions": _at(f"{OUTBOX}/subscription/"),
    "a paused subscription": _row(f"{OUTBOX}/subscription/{{}}/change/", _HANDLER, IN_ORDER),
    "the map": _at(f"{OUTBOX}/subscription/map/"),
    "the periodic tasks": _at(f"{OUTBOX}/minute/periodic/"),
    "the sinks": _at(f"{OUTBOX}/event/sinks/"),
    "the sources": _at(f"{OUTBOX}/event/sources/"),
    "the message that cannot be read": _row(f"{OUTBOX}/delivery/{{}}/correct/", _UNREADABLE),
    "the contracts": _at(f"{OUTBOX}/minute/contracts/"),
    "the settlements": _at(f"{OUTBOX}/settlement/"),
    "the late settlements": _at(f"{OUTBOX}/settlement/?state=late"),
    "a settlement": _row(f"{OUTBOX}/settlement/{{}}/change/", _SETTLEMENT),
    "the alerts": _at(f"{OUTBOX}/alert/"),
    "an alert": _row(f"{OUTBOX}/alert/{{}}/change/", _ALERT),
    "the operations": _at(f"{OUTBOX}/operation/"),
    "an operation": _row(f"{OUTBOX}/operation/{{}}/change/", _OPERATION),
    "the orders": _at("/admin/orders/order/"),
    "the orders, narrowed": _at("/admin/orders/order/?condition=dead"),
    "an order that is through": lambda _, scene: f"/admin/orders/order/{scene.well.id}/change/",
    "an order that is stuck": lambda _, scene: f"/admin/orders/order/{scene.stuck.id}/change/",
    "the orders under way": _at("/admin/orders/order/processes/"),
    "a list of another app": _at("/admin/workshop/repair/"),
    "a row of another app": _row(
        "/admin/workshop/repair/{}/change/", "SELECT min(id) FROM workshop_repair"
    ),
}
#: Seen before one is known.
WITHOUT_LOGIN = (
    "the catalogue",
    "the empty basket",
    "the sign-in of a customer",
    "the sign-up of a customer",
    "the forgotten password of a customer",
    "the link that verifies an address",
    "the link that is not valid",
    "the login",
)
