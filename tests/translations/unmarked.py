"""Find texts for users that are not marked for translation, in modules and templates.

A text for users is one that a page, an answer of the API, an e-mail or a command shows. Log lines,
SQL, and errors for developers stay in English, so that people can search for them.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path

#: Two words with a blank between, of which one has small letters.
_SENTENCE = re.compile(r"[A-Za-z]{2,}[,.:;]? [a-z]{2,}")
_SQL = re.compile(
    r"^\s*(SELECT|INSERT|UPDATE|DELETE|WITH|PRAGMA|SHOW|SET|CREATE|LISTEN|AND|FROM)\b"
)
#: Markup without words, headers of HTTP, and code that a command writes into a file.
_MARKUP = re.compile(
    r"^[^A-Za-z]*<|^outbox-[a-z-]+ outbox-|^hx-|filename=|no-cache|^\s*(?:from|import) \w|"
    r"^\s*python |^CELERY_BROKER_URL|^`manage.py"
)
_MARKS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy", "pgettext", "pgettext_lazy"}
#: Calls whose texts no user reads, or that mark the text themselves (`count`).
_SILENT = {"count", "debug", "info", "warning", "exception", "critical", "getLogger", "warn"}
_SILENT |= {"extend_schema", "extend_schema_field", "OpenApiParameter", "OpenApiExample"}
#: Errors that only developers cause.
_FOR_DEVELOPERS = {"ValueError", "TypeError", "LookupError", "RuntimeError", "ImproperlyConfigured"}
_FOR_DEVELOPERS |= {"AssertionError", "NotImplementedError", "KeyError", "AttributeError"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def texts_of_module(source: str) -> Iterator[str]:
    """Return the sentences of a module that are not marked."""
    yield from _texts(ast.parse(source))


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and _is_silent(node):
        return
    if isinstance(node, ast.Constant | ast.JoinedStr):
        text = _text(node)
        if _SENTENCE.search(text) and not _SQL.search(text) and not _MARKUP.search(text):
            yield text
            return
    for child in ast.iter_child_nodes(node):
        is_alone = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if not is_alone:  # a docstring
            yield from _texts(child)


def _is_silent(call: ast.Call) -> bool:
    """Find calls that mark their text, or show it to nobody; the doctor's `warning` shows it."""
    is_finding = isinstance(call.func, ast.Name) and call.func.id == "warning"
    return not is_finding and _name(call.func) in _MARKS | _SILENT | _FOR_DEVELOPERS


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    parts = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
    return "".join(map(str, parts))


def texts_of_template(source: str) -> list[str]:
    """Return the words of a template outside of tags, comments, code and translated blocks."""
    rest = re.sub(r"{% blocktranslate.*?{% endblocktranslate %}", " ", source, flags=re.DOTALL)
    rest = re.sub(
        r"{% comment.*?{% endcomment %}|{#.*?#}|{%.*?%}|{{.*?}}", "\x00", rest, flags=re.S
    )
    rest = re.sub(r"<(code|pre|script|style)\b.*?</\1>|<!--.*?-->", " ", rest, flags=re.DOTALL)
    spoken = re.findall(r'\b(?:title|aria-label|placeholder|alt)="([^"\x00]*)"', rest)
    plain = re.sub(r"<[^>]*>", "\x00", rest)
    texts = [" ".join(one.split()) for one in [*spoken, *plain.split("\x00")]]
    return [one for one in texts if re.search(r"[A-Za-z]{2,}", html.unescape(one))]


def modules(root: Path) -> list[Path]:
    """Return the modules of an app that write texts for users."""
    return [path for path in sorted(root.rglob("*.py")) if _is_for_users(path.relative_to(root))]


def _is_for_users(path: Path) -> bool:
    rooms = {"admin", "monitor", "doctor", "management", "operations", "drawing", "templatetags"}
    files = {"admin.py", "problems.py", "serializers.py", "views.py", "action_views.py", "forms.py"}
    files |= {"invariants.py", "rendering.py", "formatting.py", "models.py", "events.py"}
    files |= {"third_party_admin.py", "home.py", "reconciliation.py", "parsing.py", "tokens.py"}
    files |= {"account_views.py", "order_views.py", "cards.py", "progress.py"}  # the storefront
    files |= {"clicks.py", "story.py", "listing.py"}  # the drawer, and alerts
    if {"migrations", "locale"} & set(path.parts):
        return False
    return bool(rooms & set(path.parts)) or path.name in files or "models" in path.parts
