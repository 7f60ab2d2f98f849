"""Every link of the documentation has a target, and every named file exists."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import ROOT, Page, pages

# Files and folders that a page asks the reader to create, or that a running copy makes.
MADE = re.compile(
    r"(tracking|loyalty|booking|tests/tracking|tests/loyalty|conftest\.py|\.venv|\.local|dist|site)(/|$)"
)
LOOKS_LIKE_A_FILE = re.compile(
    r"[\w.-]+(/[\w.@-]+)*(/|\.(py|md|txt|toml|yaml|service|timer|target))"
)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
class TestAPage:
    def test_links_to_existing_targets(self, page: Page):
        broken = [link for link in page.links() if not leads_somewhere(page, link)]

        assert broken == []

    def test_names_existing_files(self, page: Page):
        named = [code for code in page.codes() if LOOKS_LIKE_A_FILE.fullmatch(code)]
        missing = [code for code in named if not MADE.match(code) and not is_there(page, code)]

        assert missing == []


class TestTheDocumentation:
    def test_can_be_reached_from_its_index(self):
        reached, waiting = set(), [Page("README.md")]
        while waiting:
            page = waiting.pop()
            reached.add(page.name)
            targets = {Page(name) for name in linked_pages(page)}
            waiting += [target for target in targets if target.name not in reached]

        assert {page.name for page in pages()} - reached == set()


def leads_somewhere(page: Page, link: str) -> bool:
    if urlsplit(link).scheme:
        return urlsplit(link).scheme == "https"
    path, _, anchor = link.partition("#")
    target = (page.path.parent / path).resolve() if path else page.path
    if not target.exists() or ROOT not in target.parents:
        return False
    return not anchor or anchor in Page(str(target.relative_to(ROOT))).anchors()


def linked_pages(page: Page) -> list[str]:
    links = [link.partition("#")[0] for link in page.links() if not urlsplit(link).scheme]
    found = [(page.path.parent / link).resolve() for link in links if link.endswith(".md")]
    return [str(target.relative_to(ROOT)) for target in found]


def is_there(page: Page, name: str) -> bool:
    """Return whether the path exists, relative to the root, the page or a known folder."""
    folders = ("orders", "shop/up", "deploy/systemd")
    places = [ROOT, page.path.parent, *(ROOT / folder for folder in folders)]
    return any((place / name).exists() for place in places)
