"""Tables of the permissions that each URL and each modifying request require.

An address, a model, an action or a method that is in no table here makes a test fail.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.outbox.admin.test_permissions import PAGES
from tests.shop.addresses import Address

#: For everybody: they show nothing of anybody.
PUBLIC = {
    "docs",
    "schema",
    "inventory:products",
    "problem",
    "admin:login",
    "storefront:basket",
    "storefront:catalogue",
    "storefront:forgotten_password",
    "storefront:new_password",  # without the link of an e-mail it says that the link is not valid
    "storefront:password_link_sent",
    "storefront:sign_in",
    "storefront:sign_up",
    "storefront:verify_address",  # as new_password
}
#: For all staff, whatever their permissions: their own account, and a page that lists their models.
FOR_STAFF = {
    "admin:index",
    "admin:jsi18n",
    "admin:outbox_minute_search",  # it finds only what the user may view
    "admin:password_change",
    "admin:password_change_done",
    "second_factor:account",
    "second_factor:enrol",
}
#: For everybody who is signed in: their own rows.
FOR_OWNERS = {
    "orders:orders",
    "orders:order",
    "orders:timeline",
    "storefront:account",
    "storefront:change_address",
    "storefront:change_password",
    "storefront:order",
    "storefront:order_status",
    "storefront:orders",
    "webhooks:webhooks",
    "webhooks:webhook",
    "webhooks:deliveries",
}
#: Those of these that list rows, or show the account: everybody else sees none, or their own.
LISTS = {
    "storefront:account",
    "storefront:change_address",
    "storefront:change_password",
    "orders:orders",
    "storefront:orders",
    "webhooks:webhooks",
}
#: Those of these that staff with a permission see of everybody.
FOR_STAFF_TOO = {"orders:order": "orders.view_order", "orders:timeline": "orders.view_order"}
#: They take no GET, or lead elsewhere.
FOR_NOBODY = {
    "/admin/<url>",
    "/api/",
    "admin:logout",
    "set_language",
    "admin:view_on_site",
    "admin:outbox_delivery_dead_act",
    "admin:outbox_event_sensitive",
    "admin:outbox_event_sinks_sensitive",
    "admin:outbox_operation_give_up",
    "admin:outbox_operation_go_on",
    "orders:cancellation",
    "orders:refunds",
    "orders:shipping",
    "payments:bank_webhook",
    "storefront:cancel",
    "storefront:change_basket",
    "storefront:checkout",  # it leads to an empty basket
    "storefront:order_again",
    "storefront:send_verification",
    "storefront:sign_out",
    "second_factor:recovery_codes",
    "second_factor:remove",
    "second_factor:verify",  # it leads to "enrol" who has set up none
    "webhooks:secret",
    "webhooks:test",
}

#: What may be done to the rows of a model by its pages in the admin, apart from looking.
MODELS: Mapping[str, tuple[str, ...]] = {
    "outbox.alert": (),
    "outbox.delayedevent": (),
    "outbox.delivery": (),
    "outbox.event": (),
    "outbox.minute": (),
    "outbox.operation": (),
    "outbox.settlement": (),
    "outbox.subscription": (),
    "orders.order": (),
    "inventory.product": ("change",),
    "inventory.reservation": (),
    "inventory.stock": (),
    "inventory.stockmovement": (),
    "payments.bankreport": (),
    "payments.payment": (),
    "notifications.email": (),
    "webhooks.attempt": (),
    "webhooks.endpoint": (),
    "webhooks.message": (),
    "api.apitoken": ("change", "delete"),
    "shop.reconciliation": (),
    "auth.group": ("add", "change", "delete"),
    "auth.user": ("add", "change", "delete"),
    "axes.accessattempt": ("change", "delete"),
    "axes.accessfailurelog": ("change", "delete"),
    "axes.accesslog": ("change", "delete"),
    "django_celery_beat.clockedschedule": ("add", "change", "delete"),
    "django_celery_beat.crontabschedule": ("add", "change", "delete"),
    "django_celery_beat.intervalschedule": ("add", "change", "delete"),
    "django_celery_beat.periodictask": ("add", "change", "delete"),
    "django_celery_beat.solarschedule": ("add", "change", "delete"),
}
#: Pages that are neither lists nor rows: the permissions each of which opens it.
OWN: Mapping[str, tuple[str, ...]] = {
    **{f"admin:{name}": (f"outbox.{permission}",) for name, permission in PAGES.items()},
    "admin:orders_order_processes": ("orders.view_order",),
    "admin:orders_order_processes_part": ("orders.view_order",),
    "admin:notifications_email_html": ("notifications.view_email",),
    "admin:autocomplete": ("auth.view_user",),
    "admin:auth_user_password_change": ("auth.change_user",),
    "admin:app_list": tuple(
        f"auth.{what}_{model}"
        for what in ("view", "add", "change", "delete")
        for model in ("user", "group")
    ),
}
#: Those that two permissions open together.
OF_TWO: Mapping[str, set[str]] = {
    "admin:outbox_delivery_correct": {"outbox.view_delivery", "outbox.correct_event"},
    "admin:auth_user_add": {"auth.add_user", "auth.change_user"},
}
#: What an address needs to answer at all.
QUERIES = {
    "admin:autocomplete": "?app_label=orders&model_name=order&field_name=customer&term=h",
}


def keys_to(address: Address) -> list[set[str]] | None:
    """Return the sets of permissions each of which opens an address of the admin to staff.

    None: the address is in no table.
    """
    if address.name in OF_TWO:
        return [OF_TWO[address.name]]
    if address.name in OWN:
        return [{key} for one in OWN[address.name] for key in _with_change(one)]
    label, kind = ".".join(address.route.split("/")[2:4]), address.name.rpartition("_")[2]
    if not address.name or label not in MODELS:
        return None
    app, _dot, model = label.rpartition(".")
    if kind in ("changelist", "change", "history"):
        return [{f"{app}.view_{model}"}, {f"{app}.change_{model}"}]
    if kind in ("add", "delete"):
        return [{f"{app}.{kind}_{model}"}] if kind in MODELS[label] else []
    return None


def _with_change(permission: str) -> list[str]:
    """Who may change rows may see them, too."""
    return [permission, permission.replace(".view_", ".change_")]
