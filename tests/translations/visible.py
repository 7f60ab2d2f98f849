"""The visible and spoken texts of a page, without code names."""

from __future__ import annotations

import re
from html.parser import HTMLParser

#: Elements whose content is code, data or nothing for readers.
_HIDDEN = {"script", "style", "code", "pre", "textarea", "time", "template", "svg:style"}
_SPOKEN = {"title", "aria-label", "placeholder", "alt", "data-empty"}
_VOID = {"br", "img", "input", "link", "meta", "hr", "path", "rect", "line", "circle"}

#: Code names have a dot, an underscore, a digit, a hyphen before a letter, or capitals inside.
_CODE = re.compile(
    r"https?://\S+|\S+@\S+|\S*[\w*][._/:=\\]\S*[\w*(]\S*|--?[a-z]\S*|\w*\d\w*"
    r"|\b\w*[a-z][A-Z]\w*|\b[A-Z]{2,}\b"
)
_QUOTED = re.compile(r"`[^`]*`")
_WORD = re.compile(r"[A-Za-z]{2,}")


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if not self._is_hidden():
            self.found += [text for name in _SPOKEN if (text := values.get(name))]
            if tag == "input" and values.get("type") in ("submit", "button"):
                self.found.append(values.get("value") or "")
        if tag not in _VOID:
            self._open.append("code" if _is_code(values) and tag != "html" else tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and not self._is_hidden():
            self.found.append(" ".join(data.split()))

    def _is_hidden(self) -> bool:
        return bool(_HIDDEN & set(self._open))


def _is_code(values: dict[str, str | None]) -> bool:
    """Find English that says so, and names of the code in its own type."""
    return values.get("lang") == "en" or "outbox-mono" in (values.get("class") or "").split()


def texts_of(page: str) -> list[str]:
    """Return the texts and spoken attributes of a page, in order."""
    parser = _Texts()
    parser.feed(page)
    return parser.found


def english_words(text: str, *, known: frozenset[str] = frozenset()) -> list[str]:
    """Return the Latin words of a text that are neither code names nor known."""
    plain = _CODE.sub(" ", _QUOTED.sub(" ", text))
    return [one for one in _WORD.findall(plain) if one not in known]
