"""The shop's AsyncAPI document is the committed one, and valid."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.asyncapi_tools import faults_by_json_schema, faults_by_parser, invalid_examples

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once

COMMITTED = Path(settings.BASE_DIR) / "docs/reference/asyncapi.json"
PAGE = COMMITTED.with_name("contracts.md")


@pytest.fixture(scope="module")
def committed() -> Any:
    return json.loads(COMMITTED.read_text("utf-8"))


class TestTheDocument:
    def test_is_the_one_in_the_documentation(self):
        """If not, and the change is meant: make schema. Other tests declare events here."""
        for path in (COMMITTED, PAGE):
            done = subprocess.run(
                [sys.executable, "manage.py", "outbox", "asyncapi", "--check", str(path)],
                cwd=settings.BASE_DIR,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr

    def test_has_examples_that_fit_their_schemas(self, committed: Any):
        messages = committed["components"]["messages"]

        assert [name for name, one in messages.items() if not one.get("examples")] == []
        assert invalid_examples(committed) == []

    def test_is_valid_by_asyncapis_parser(self, committed: Any):
        assert faults_by_parser(committed) == []

    def test_is_valid_by_asyncapis_json_schema(self, committed: Any):
        assert faults_by_json_schema(committed) == []
