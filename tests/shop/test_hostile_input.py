"""No hostile value in a parameter of the admin causes a server error."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import RequestFactory
from pytest_django import Settings
from rest_framework.throttling import SimpleRateThrottle

from orders.models import Order
from outbox.admin.keyset import KeysetChangeList
from outbox.models import Delivery
from tests.shop.addresses import Address, addresses
from tests.shop.attacks import KINDS, SKIPPED, Asking, Filling, forms_at, is_there
from tests.shop.hostile import DOCUMENTS, VALUES, Attacker
from tests.shop.rows import a_row_of_each
from tests.shop.test_every_address import LEADS_ON

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]

Rows = dict[type[Model], Model]

#: What each list takes beside its filters, and what lists that page by key take.
LISTS = ("q", "o", "p", "all", "e", "_facets", "_popup")
KEYSETS = ("older", "newer")
#: What the page of a row takes. Django's code reads it, alike for each: a few values will do.
ROWS = ("_changelist_filters", "_popup", "_source_model", "_to_field")
FEW = ("empty", "NUL", "overlong", "beyond 64 bits", "odd text", "no UTF-8")
#: What pages take that are neither: a page that is in no table here makes a test fail.
OWN: dict[str, Sequence[str]] = {
    "admin:index": (),
    "admin:login": ("next",),
    "admin:logout": ("next",),
    "admin:password_change": (),
    "admin:password_change_done": (),
    "admin:jsi18n": (),
    "admin:app_list": (),
    "admin:view_on_site": (),
    "admin:autocomplete": ("term", "page", "app_label", "model_name", "field_name"),
    "admin:auth_user_password_change": (),
    "admin:notifications_email_html": (),
    "admin:orders_order_processes": (),
    "admin:orders_order_processes_part": (),
    "admin:outbox_delivery_blocked": (),
    "admin:outbox_delivery_correct": (),
    "admin:outbox_delivery_dead": ("handler", "exception", "place"),
    "admin:outbox_delivery_dead_act": (),
    "admin:outbox_event_sensitive": (),
    "admin:outbox_event_sinks": ("name", "event"),
    "admin:outbox_event_sinks_sensitive": (),
    "admin:outbox_event_sources": (),
    "admin:outbox_event_timeline": ("q",),
    "admin:outbox_event_timeline_part": ("q",),
    "admin:outbox_event_timeline_condition": ("q",),
    "admin:outbox_minute_search": (),
    "admin:outbox_minute_health_checks": (),
    "admin:outbox_minute_part": (),
    "admin:outbox_minute_periodic": (),
    "admin:outbox_minute_contracts": (),
    "admin:outbox_minute_contracts_download": ("external",),
    "admin:outbox_operation_give_up": (),
    "admin:outbox_operation_go_on": (),
    "admin:outbox_operation_part": (),
    "admin:outbox_subscription_handlers": (),
    "admin:outbox_subscription_handlers_part": (),
    "admin:outbox_subscription_map": ("app", "process"),
    "second_factor:account": (),
    "second_factor:enrol": (),
    "second_factor:recovery_codes": (),
    "second_factor:remove": (),
    "second_factor:verify": ("next",),
}
#: Tests of a minute are shared out by app.
PARTS = ("outbox", "django_celery_beat", "auth", "all others")
#: PostgreSQL refuses more values than SQLite, so pages of other packages are tested with it only.
EACH_PART = [
    *("outbox", "all others"),
    *(pytest.param(part, marks=pytest.mark.postgresql) for part in ("django_celery_beat", "auth")),
]
STANDARD = ("changelist", "add", "change", "delete", "history")
#: Parameters that a page needs to look at the others.
NEEDED = {
    "admin:autocomplete": [
        ("app_label", "orders"),
        ("model_name", "order"),
        ("field_name", "customer"),
    ]
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Write no line on each of the thousands of refusals."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def rows() -> Rows:
    return a_row_of_each()


@pytest.fixture
def attacker(rows: Rows, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Attacker:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a quick one
    attacker = Attacker()
    request = RequestFactory().get("/")
    request.user = attacker.user
    # The list of all models at the side of each page takes half of its time, whatever is asked.
    context = {**admin.site.each_context(request), "available_apps": []}
    monkeypatch.setattr(admin.site, "each_context", lambda _request: dict(context))
    return attacker


def of_the_admin(*kinds: str) -> list[Address]:
    found = [one for one in addresses() if one.route.startswith("/admin/")]
    return [one for one in found if not kinds or one.name.rpartition("_")[2] in kinds]


def filters_of(address: Address, attacker: Attacker) -> Iterator[str]:
    """What a list takes because of its filters, its dates and its class."""
    label = ".".join(address.route.split("/")[2:4])
    one = next(one for of, one in admin.site._registry.items() if of._meta.label_lower == label)
    request = RequestFactory().get("/")
    request.user = attacker.user
    changelist = one.get_changelist_instance(request)
    for spec in changelist.filter_specs:
        yield from filter(None, spec.expected_parameters())
    if day := one.date_hierarchy:
        yield from (f"{day}__{part}" for part in ("year", "month", "day"))
    if isinstance(changelist, KeysetChangeList):
        yield from KEYSETS


class TestAList:
    @pytest.mark.parametrize("part", EACH_PART)
    def test_survives_each_value_in_each_parameter(self, rows, attacker, part):
        asking = Asking(attacker)
        for address in part_of(of_the_admin("changelist"), part):
            url = address.url(rows)
            asking.each(url, ["id__regex"], kinds=["an open group"])
            names = [*LISTS, *filters_of(address, attacker)]
            texts = [name for name in names if asking.takes(url, name)]
            asking.each(url, texts)
            for name in names:
                if name not in texts:
                    asking.each(url, [name])
            asking.each(url, ["_to_field"], kinds=FEW)  # Django's code reads it, alike for each

        attacker.has_broken_nothing()

    def test_survives_a_year_without_its_months(self, rows, attacker):
        url = "/admin/orders/order/"
        for month in ("0", "12", "13"):
            for day in ("0", "31", "32"):
                query = [("placed_at__year", "9999"), ("placed_at__month", month)]
                attacker.ask(url, [*query, ("placed_at__day", day)], of=f"{month}/{day}")

        attacker.has_broken_nothing()


class TestAPage:
    def test_survives_each_value_in_each_parameter(self, rows, attacker):
        asking = Asking(attacker)
        for address in of_the_admin():
            url = address.url(rows)
            if address.name in OWN:
                asking.each(url, OWN[address.name], needed=NEEDED.get(address.name, ()))
            elif address not in of_the_admin("changelist") and is_there(attacker, url):
                asking.each(url, ROWS, kinds=FEW)

        attacker.has_broken_nothing()

    def test_survives_each_value_for_a_field_that_is_filled_in(self, rows, attacker):
        asking = Asking(attacker)
        for address in of_the_admin("add"):
            url = address.url(rows)
            names = [name for form in forms_at(attacker, url) for name in form.fields]
            asking.each(url, [name for name in names if not SKIPPED.fullmatch(name)])

        attacker.has_broken_nothing()

    def test_survives_each_value_in_its_path(self, rows, attacker):
        for address in of_the_admin():
            # The pages of a row find it alike.
            is_like_another = LEADS_ON in address.route and not address.name.endswith("_change")
            for part in address.parts:
                for kind in FEW if is_like_another else KINDS:
                    url = address.url(rows, **{part: "VALUE"}).replace("VALUE", VALUES[kind])
                    attacker.ask(url, of=kind)
                    if kind in FEW:
                        attacker.give(url, [], of=kind)

        attacker.has_broken_nothing()

    def test_is_in_a_table_with_its_parameters(self):
        named = {one.name for one in of_the_admin() if one.name}
        standard = {one.name for one in of_the_admin(*STANDARD)} - set(OWN)

        assert named - standard == set(OWN)


class TestAForm:
    @pytest.mark.parametrize("part", EACH_PART)
    def test_survives_each_value_in_each_field(self, rows, attacker, part):
        filling = Filling(attacker)
        pages = part_of(of_the_admin(), part)
        # The form of a stored row first: it has all fields, with values that fit.
        for address in sorted(pages, key=lambda one: not one.name.endswith("_change")):
            for form in forms_at(attacker, address.url(rows)):
                filling.take(form)

        assert len(filling.seen) > 10
        attacker.has_broken_nothing()

    def test_survives_each_document_in_a_payload(self, rows, attacker):
        url = f"/admin/outbox/delivery/{rows[Delivery].pk}/correct/"
        for kind, text in DOCUMENTS.items():
            for name in ("payload", "points"):
                document = text if name == "payload" else payload_of(rows, text)
                attacker.give(url, [("reason", "x"), ("payload", quote(document))], of=kind)

        attacker.has_broken_nothing()


class TestAVisitor:
    def test_survives_each_value_in_the_login_form(self, attacker, monkeypatch):
        monkeypatch.setattr(SimpleRateThrottle, "allow_request", lambda *_: True)
        attacker.logout()
        asking = Asking(attacker)
        asking.each("/", ("q",))
        asking.each("/admin/login/", ("next",))
        asking.each("/api/products/", ("cursor", "format", "limit"))
        for kind, value in VALUES.items():
            for name in ("username", "password", "next"):
                form = {"username": "x", "password": "x", "next": "/admin/"} | {name: value}
                attacker.give("/admin/login/", list(form.items()), of=f"{name}={kind}")

        attacker.has_broken_nothing()


def part_of(found: Iterable[Address], part: str) -> list[Address]:
    """Those of one app, or of all that are no part of their own."""
    apps = {one: one.route.split("/")[2] for one in found}
    return [one for one, app in apps.items() if (app if app in PARTS else PARTS[-1]) == part]


def payload_of(rows: Rows, value: str) -> str:
    """A payload that fits its event but for one value."""
    order_id = rows[Order].pk
    return f'{{"order_id": "{order_id}", "email": "***", "points": {value}}}'
