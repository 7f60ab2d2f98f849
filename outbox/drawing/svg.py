"""The SVG elements of the drawings, with escaped content."""

from __future__ import annotations

from collections.abc import Iterable
from unicodedata import east_asian_width

from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString

#: Mean width of a letter as a share of the font's size, rounded up: no font is known on the server.
_LETTER = 0.62

Value = str | int | float | None


def element(tag: str, *children: str, **attributes: Value) -> SafeString:
    """Return an element; `class_` and `stroke_width` become class and stroke-width.

    An attribute of None is left out. Children not marked as safe and all values are escaped.
    """
    inner = format_html_join("", "{}", ((conditional_escape(child),) for child in children))
    given = (
        (name.rstrip("_").replace("_", "-"), _written(value))
        for name, value in attributes.items()
        if value is not None
    )
    return format_html("<{tag}{given}>{inner}</{tag}>", tag=tag, given=_joined(given), inner=inner)


def picture(*children: str, width: float, height: float, label: str) -> SafeString:
    """Return a complete SVG picture in its full size, which a page may scroll."""
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        class_="outbox-picture",
        width=width,
        height=height,
        viewBox=f"0 0 {_written(width)} {_written(height)}",
        role="group",
        aria_label=label,
    )


def text(content: str, *, x: float, y: float, class_: str = "", anchor: str = "") -> SafeString:
    """Return a line of text; `anchor` is start (the default), middle or end."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor or None)


def link(content: str, *, href: str, tip: str = "") -> SafeString:
    """Return a link around a shape, with a tooltip; without `href`, a group."""
    tips = [element("title", tip)] if tip else []
    return element("a", *tips, content, href=href) if href else element("g", *tips, content)


def html_link(words: str, *, href: str, class_: str) -> SafeString:
    """Return a link of HTML around words; without `href`, a span."""
    return element("a" if href else "span", words, href=href or None, class_=class_)


def text_width(content: str, *, size: float = 11) -> float:
    """Estimate the width of a text in pixels. A wide letter, such as a Japanese one, is square."""
    wide = sum(east_asian_width(letter) in "WF" for letter in content)
    return size * (wide + _LETTER * (len(content) - wide))


def _written(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _joined(pairs: Iterable[tuple[str, str]]) -> SafeString:
    return format_html_join("", ' {}="{}"', pairs)
