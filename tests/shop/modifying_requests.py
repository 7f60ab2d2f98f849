"""Whatever may be done at an address of the site: the permission that it asks for, and a request.

An action, a form or a method that is in no table here makes a test fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME

from tests.outbox.admin.test_permissions import ACTIONS as OUTBOX_ACTIONS
from tests.shop.access import MODELS


@dataclass(frozen=True, kw_only=True)
class ModifyingRequest:
    """One thing that a request does.

    Attributes:
        name: for a report.
        address: the name of its address.
        key: the permission that it asks for; "" where staff may not, whatever they may.
        also: the permissions without which nobody comes so far.
        form: its fields; `ROW` stands for a row's key, `SHOWN` for what the confirmation has in
            this field, and others are as the page has them.
        before: what rows have to be before, by their model.
        method: of the request.
        is_api: its body is JSON.
    """

    name: str
    address: str
    key: str = ""
    also: tuple[str, ...] = ()
    form: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    method: str = "post"
    is_api: bool = False


ROW = object()
SHOWN = object()

READY = {"orders.order": {"status": "ready_to_ship"}}
SHIPPED = {"orders.order": {"status": "shipped"}}
SETTLED = {"outbox.delivery": {"state": "done", "settled_at": datetime(2020, 1, 1, tzinfo=UTC)}}
PAUSED = {"outbox.subscription": {"paused_at": datetime(2030, 1, 1, tzinfo=UTC)}}

#: The actions of each list: the permission, what is filled in, and what rows have to be before.
ACTIONS: Mapping[str, Mapping[str, tuple[str, dict[str, Any], Mapping[str, Any]]]] = {
    "orders.order": {
        "mark_as_shipped": (
            "orders.ship_order",
            {"carrier": "x", "tracking_number": "1"},
            READY,
        ),
        "mark_as_received": ("orders.ship_order", {}, SHIPPED),
        "cancel": ("orders.cancel_order", {}, {}),
        "refund_what_is_left": ("orders.refund_order", {}, READY),
    },
    "notifications.email": {"send_again": ("notifications.resend_email", {}, {})},
    "webhooks.endpoint": {
        "disable": ("webhooks.disable_endpoint", {"reason": "x"}, {}),
        "enable": ("webhooks.disable_endpoint", {}, {}),
    },
    "django_celery_beat.periodictask": {
        name: ("django_celery_beat.change_periodictask", {}, {})
        for name in ("disable_tasks", "enable_tasks", "toggle_tasks")
    },
    "outbox.delivery": {
        name: (f"outbox.{OUTBOX_ACTIONS[name]}", {"reason": "x", **more}, before)
        for name, more, before in (
            ("retry", {}, {}),
            ("discard", {"shown": SHOWN}, {}),
            ("replay", {"shown": SHOWN}, SETTLED),
        )
    },
    "outbox.subscription": {
        name: (f"outbox.{OUTBOX_ACTIONS[name]}", {"reason": "x"}, before)
        for name, before in {"pause": {}, "resume": PAUSED, "close_breaker": {}}.items()
    },
}
#: What a new row needs where its form is empty.
NEW: Mapping[str, dict[str, Any]] = {
    "auth.group": {"name": "new"},
    "auth.user": {
        "username": "new",
        "usable_password": "true",
        "password1": "a long phrase 1",
        "password2": "a long phrase 1",
    },
    "django_celery_beat.clockedschedule": {
        "clocked_time_0": "2030-01-01",
        "clocked_time_1": "00:00:00",
    },
    "django_celery_beat.crontabschedule": {"minute": "7"},
    "django_celery_beat.intervalschedule": {"every": "7", "period": "days"},
    "django_celery_beat.periodictask": {"name": "new", "task": "new", "interval": ROW},
    "django_celery_beat.solarschedule": {"event": "sunset", "latitude": "1", "longitude": "1"},
}
#: Whoever adds users may make superusers; rows that belong to a row are deleted along with it.
ALSO: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("add", "auth.user"): ("auth.change_user",),
    ("delete", "auth.user"): ("api.delete_apitoken",),
    ("delete", "django_celery_beat.intervalschedule"): ("django_celery_beat.delete_periodictask",),
}
#: The methods of the API beside GET.
API = [
    ModifyingRequest(
        name="cancel an order",
        address="orders:cancellation",
        key="orders.cancel_order",
        also=("orders.view_order",),
        is_api=True,
    ),
    ModifyingRequest(
        name="ship an order",
        address="orders:shipping",
        key="orders.ship_order",
        also=("orders.view_order",),
        form={"carrier": "x", "tracking_number": "1"},
        before=READY,
        is_api=True,
    ),
    ModifyingRequest(
        name="refund an order",
        address="orders:refunds",
        key="orders.refund_order",
        also=("orders.view_order",),
        form={"amount": {"amount": 1, "currency": "JPY"}, "return_stock": False},
        before=READY,
        is_api=True,
    ),
    ModifyingRequest(
        name="change a webhook",
        address="webhooks:webhook",
        form={"description": "x"},
        method="patch",
        is_api=True,
    ),
    ModifyingRequest(
        name="remove a webhook", address="webhooks:webhook", method="delete", is_api=True
    ),
    ModifyingRequest(name="rotate a secret", address="webhooks:secret", is_api=True),
    ModifyingRequest(name="test a webhook", address="webhooks:test", is_api=True),
]
#: For everybody who is signed in, in their own name.
IN_ONES_OWN_NAME = {("orders:orders", "post"), ("webhooks:webhooks", "post")}
#: Refused without the bank's signature, whoever asks.
SIGNED = {("payments:bank_webhook", "post")}


def modifying_requests() -> Iterator[ModifyingRequest]:
    """Return all but those of tests/outbox/admin/test_permissions.py: the outbox's own pages."""
    for label in MODELS:
        yield from _actions(label)
        yield from _forms(label)
    yield ModifyingRequest(
        name="change a password",
        address="admin:auth_user_password_change",
        key="auth.change_user",
        form={name: NEW["auth.user"][name] for name in ("password1", "password2")},
    )
    yield from API


def _actions(label: str) -> Iterator[ModifyingRequest]:
    app, _dot, model = label.partition(".")
    found = dict(ACTIONS.get(label, {}))
    if "delete" in MODELS[label]:
        found["delete_selected"] = (f"{app}.delete_{model}", {"post": "yes"}, {})
    for action, (key, form, before) in found.items():
        yield ModifyingRequest(
            name=f"{action} of {label}",
            address=f"admin:{app}_{model}_changelist",
            key=key,
            also=(f"{app}.view_{model}", *ALSO.get(("delete", label), ())),
            form={"action": action, ACTION_CHECKBOX_NAME: ROW, **form},
            before=before,
        )


def _forms(label: str) -> Iterator[ModifyingRequest]:
    app, _dot, model = label.partition(".")
    for what in MODELS[label]:
        yield ModifyingRequest(
            name=f"{what} {label}",
            address=f"admin:{app}_{model}_{what}",
            key=f"{app}.{what}_{model}",
            also=ALSO.get((what, label), ()),
            form={"add": NEW.get(label, {}), "change": {}, "delete": {"post": "yes"}}[what],
        )


def actions_offered(request: Any) -> dict[str, set[str]]:
    """Return what each list offers to the user of a request."""
    return {
        model._meta.label_lower: set(one.get_actions(request))
        for model, one in admin.site._registry.items()
    }
