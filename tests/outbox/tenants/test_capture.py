"""emit() stores the tenant that the project's hook returns."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from outbox import DomainEvent, emit, operations, subscribe
from outbox.models import DelayedEvent, Delivery, Event
from outbox.receipt import PermanentFailure
from outbox.storable import UnstorableValue
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass

from . import hooks
from .conftest import Configure

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Moved(DomainEvent, key="box"):
    box: str


class Packed(DomainEvent, key="box", share="owner:{box}"):
    box: str


def emit_in(tenant: str | None, event: DomainEvent | None = None, **options) -> None:
    with hooks.restore(tenant), transaction.atomic():
        emit(event or Moved(box=uuid4().hex), **options)


class TestAnEvent:
    def test_has_the_tenant_of_the_code_that_emits_it(self, tenants: None):
        emit_in("acme")
        emit_in(None)
        emit_in("")

        assert list(Event.objects.order_by("seq").values_list("tenant", flat=True)) == [
            "acme",
            None,
            None,
        ]

    def test_has_none_without_the_setting_and_its_insert_names_no_tenant(self):
        with CaptureQueriesContext(connection) as queries:
            emit_in("acme")

        assert Event.objects.get().tenant is None
        inserts = [one["sql"] for one in queries if "INSERT" in one["sql"]]
        assert len(inserts) == 1
        assert "tenant" not in inserts[0]

    def test_that_is_delayed_keeps_its_tenant(self, tenants: None):
        emit_in("acme", delay=timedelta(microseconds=1))
        assert DelayedEvent.objects.get().tenant == "acme"

        with hooks.restore("other"):
            run_pass()

        assert Event.objects.get().tenant == "acme"

    def test_shares_with_its_tenant_unless_its_class_names_a_share(self, tenants: None):
        emit_in("acme")
        emit_in("acme", Packed(box="7"))

        shares = Event.objects.order_by("seq").values_list("share", flat=True)

        assert list(shares) == ["acme", "owner:7"]

    def test_that_is_corrected_keeps_its_tenant(self, tenants: None):
        """The person who corrects it may work for another tenant, or for none."""

        @subscribe("tests.Moved", name="tests.refuse")
        def refuse(box: str) -> None:
            raise PermanentFailure("no")

        Outbox()
        emit_in("acme", Moved(box="b1"))
        run_messages(run_pass())

        with hooks.restore("staff"):
            made = operations.correct(
                Delivery.objects.get(state="dead").pk, {"box": "b1"}, by="ann", reason="typo"
            )

        assert (made.tenant, made.share) == ("acme", "acme")
        assert Delivery.objects.get(event=made).share == "acme"


class TestTheHook:
    @pytest.mark.parametrize(
        "options", [{}, {"dedupe_key": "1"}, {"delay": timedelta(hours=1)}], ids=str
    )
    def test_is_called_once_for_each_event(
        self, tenants: None, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ):
        called: list[str | None] = []
        capture = hooks.capture

        def note() -> str | None:
            called.append(capture())
            return called[-1]

        monkeypatch.setattr(hooks, "capture", note)

        emit_in("acme", **options)

        assert called == ["acme"]

    def test_that_fails_is_named_by_its_error(self, configure: Configure):
        configure(CAPTURE=f"{hooks.__name__}.without_request")

        with pytest.raises(LookupError) as raised:
            emit_in("acme")

        name = f"{hooks.__name__}.without_request"
        assert raised.value.__notes__ == [
            f'OUTBOX["TENANT"]["CAPTURE"], the function {name}, failed.'
        ]


class TestAWrongTenant:
    def test_is_refused_if_it_is_longer_than_the_column(self, tenants: None):
        with pytest.raises(UnstorableValue, match="tenant has 101 characters, and 100 at most"):
            emit_in("x" * 101)

        assert not Event.objects.exists()

    def test_is_refused_if_it_is_no_text(self, configure: Configure):
        configure(CAPTURE=f"{hooks.__name__}.number")

        with pytest.raises(TypeError, match=r"hooks.number, .* returned int. Let it return"):
            emit_in("acme")

        assert not Event.objects.exists()

    def test_is_not_captured_by_a_function_that_is_missing(self, configure: Configure):
        configure(CAPTURE="nowhere.current")

        with pytest.raises(
            ImproperlyConfigured, match=r"nowhere\.current, which cannot be imported"
        ):
            emit_in("acme")

        assert not Event.objects.exists()


class TestTheCheck:
    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ("sites.tenants", r"invalid value 'sites.tenants'. Set it to a dictionary"),
            ({"CAPTURE": hooks.NAMES["CAPTURE"]}, r"needs RESTORE. Set it to the dotted path"),
            ({**hooks.NAMES, "RESTORE": 7}, r"needs RESTORE. Set it to the dotted path"),
            ({**hooks.NAMES, "CAPTURE": "nowhere.current"}, r"cannot be imported: No module"),
            (
                {**hooks.NAMES, "RESTORE": f"{hooks.__name__}.missing"},
                r'Module .* does not define a "missing"',
            ),
            (
                {**hooks.NAMES, "CAPTURE": f"{hooks.__name__}.NAMES"},
                r"which is no function but dict. Name a function",
            ),
            ({**hooks.NAMES, "RESTOR": "x"}, r"has no key RESTOR. The keys are CAPTURE, RESTORE"),
            ({**hooks.NAMES, "SHARE_WINDOW": 0}, r'\["SHARE_WINDOW"\] has the invalid value 0'),
            ({**hooks.NAMES, "SHARE_WINDOW": True}, r"invalid value True. Set it to a whole"),
        ],
    )
    def test_reports_a_wrong_setting(self, given: object, problem: str, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "TENANT": given}

        [found] = [one for one in run_checks(tags=["outbox"]) if "TENANT" in one.msg]

        assert found.id == "outbox.E012"
        assert re.search(problem, found.msg)

    def test_accepts_a_right_one(self, configure: Configure):
        configure(SHARE_WINDOW=None)

        assert not [one for one in run_checks(tags=["outbox"]) if "TENANT" in one.msg]


class TestADedupeKey:
    def test_is_that_of_its_tenant(self, tenants: None):
        """Tenants with schemas have the same primary keys."""
        for tenant in ("acme", "bolt", "acme", None):
            emit_in(tenant, Moved(box="1"), dedupe_key="1")

        stored = Event.objects.order_by("seq").values_list("tenant", flat=True)
        assert list(stored) == ["acme", "bolt", None]
