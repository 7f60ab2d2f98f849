from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

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
    def test_translates_every_text_and_no_other(self):
        with CATALOGUE.open("rb") as file:
            messages = [one for one in read_po(file) if one.id and one.string and not one.fuzzy]

        assert {plain(one.id)[0] for one in messages} == marked_texts()

    def test_is_compiled(self):
        with CATALOGUE.open("rb") as po, CATALOGUE.with_suffix(".mo").open("rb") as mo:
            source = [(plain(one.id), plain(one.string)) for one in read_po(po) if one.id]
            compiled = [(plain(one.id), plain(one.string)) for one in read_mo(mo) if one.id]

        assert sorted(compiled) == sorted(source), (
            "Run: cd notifications && ../manage.py compilemessages"
        )


def plain(text: Any) -> list[str]:
    """A text, or those of a plural, as a list."""
    return [text] if isinstance(text, str) else list(text)


def marked_texts() -> set[str]:
    """The texts that code and templates of the app mark for translation."""
    app, found = CATALOGUE.parents[3], set[str]()
    for path in app.rglob("*.py"):
        if path.parent.name != "migrations":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "ngettext"):
                    found.add(ast.literal_eval(node.args[0]))
    for path in (app / "templates").rglob("*.*"):
        text = path.read_text()
        found |= set(re.findall(r'{% translate "([^"]+)"', text))
        blocks = re.findall(r"{% blocktranslate[^%]*%}(.*?){% endblocktranslate", text)
        found |= {re.sub(r"{{ (\w+) }}", r"%(\1)s", one) for one in blocks}
    return found
