"""Read the documentation: its pages, code blocks, tables, links and names of files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_PICTURE = re.compile(r'!\[[^\]]*\]\(([^)\s]+)\)|<img src="([^"]+)"')
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FILE_COMMENT = re.compile(r"\A# (\S+\.py)\n")


@dataclass(frozen=True)
class Page:
    """One Markdown file, named by its path from the project's root."""

    name: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def prose(self) -> str:
        """The text without its code blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        return [text for kind, text in _FENCE.findall(self.text) if kind == language]

    def files(self) -> dict[str, str]:
        """The Python files that the page shows. They begin with their path."""
        found: dict[str, str] = {}
        for text in self.blocks("python"):
            if match := _FILE_COMMENT.match(text):
                found[match[1]] = text[match.end() :]
        return found

    def links(self) -> list[str]:
        return _LINK.findall(self.prose)

    def pictures(self) -> list[Path]:
        """The files that the page shows, in order."""
        found = [one or other for one, other in _PICTURE.findall(self.prose)]
        return [(self.path.parent / one).resolve() for one in found]

    def codes(self) -> list[str]:
        """The texts in backticks."""
        return _CODE.findall(self.prose)

    def anchors(self) -> set[str]:
        """The page's headings as GitHub makes anchors of them."""
        return {_anchor(heading) for heading in _HEADING.findall(self.prose)}

    def section(self, heading: str) -> str:
        """The text below a heading, down to the next one of its rank or a higher one."""
        text, prose = self.text, _FENCE.sub(_blank, self.text)
        match = re.search(rf"^(#+) {re.escape(heading)}$", prose, re.MULTILINE)
        assert match, f"{self.name} has no heading {heading!r}."
        end = re.compile(rf"^#{{1,{len(match[1])}}} ", re.MULTILINE).search(prose, match.end())
        return text[match.end() : end.start() if end else len(text)]

    def table(self, heading: str) -> list[list[str]]:
        """The cells of the first table below a heading, without its head."""
        rows = list(_rows(self.section(heading)))
        assert rows, f"{self.name} has no table below {heading!r}."
        return rows[1:]


def pages() -> list[Page]:
    """All pages: those of the root, and what is below docs/ and deploy/."""
    found = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")]
    for folder in ("docs", "deploy"):
        found += sorted((ROOT / folder).rglob("*.md"))
    return [Page(str(path.relative_to(ROOT))) for path in found]


def names_in(cell: str) -> list[str]:
    """Return the texts in backticks in a cell of a table."""
    return _CODE.findall(cell)


def _blank(block: re.Match[str]) -> str:
    """Return a text of the same length, so that comments of code are no headings."""
    return " " * len(block[0])


def _rows(text: str) -> Iterator[list[str]]:
    in_table = False
    for line in text.splitlines():
        if line.startswith("|"):
            in_table = True
            if not re.fullmatch(r"[|\s:-]+", line):
                yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        elif in_table:
            return


def _anchor(heading: str) -> str:
    words = re.sub(r"[`*]", "", heading).lower()
    return re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
