"""Every modifying request requires exactly its permission."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Model
from django.test import Client, RequestFactory
from django_celery_beat.models import IntervalSchedule

from orders.models import Order
from tests.outbox.admin.test_permissions import DEEDS as OF_THE_OUTBOX
from tests.shop.access import FOR_NOBODY, MODELS
from tests.shop.addresses import Address, addresses
from tests.shop.forms import forms_of
from tests.shop.modifying_requests import (
    ACTIONS,
    IN_ONES_OWN_NAME,
    ROW,
    SHOWN,
    SIGNED,
    ModifyingRequest,
    actions_offered,
    modifying_requests,
)
from tests.shop.rows import a_row_of_each
from tests.shop.test_every_address import permissions, staff
from webhooks.models import Endpoint

pytestmark = pytest.mark.django_db

Rows = dict[type[Model], Model]

WRITING = {"post", "put", "patch", "delete"}
#: A page of the outbox that shows a form, and takes it.
CORRECTION = "admin:outbox_delivery_correct"
BY_NAME = {one.name: one for one in addresses() if one.name}
EACH = [pytest.param(one, id=one.name) for one in modifying_requests()]


@pytest.fixture
def rows() -> Rows:
    return a_row_of_each()


def state() -> dict[str, list[Any]]:
    """All that is stored, but who is signed in."""
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values_list())
        for model in apps.get_models()
        if model is not Session
    }


def prepare(action: ModifyingRequest) -> None:
    for label, values in action.before.items():
        apps.get_model(label)._default_manager.update(**values)


class Trial:
    """Requests for one request, each of which is undone. Create all users before."""

    def __init__(self, action: ModifyingRequest, rows: Rows, root: Client) -> None:
        self._action, self._url = action, BY_NAME[action.address].url(rows)
        self._form = filled_in(action, rows, root, self._url)
        self._before = state()

    def is_done_by(self, client: Client) -> bool:
        """Whether a request of this client changes anything."""
        savepoint = transaction.savepoint()
        try:
            ask(client, self._action, self._url, self._form)
            return state() != self._before
        finally:
            transaction.savepoint_rollback(savepoint)


def ask(client: Client, action: ModifyingRequest, url: str, form: Mapping[str, Any]) -> None:
    if action.is_api:
        key = {"Idempotency-Key": str(uuid4())}
        method = getattr(client, action.method)
        method(url, form, content_type="application/json", headers=key)
    else:
        client.post(url, form)


def filled_in(action: ModifyingRequest, rows: Rows, root: Client, url: str) -> dict[str, Any]:
    """The form that a superuser is shown, with what the action changes."""
    known: dict[str, Any] = {}
    if not action.is_api and "action" not in action.form:
        forms = forms_of(root.get(url).content.decode(), url)
        known = next(one.fields for one in forms if one.method == "POST" and one.url == url)
    row = None if action.is_api else rows[apps.get_model(".".join(url.split("/")[2:4]))].pk
    if action.name.startswith("add"):
        row = rows[IntervalSchedule].pk
    form = {name: row if value is ROW else value for name, value in action.form.items()}
    if form.get("shown") is SHOWN:
        asked = {name: form[name] for name in ("action", ACTION_CHECKBOX_NAME)}
        found = forms_of(root.post(url, asked).content.decode(), url)
        form["shown"] = next(one.fields["shown"] for one in found if "shown" in one.fields)
    return known | form


class TestAModifyingRequest:
    @pytest.mark.once
    @pytest.mark.parametrize("action", EACH)
    def test_requires_exactly_its_permission(self, rows, admin_client, action):
        prepare(action)
        every = set(permissions())
        customer = Client()
        customer.force_login(User.objects.create_user("mallory"))
        refused = {
            "a stranger": Client(),
            "another customer": customer,
            "staff": staff(),
            "staff who may see all": staff({key for key in every if ".view_" in key}),
            "staff who may do all else": staff(every - {action.key}),
        }

        permitted = staff({action.key, *action.also}) if action.key else None
        trial = Trial(action, rows, admin_client)

        done = {who for who, client in refused.items() if trial.is_done_by(client)}

        assert done == set()
        assert permitted is None or trial.is_done_by(permitted)

    @pytest.mark.parametrize(
        "action", [one for one in modifying_requests() if one.is_api], ids=lambda one: one.name
    )
    def test_of_the_api_is_done_by_the_owner(self, rows, admin_client, action):
        client = Client()
        client.force_login(rows[Order].customer)
        Endpoint.objects.update(disabled_at=None, disabled_because="")
        is_for_staff = action.address in ("orders:shipping", "orders:refunds")
        prepare(action)

        assert Trial(action, rows, admin_client).is_done_by(client) is not is_for_staff

    def test_is_in_a_table(self, admin_user):
        """A new action, form, page or method fails here until somebody says who may use it."""
        request = RequestFactory().get("/")
        request.user = admin_user
        tables = {
            label: {*ACTIONS.get(label, ()), *(["delete_selected"] if "delete" in may else [])}
            for label, may in MODELS.items()
        }

        assert actions_offered(request) == tables
        assert methods_of_the_api() == {
            *((one.address, one.method) for one in modifying_requests() if one.is_api),
            *IN_ONES_OWN_NAME,
            *SIGNED,
        }
        only_by_post = {name for name in FOR_NOBODY if name.startswith("admin:outbox_")}
        assert {f"admin:{name}" for name in OF_THE_OUTBOX} == only_by_post | {CORRECTION}

    @pytest.mark.parametrize(("name", "method"), sorted(SIGNED))
    def test_of_the_bank_is_not_done_without_its_signature(self, rows, admin_client, name, method):
        action = ModifyingRequest(
            name=name, address=name, form={"id": "1", "type": "x"}, is_api=True
        )

        assert not Trial(action, rows, admin_client).is_done_by(admin_client)


def methods_of_the_api() -> set[tuple[str, str]]:
    return {
        (one.name, method)
        for one in addresses()
        if one.route.startswith("/api/") and one.name
        for method in _methods(one)
    }


def _methods(address: Address) -> Iterable[str]:
    view = getattr(address.view, "cls", None) or getattr(address.view, "view_class", None)
    return {method for method in WRITING if hasattr(view, method)}
