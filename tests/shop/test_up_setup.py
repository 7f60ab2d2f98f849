"""The step of `manage.py up` after a code change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from outbox.models import Subscription
from shop.up import setup

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def without_subscriptions() -> None:
    Subscription.objects.all().delete()


@pytest.fixture
def a_table_is_missing() -> Iterator[None]:
    with connection.schema_editor() as editor:
        editor.execute("ALTER TABLE orders_refundline RENAME TO orders_moved")
    yield
    with connection.schema_editor() as editor:
        editor.execute("ALTER TABLE orders_moved RENAME TO orders_refundline")


class TestAfterACodeChange:
    def test_stores_the_subscriptions(self) -> None:
        setup._sync()

        assert Subscription.objects.filter(handler="inventory.reserve_stock").exists()

    def test_stores_none_while_a_migration_is_not_applied(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Failed: a new app's handler was called before its table existed."""
        applied = MigrationRecorder.Migration.objects.filter(app="webhooks")
        applied.order_by("-name")[0].delete()

        setup._sync()

        assert "1 migrations are not applied. Run `manage.py migrate`." in capsys.readouterr().out
        assert not Subscription.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_stores_none_while_a_model_has_no_migration(
        self, a_table_is_missing: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        setup._sync()

        text = capsys.readouterr().out
        assert "The database has no table orders_refundline. Run `manage.py makemigrations`" in text
        assert not Subscription.objects.exists()


class TestItsProcess:
    def test_does_not_search_the_loaded_modules_for_garbage(self) -> None:
        """Each reload waits for its end. Seen to take a third longer with it."""
        code = "import gc; from shop.up import setup; setup.main(); print(gc.isenabled(), "
        code += "gc.get_freeze_count() > 100_000)"

        done = subprocess.run(
            [sys.executable, "-c", code, "--sync"],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
        )

        assert done.stdout.splitlines()[-1] == "False True", done.stderr
