"""The page of log fields has the fields of the real log lines."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from outbox.context import CorrelationFilter
from outbox.subscriptions import registry
from outbox.testing import Outbox
from outbox.worker.outcome import Result, log_done
from tests.docs.pages import ROOT, Page, names_in
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place

PAGE = Page("docs/reference/log-fields.md")

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
_LOGGER = re.compile(r'getLogger\("([\w.]+)"\)')
_OWN_NAME = re.compile(r"getLogger\(__name__\)")
#: A template of an app, whose logger is that app's own.
_TEMPLATES = {"outbox/management/cli/startapp.py"}


def fields(record: logging.LogRecord) -> set[str]:
    return set(vars(record)) - _STANDARD


def shown(heading: str) -> set[str]:
    return {name for row in PAGE.table(heading) for name in names_in(row[0])}


def loggers() -> set[str]:
    """The names of the loggers in the outbox's code."""
    found: set[str] = set()
    for path in sorted((ROOT / "outbox").rglob("*.py")):
        name = path.relative_to(ROOT)
        found |= set(_LOGGER.findall(path.read_text()))
        if _OWN_NAME.search(path.read_text()) and name.as_posix() not in _TEMPLATES:
            found.add(module(name))
    return found


def module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


class TestThePageOfLogFields:
    @pytest.mark.django_db
    def test_has_the_fields_of_an_attempt(self, outbox: Outbox, caplog: pytest.LogCaptureFixture):
        put_on_sale("TEA", units=5)
        place(sku="TEA")

        with caplog.at_level(logging.INFO, logger="outbox.delivery"):
            outbox.deliver_all(only="inventory")

        assert fields_of_the_line(caplog) == shown("Attempts")

    def test_has_the_fields_of_a_call(self, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.INFO, logger="outbox.delivery"):
            log_done(registry[0], [], [Result(1, "done"), Result(2, "done")])

        # The filter of the shop has added fields to this line, too.
        of_any_line = shown("Every line")
        assert fields_of_the_line(caplog) - of_any_line == shown("Calls") - of_any_line


class TestTheTablesOfThePage:
    def test_have_each_outcome(self):
        documented = re.search(r"One of ([\w, ]+)\.", Result.outcome.__doc__ or "")

        assert documented
        assert shown("Outcomes") == set(documented[1].split(", "))

    def test_have_the_fields_that_the_filter_adds(self):
        record = logging.makeLogRecord({})

        CorrelationFilter().filter(record)

        assert fields(record) | {"tenant", "trace_id"} == shown("Every line")

    def test_have_each_logger_or_the_one_above_it(self):
        listed = shown("Loggers")

        assert {name for name in loggers() if not is_below(name, listed)} == set()
        assert listed <= loggers()


def fields_of_the_line(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return the fields of the only line about deliveries."""
    [line] = [record for record in caplog.records if record.name == "outbox.delivery"]
    return fields(line)


def is_below(name: str, listed: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in listed for length in range(1, len(parts) + 1))
