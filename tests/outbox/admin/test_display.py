from __future__ import annotations

from outbox.templatetags.outbox_display import with_code


class TestASentenceWithACommand:
    def test_shows_the_command_as_code(self) -> None:
        shown = with_code("Dead; try `manage.py outbox retry 7`, or not.")

        assert shown == "Dead; try <code>manage.py outbox retry 7</code>, or not."

    def test_runs_no_markup(self) -> None:
        shown = with_code("<b>no</b>: `<script>`")

        assert shown == "&lt;b&gt;no&lt;/b&gt;: <code>&lt;script&gt;</code>"

    def test_stays_as_it_is_without_one(self) -> None:
        assert with_code("Done.") == "Done."

    def test_loses_nothing_where_a_mark_has_no_partner(self) -> None:
        assert with_code("It said ` and died.") == "It said ` and died."
