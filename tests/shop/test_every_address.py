"""Permissions of every URL of the site, also of new apps.

What the monitor's pages ask for in particular is in tests/outbox/admin/test_permissions.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from api.tokens import add_token
from orders.models import Order
from outbox.models import Event
from tests.shop.access import (
    FOR_NOBODY,
    FOR_OWNERS,
    FOR_STAFF,
    FOR_STAFF_TOO,
    LISTS,
    MODELS,
    PUBLIC,
    QUERIES,
    keys_to,
)
from tests.shop.addresses import Address, addresses
from tests.shop.rows import FAILURES, a_row_of_each

pytestmark = pytest.mark.django_db

Rows = dict[type[Model], Model]

#: To a row's own page, which has the same address with "change/" behind it.
LEADS_ON = "<path:object_id>/"


@pytest.fixture
def rows() -> Rows:
    return a_row_of_each()


def name_of(address: Address) -> str:
    return address.name or address.route


def answer_at(client: Client, address: Address, rows: Rows, **headers: str):
    return client.get(address.url(rows) + QUERIES.get(address.name, ""), headers=headers)


def shown(client: Client, rows: Rows, **headers: str) -> set[str]:
    """The addresses that answer with something to see."""
    return {
        name_of(one)
        for one in addresses()
        if answer_at(client, one, rows, **headers).status_code == 200
    }


def permissions() -> dict[str, Permission]:
    found = Permission.objects.select_related("content_type")
    return {f"{one.content_type.app_label}.{one.codename}": one for one in found}


def staff(keys: Iterable[str] = ()) -> Client:
    """Somebody of the staff with these permissions."""
    user = User.objects.create_user(str(uuid4()), is_staff=True)
    known = permissions()
    user.user_permissions.set(known[key] for key in keys)
    client = Client()
    client.force_login(user)
    return client


def in_the_admin() -> list[Address]:
    """The addresses that a permission may open."""
    return [one for one in addresses() if keys_to(one) is not None]


class TestEveryAddress:
    def test_is_in_one_table(self):
        """A new address fails here until somebody says who may see it."""
        known = PUBLIC | FOR_STAFF | FOR_OWNERS | FOR_NOBODY
        opened = {one.name for one in in_the_admin()}
        found = {name_of(one) for one in addresses() if one.name or LEADS_ON not in one.route}

        assert found == known | opened
        assert not known & opened
        assert {model._meta.label_lower for model in admin.site._registry} == set(MODELS)

    def test_shows_nothing_to_a_stranger(self, rows):
        assert shown(Client(), rows) == PUBLIC

    def test_shows_a_customer_what_is_theirs(self, client, rows):
        client.force_login(rows[Order].customer)

        assert shown(client, rows) == PUBLIC | FOR_OWNERS

    def test_shows_nothing_of_that_to_another_customer(self, client, rows):
        client.force_login(User.objects.create_user("mallory"))

        assert shown(client, rows) == PUBLIC | LISTS

    @pytest.mark.once
    def test_shows_nothing_to_staff_without_permissions(self, rows):
        assert shown(staff(), rows) == (PUBLIC | FOR_STAFF | LISTS) - {"admin:login"}

    @pytest.mark.once
    def test_shows_nothing_of_the_admin_for_a_token(self, rows):
        add_token(user=User.objects.create_superuser("root"), label="", token="right")

        found = shown(Client(), rows, Authorization="Bearer right")

        assert {name for name in found if name.startswith("admin:")} == {"admin:login"}

    @pytest.mark.once
    def test_is_opened_by_its_permission_alone(self, rows):
        """Each of staff has one permission, or the two that an address asks for together."""
        closed = [
            (one.name, keys)
            for one in in_the_admin()
            for keys in keys_to(one) or ()
            if answer_at(staff(keys), one, rows).status_code != 200
        ]

        assert closed == []

    @pytest.mark.once
    def test_is_opened_by_no_other_permission(self, rows):
        """Who has all the others is refused, and so is who has any one of them."""
        every, clients, opened = set(permissions()), {}, []
        for one in in_the_admin():
            keys = frozenset().union(*keys_to(one) or ())
            if keys not in clients:
                clients[keys] = staff(every - keys)
            if answer_at(clients[keys], one, rows).status_code == 200:
                opened.append(one.name)

        assert opened == []

    @pytest.mark.parametrize("name", sorted(FOR_STAFF_TOO))
    def test_of_the_api_shows_rows_of_others_with_its_permission(self, rows, name):
        (address,) = (one for one in addresses() if one.name == name)
        key = FOR_STAFF_TOO[name]

        answers = [
            answer_at(staff({key}), address, rows).status_code,
            answer_at(staff(set(permissions()) - {key}), address, rows).status_code,
        ]

        assert answers == [200, 404]

    def test_never_causes_a_server_error(self, admin_client, rows):
        broken = [
            one for one in addresses() if answer_at(admin_client, one, rows).status_code >= 500
        ]

        assert broken == []


@pytest.mark.once
class TestAFailure:
    """What a handler raised, and what was noted of it: for who may view deliveries."""

    KEYS = {"outbox.view_delivery", "outbox.change_delivery"}

    def test_is_shown_with_all_permissions(self, admin_client, rows):
        assert self.shown(admin_client, rows, *FAILURES) == set(FAILURES)

    def test_is_not_shown_without_the_permission(self, rows):
        client = staff(set(permissions()) - self.KEYS)

        assert self.shown(client, rows, *set(FAILURES) - {"operation"}) == set()

    @pytest.mark.parametrize(
        "name",
        [
            "outbox_event_timeline",
            "outbox_event_timeline_part",
            "outbox_event_timeline_condition",
        ],
    )
    @pytest.mark.parametrize("by", ["key", "correlation_id"])
    def test_is_not_shown_by_the_timeline_of_a_key(self, admin_client, rows, name, by):
        url = f"{reverse(f'admin:{name}')}?q={getattr(rows[Event], by)}"
        client = staff(set(permissions()) - self.KEYS)

        texts = [one.get(url).content.decode() for one in (admin_client, client)]

        assert [FAILURES["note"] in text for text in texts] == [True, False]

    def test_is_shown_by_an_operation_with_its_view_permission(self, rows):
        keys = {"outbox.view_operation", "outbox.change_operation"}

        assert self.shown(staff(set(permissions()) - keys), rows, "operation") == set()

    def shown(self, client: Client, rows: Rows, *names: str) -> set[str]:
        """Which of them stand at any address."""
        texts = [answer_at(client, one, rows).content.decode() for one in addresses()]
        return {name for name in names for text in texts if FAILURES[name] in text}
