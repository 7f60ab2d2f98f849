from __future__ import annotations

from pathlib import Path

import pytest
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from notifications import rendering
from notifications.models import Email

CATALOGUE = Path(rendering.__file__).parent / "locale/ja/LC_MESSAGES/django.po"


class TestKinds:
    @pytest.mark.parametrize("kind", Email.Kind)
    def test_have_a_subject_a_text_and_html(self, kind: Email.Kind):
        rendered = rendering.render(kind=kind, language="en", reference="7Q4M", context={})

        assert "7Q4M" in rendered.subject
        assert "7Q4M" in rendered.text
        assert "7Q4M" in rendered.html


class TestJapanese:
    def test_has_every_text(self):
        with CATALOGUE.open("rb") as file:
            messages = [message for message in read_po(file) if message.id]

        assert [message.id for message in messages if not message.string or message.fuzzy] == []

    def test_is_compiled(self):
        with CATALOGUE.open("rb") as po, CATALOGUE.with_suffix(".mo").open("rb") as mo:
            source = {message.id: message.string for message in read_po(po) if message.id}
            compiled = {message.id: message.string for message in read_mo(mo) if message.id}

        assert compiled == source, "Run: cd notifications && ../manage.py compilemessages"
