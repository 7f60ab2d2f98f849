"""Build the site of the outbox's documentation, and read its pages."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from tests.docs.pages import ROOT

#: Attributes by which a browser loads a file without a click, by the name of the element.
LOADING = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}


def command(folder: Path, *options: str) -> list[str]:
    """Return the command of `make docs`, with another folder for its result."""
    recipe = (ROOT / "Makefile").read_text().partition("-m sphinx ")[2].partition("\n")[0]
    *words, made = recipe.split()
    assert made == "site"
    return [sys.executable, "-m", "sphinx", *options, *words, str(folder)]


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does, and return the ended process with its output."""
    return subprocess.run(
        command(folder, *options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@dataclass
class Document(HTMLParser):
    """One built page: what it loads, where it links to, and its anchors."""

    path: Path
    loaded: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.text = self.path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {value for name, value in given.items() if name in ("id", "name")}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif source := given.get(LOADING.get(tag, "")):
            self.loaded.append(source)


def documents(folder: Path) -> Iterator[Document]:
    yield from map(Document, sorted(folder.rglob("*.html")))


def addresses_in_styles(folder: Path) -> list[str]:
    """Return what the style sheets load: fonts, images and further style sheets."""
    texts = [path.read_text() for path in sorted(folder.rglob("*.css"))]
    pattern = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""")
    return [address for text in texts for address in pattern.findall(text)]
