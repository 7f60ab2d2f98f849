"""The README is short, and its first screen says what this is. Its commands exist."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT, Page

README = Page("README.md")
MOST_LINES = 249
#: Lines of a first screen.
SCREEN = 40


class TestTheReadme:
    def test_is_short(self):
        assert len(README.text.splitlines()) <= MOST_LINES

    def test_says_on_its_first_screen_what_it_is_and_how_to_start_it(self):
        screen = "\n".join(README.text.splitlines()[:SCREEN])

        for words in (
            "installable Django app",
            "reference shop",
            "It is for teams",
            "| versions |",
            "| maturity |",
            "docs/images/killed-worker.svg",
            "docs/how-to/use-outbox-in-your-project.md",
            "$ make up ",
        ):
            assert words in screen

    def test_names_the_supported_versions_of_the_package(self):
        supported = re.search(
            r"supports (Python .*?), and SQLite", Page("docs/index.md").text, re.S
        )
        (row,) = re.findall(r"^\| versions \| (.*) \|$", README.text, re.M)

        assert supported
        for version in re.findall(r"\d+\.?\d*", supported[1]):
            assert version in row or between(version, row), version

    def test_has_make_targets_that_exist(self):
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))

        named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(README.codes())))
        named |= set(re.findall(r"^\$ make ([a-z-]+)", "\n".join(README.blocks("console")), re.M))

        assert named >= {"up", "demo", "picture"}
        assert named <= targets

    def test_gives_each_command_its_duration(self):
        (block,) = (one for one in README.blocks("console") if "make up" in one)

        for line in block.splitlines():
            assert re.search(r"#.*\b(second|minute)s?\b|#.*half a minute", line), line


def between(version: str, row: str) -> bool:
    """Return whether the row has a range like "5.2 to 6.1" that spans this version."""
    wanted = numbers(version)
    ranges = re.findall(r"(\d[\d.]*) to (\d[\d.]*)", row)
    return any(numbers(first) <= wanted <= numbers(last) for first, last in ranges)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.rstrip(".").split("."))
