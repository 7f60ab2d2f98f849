"""`make docs` builds a site that needs no server and no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import outbox
from tests.docs.pages import ROOT, Page
from tests.docs.site import Document, addresses_in_styles, build, documents

pytestmark = pytest.mark.once

INDEX = Page("docs/index.md")
#: Pages of the shop. A page that is in neither list is missing in the site.
OF_THE_SHOP = {
    "README.md",
    "before-and-after.md",
    "event-driven-architecture.md",
    "how-to/connect-a-bank.md",
    "how-to/connect-two-shops.md",
    "how-to/put-a-proxy-in-front.md",
    "how-to/receive-webhooks.md",
    "how-to/run-for-real.md",
    "how-to/run-on-kubernetes.md",
    "how-to/run-the-demo.md",
    "quick-start.md",
    "ja/README.md",
    "ja/before-and-after.md",
    "ja/event-driven-architecture.md",
    "ja/glossary.md",
    "ja/tour.md",
    "ja/tutorial.md",
    "reference/api-errors.md",
    "reference/contracts.md",
    "reference/events.md",
    "reference/order-process.md",
    "reference/shop-settings.md",
    "threat-model.md",
    "tutorial.md",
    "why-an-outbox.md",
}


def listed() -> list[str]:
    """The pages that the index names, in its order; README.md is the index of the repository."""
    return [link for link in INDEX.links() if link.endswith(".md") and link != "README.md"]


@pytest.fixture(scope="class")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    built = build(folder)
    assert built.stdout == ""
    assert built.returncode == 0
    return folder


@pytest.fixture(scope="class")
def pages(site: Path) -> list[Document]:
    return list(documents(site))


class TestTheSite:
    def test_has_each_page_of_the_index(self, site: Path):
        missing = [page for page in listed() if not (site / page).with_suffix(".html").exists()]

        assert missing == []

    def test_loads_nothing_from_another_host(self, site: Path, pages: list[Document]):
        loaded = [address for page in pages for address in page.loaded]

        assert len(loaded) > len(pages)
        assert outside([*loaded, *addresses_in_styles(site)]) == []

    def test_has_each_file_that_a_page_loads(self, pages: list[Document]):
        loaded = [(page.path.parent, urlsplit(one).path) for page in pages for one in page.loaded]

        needed = [folder / path for folder, path in loaded if path]
        assert [path for path in needed if not path.is_file()] == []

    def test_has_the_target_and_the_anchor_of_each_link(self, site: Path, pages: list[Document]):
        by_path = {page.path: page for page in pages}

        assert [one for page in pages for one in broken(page, by_path)] == []

    def test_finds_a_page_by_a_word(self, site: Path):
        index = search_index(site)

        found = index["terms"]["breaker"]
        assert index["docnames"].index("how-to/call-something-outside") in found

    def test_shows_the_docstring_of_each_public_name(self, site: Path):
        page = Document(site / "reference/docstrings.html")

        assert {f"outbox.{name}" for name in outbox.__all__} <= page.anchors
        assert "Subscribe the decorated function to events" in page.text

    def test_names_files_that_it_does_not_contain(self, site: Path):
        assert "docs/README.md" in (site / "index.html").read_text()
        assert not (site / "README.html").exists()

    def test_links_to_them_where_the_address_of_the_repository_is_known(self, tmp_path: Path):
        """A build of one page, whose navigation lacks all others, so with warnings."""
        options = ["-D", "include_patterns=index.md"]

        build(tmp_path, *options, "-D", "repository_url=https://code.example.com/")

        links = Document(tmp_path / "index.html").links
        assert "https://code.example.com/docs/README.md" in links


class TestThePages:
    def test_belong_to_the_site_or_to_the_shop(self):
        docs = ROOT / "docs"
        found = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
        ours = {name for name in found if not name.startswith("decisions/")}

        assert ours - OF_THE_SHOP - {"index.md"} == set(listed())

    def test_are_listed_once(self):
        assert len(set(listed())) == len(listed())


def outside(addresses: Iterable[str]) -> list[str]:
    parts = [(address, urlsplit(address)) for address in addresses]
    return [one for one, split in parts if split.netloc or split.scheme not in ("", "data")]


def broken(page: Document, pages: dict[Path, Document]) -> Iterator[str]:
    """Yield the links of a page to files of the site that do not exist, or to missing anchors."""
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
        anchor = unquote(parts.fragment)
        if not target.is_file() or (anchor and anchor not in pages[target].anchors):
            yield f"{page.path.name}: {link}"


def search_index(site: Path) -> dict[str, Any]:
    """Read the index, which is a call of a function with one JSON object."""
    text = (site / "searchindex.js").read_text()
    found: dict[str, Any] = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    return found
