"""Checks of a page in a browser: console errors, security policy, overflow, accessibility."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page, Response

from tests.browser import django_admin
from tests.browser.accepted_findings import accepted_in

#: https://github.com/dequelabs/axe-core, as published on npm; its licences stand beside it.
AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
#: Its rules of colour that are on by default.
COLOURS = ["color-contrast", "link-in-text-block"]
NO_SCRIPT = ("application/json", "application/ld+json")


class BrowserErrors:
    """Errors and warnings that the browser logs while a page is open."""

    def __init__(self, page: Page) -> None:
        self.found: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.found.append(f"uncaught: {error}"))

    def _note(self, message: ConsoleMessage) -> None:
        # Chromium logs a violation of the Content-Security-Policy as an error.
        if message.type in ("error", "warning"):
            self.found.append(f"{message.type}: {message.text}")


def policy_errors(answer: Response) -> list[str]:
    """Name what a page's Content-Security-Policy lacks."""
    policy = answer.header_value("content-security-policy") or ""
    wanted = ("default-src 'self'", "object-src 'none'", "base-uri 'none'")
    lacks = [f"the policy lacks {part}" for part in wanted if part not in policy]
    return lacks + [f"the policy has {part}" for part in ("unsafe", "*") if part in policy]


class _Inline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_script = tag == "script" and given.get("type") not in NO_SCRIPT
        if tag == "style" or (is_script and "src" not in given):
            self.found.append(f"inline <{tag}>")
        for name in given:
            if name == "style" or name.startswith("on"):
                self.found.append(f"<{tag} {name}={given[name]!r}>")


def inline_parts(html: str) -> list[str]:
    """Name the scripts and styles that stand in the page itself, as the server sent it."""
    parser = _Inline()
    parser.feed(html)
    return parser.found


def overflow(page: Page) -> list[str]:
    """Name what makes the page wider than its window."""
    return list(
        page.evaluate(
            """() => {
                const room = document.documentElement.clientWidth;
                if (document.documentElement.scrollWidth <= room) return [];
                const wide = [...document.body.querySelectorAll("*")].filter(
                    (element) => element.getBoundingClientRect().right > room + 1);
                return ["wider than its window:", ...wide.slice(0, 5).map(
                    (element) => element.outerHTML.slice(0, 200))];
            }"""
        )
    )


@dataclass(frozen=True)
class Finding:
    """A rule of axe that an element breaks."""

    rule: str
    target: str
    html: str
    summary: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.target}\n  {self.html}\n  {self.summary}"


@cache
def _axe() -> str:
    return AXE.read_text()


def findings(page: Page, *, colours_alone: bool = False) -> list[Finding]:
    """Let axe examine the page by all its rules, or those of colour; leave out what is Django's."""
    found = all_findings(page, colours_alone=colours_alone)
    return [one for one in found if not accepted_in(page, one.rule, one.target, django_admin.KNOWN)]


# One that is cancelled, with what it moved, has settled as well.
_STAND_STILL = """async () => {
    const running = () => document.getAnimations().filter((one) => one.playState === "running");
    while (running().length) {
        await Promise.allSettled(running().map((one) => one.finished));
    }
}"""


def all_findings(page: Page, *, colours_alone: bool = False) -> list[Finding]:
    """Let axe examine the page; leave nothing out."""
    # Colours change over a moment; halfway they have no contrast.
    page.evaluate(_STAND_STILL)
    # Evaluated by the debugger, which the page's policy does not bind.
    if not page.evaluate('"axe" in window'):  # else for another colour scheme
        page.evaluate(_axe())
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if colours_alone:
        options["runOnly"] = {"type": "rule", "values": COLOURS}
    result = page.evaluate("(options) => axe.run(document, options)", options)
    return list(_read(result))


def _read(result: dict[str, Any]) -> Iterator[Finding]:
    for rule in result["violations"]:
        for node in rule["nodes"]:
            target = " ".join(map(str, node["target"]))
            yield Finding(rule["id"], target, node["html"][:300], node["failureSummary"])
