"""With django-tenants, a handler has the schema of the customer whose event it handles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.databases import fresh_database

from .schemas.run import NUMBER

pytest.importorskip("django_tenants")
pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Run the project `schemas`, and return what it has found in its schemas."""
    here = f"{__package__}.schemas"
    with fresh_database() as url:
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": f"{here}.settings",
        }
        done = subprocess.run(
            [sys.executable, "-m", f"{here}.run"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


class TestDjangoTenants:
    @pytest.mark.parametrize("customer", ["acme", "bolt"])
    def test_stores_the_rows_of_a_customer_in_its_schema(
        self, customer: str, found: dict[str, Any]
    ):
        """Three handlers: atomic in a batch, with a receipt, and async."""
        texts = [text for text, _path in found[customer]]
        assert texts == sorted(f"{customer} {number}" for number in range(NUMBER) for _ in range(3))

    @pytest.mark.parametrize("customer", ["acme", "bolt"])
    def test_sets_the_search_path_of_the_customer(self, customer: str, found: dict[str, Any]):
        paths = {path.replace('"', "") for _text, path in found[customer]}
        assert paths == {f"{customer}, public"}

    def test_gives_the_events_of_a_handler_the_same_tenant(self, found: dict[str, Any]):
        stored = [(tenant, key) for name, tenant, key in found["events"] if name.endswith("Stored")]
        assert len(stored) == 2 * NUMBER
        assert all(key.startswith(f"{tenant} ") for tenant, key in stored)

    def test_leaves_the_connection_in_the_public_schema(self, found: dict[str, Any]):
        assert found["schema_afterwards"] == "public"

    def test_needs_no_new_connection(self, found: dict[str, Any]):
        """Failed: each `SET search_path` of the backend counted as state that outlasts a call."""
        assert found["sessions"] == 1
