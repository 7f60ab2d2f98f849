"""The contents of the site: `docs/index.md` lists its pages, and no other file does.

Each heading of that page is a chapter of the navigation. Each point of a list begins with the link
to one page. Pages that it does not list belong to the shop, and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent
INDEX = "index"
DECISIONS = "decisions"

_CHAPTER = re.compile(r"^## (.+)$", re.MULTILINE)
_ENTRY = re.compile(r"^\* \[[^\]]+\]\(([\w/.-]+)\.md\)", re.MULTILINE)
_DECISION = re.compile(r"\((?:\.\./)?decisions/([\w-]+)\.md")


@dataclass(frozen=True)
class Chapter:
    """A part of the navigation, with its pages by their paths below `docs/`, without `.md`."""

    title: str
    pages: tuple[str, ...]

    def toctree(self) -> str:
        """Return it as Sphinx's directive, in MyST's syntax."""
        options = [":hidden:", ":titlesonly:", f":caption: {self.title}"]
        return "\n".join(["```{toctree}", *options, "", *self.pages, "```"])


def chapters() -> list[Chapter]:
    """Return the chapters of `docs/index.md`, then the decisions that their pages refer to."""
    listed = list(_listed())
    names = sorted({name for one in listed for page in one.pages for name in _decisions(page)})
    decisions = Chapter("Decisions", tuple(f"{DECISIONS}/{name}" for name in names))
    return [*listed, decisions] if names else listed


def files() -> list[str]:
    """Return the sources of all pages, relative to `docs/`."""
    return [f"{INDEX}.md", *(f"{page}.md" for one in chapters() for page in one.pages)]


def _listed() -> Iterator[Chapter]:
    _introduction, *parts = _CHAPTER.split(_text(INDEX))
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        if pages := _ENTRY.findall(text):
            yield Chapter(title, tuple(pages))


def _decisions(page: str) -> list[str]:
    return _DECISION.findall(_text(page))


def _text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text()
