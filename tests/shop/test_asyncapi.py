"""The shop's AsyncAPI document is the committed one, and valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from outbox.contracts.asyncapi import as_text, document
from outbox.contracts.asyncapi.markdown import as_markdown
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
        """If not, and the change is meant: make schema."""
        assert as_text(document()) == COMMITTED.read_text("utf-8")
        assert as_markdown(document()) == PAGE.read_text("utf-8")

    def test_has_examples_that_fit_their_schemas(self, committed: Any):
        messages = committed["components"]["messages"]

        assert [name for name, one in messages.items() if not one.get("examples")] == []
        assert invalid_examples(committed) == []

    def test_is_valid_by_asyncapis_parser(self, committed: Any):
        assert faults_by_parser(committed) == []

    def test_is_valid_by_asyncapis_json_schema(self, committed: Any):
        assert faults_by_json_schema(committed) == []
