"""`make docs-ja`: the Japanese pages, and the revisions of the English pages that they follow.

The first line of a page of docs/ja/ names its English page, and a hash of the text that it follows:
`<!-- follows docs/tour.md at 0123456789ab -->`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT, Page

FOLDER = ROOT / "docs/ja"
#: It follows the README, and lists the other pages.
INDEX = FOLDER / "README.md"
_FOLLOWS = re.compile(r"\A<!-- follows (\S+\.md) at ([0-9a-f]{12}) -->\n")


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A Japanese page, its English page, and the revision that it follows."""

    path: Path
    english: Page
    revision: str

    @property
    def is_outdated(self) -> bool:
        return self.revision != revision_of(self.english)

    def accept(self) -> None:
        """Name the present revision: the page was compared with it, and changed as needed."""
        line = f"<!-- follows {self.english.name} at {revision_of(self.english)} -->\n"
        self.path.write_text(_FOLLOWS.sub(line, self.path.read_text()))


def revision_of(page: Page) -> str:
    """Return the hash of a page, which does not depend on git."""
    return hashlib.sha256(page.text.encode()).hexdigest()[:12]


def read(path: Path) -> Translation:
    """Return a Japanese page; raise `ValueError` if its first line names no English page."""
    found = _FOLLOWS.match(path.read_text())
    if found is None:
        raise ValueError(f"{path} does not begin with <!-- follows PAGE.md at HASH -->.")
    return Translation(path=path, english=Page(found[1]), revision=found[2])


def translations() -> list[Translation]:
    """Return all Japanese pages."""
    return [read(path) for path in sorted(FOLDER.rglob("*.md"))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make docs-ja", description=__doc__)
    parser.add_argument(
        "--accept", type=Path, action="append", default=[], help="a page that is up to date now"
    )
    for path in parser.parse_args().accept:
        read(ROOT / path).accept()
    outdated = [one for one in translations() if one.is_outdated]
    for one in outdated:
        page = one.path.relative_to(ROOT)
        print(f"{page} follows an earlier revision of {one.english.name}. Translate the changes.")
        print(f'    Then: make docs-ja ARGS="--accept {page}"')
    print(f"{len(translations())} Japanese pages, {len(outdated)} outdated.")
    sys.exit(bool(outdated))


if __name__ == "__main__":
    main()
