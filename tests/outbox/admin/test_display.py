from __future__ import annotations

import pytest

from outbox.templatetags import outbox_display
from outbox.templatetags.outbox_display import with_code
from tests.outbox.project.freight.models import Parcel


class TestWithCode:
    def test_shows_text_in_backticks_as_code(self) -> None:
        shown = with_code("Dead; try `manage.py outbox retry 7`, or not.")

        assert shown == "Dead; try <code>manage.py outbox retry 7</code>, or not."

    def test_escapes_markup(self) -> None:
        shown = with_code("<b>no</b>: `<script>`")

        assert shown == "&lt;b&gt;no&lt;/b&gt;: <code>&lt;script&gt;</code>"

    def test_keeps_a_text_without_backticks(self) -> None:
        assert with_code("Done.") == "Done."

    def test_keeps_a_single_backtick(self) -> None:
        assert with_code("It said ` and died.") == "It said ` and died."


@pytest.mark.django_db
class TestAnActor:
    def test_that_is_no_key_of_the_user_model_is_named(self, monkeypatch: pytest.MonkeyPatch):
        """Seen to raise the ValidationError of a UUID key."""
        monkeypatch.setattr(outbox_display, "get_user_model", lambda: Parcel)

        assert outbox_display.actor("user:import") == "user:import (deleted)"
