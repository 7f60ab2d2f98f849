"""The system check of the headers of HTTP sinks."""

from __future__ import annotations

import pytest
from django.core.checks import CheckMessage
from pytest_django import Settings

from outbox.checks import check_settings


def complaints(settings: Settings, headers: object, **entry: object) -> list[CheckMessage]:
    sink = {
        "BACKEND": "outbox.sinks.http.HttpSink",
        "EVENTS": ["*"],
        "TOPIC": "https://example.com/events",
        "OPTIONS": {"secrets": [], "headers": headers},
        **entry,
    }
    settings.OUTBOX = {"SOURCE": "/tests", "SINKS": {"parcels": sink}}
    return [one for one in check_settings() if "header" in one.msg]


class TestTheHeadersOfAnHttpSink:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X Key", "hunter2"),
            ("X-Key\n", "hunter2"),
            ("Authorization", "Bearer hunter2\n"),
            ("Authorization", "hunter2\x00"),
            ("Authorization", "hünter2 hunter2"),
            ("Authorization", 7),
            ("Content-Length", "2"),
        ],
    )
    def test_are_reported_by_name_without_the_value(
        self, settings: Settings, name: str, value: object
    ):
        """Failed: only `manage.py outbox sinks check` found them."""
        [error] = complaints(settings, {"X-Good": "1", name: value})

        assert error.id == "outbox.E012"
        assert error.msg.startswith(f'The HTTP sink "parcels" has the invalid header {name!r} ')
        assert "unter2" not in f"{error.msg}{error.hint}"

    def test_are_reported_without_a_value_that_was_written_into_the_name(self, settings: Settings):
        [error] = complaints(settings, {"Authorization: Bearer hunter2": ""})

        assert "'Authorization'" in error.msg
        assert "hunter2" not in error.msg

    def test_are_all_reported(self, settings: Settings):
        found = complaints(settings, {"X Key": "1", "Y Key": "2"})

        assert len(found) == 2

    def test_must_be_a_dict(self, settings: Settings):
        [error] = complaints(settings, ["X-Key"])

        assert "must be a dict" in error.msg

    def test_are_accepted(self, settings: Settings):
        assert complaints(settings, {"Authorization": "Bearer hunter2", "X-Empty": ""}) == []

    def test_are_not_examined_of_another_sink(self, settings: Settings):
        backend = "tests.outbox.sinks.memory.MemorySink"

        assert complaints(settings, {"X Key": "1"}, BACKEND=backend) == []
