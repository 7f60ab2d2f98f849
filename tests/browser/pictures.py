"""The pictures of `docs/images/` that `make screenshots` takes, each in English and in Japanese."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
LANGUAGES = ("en", "ja")
WIDE, PHONE = (1280, 800), (390, 844)


@dataclass(frozen=True)
class Picture:
    """One picture, in each language.

    Attributes:
        name: of its file, without language and ending.
        page: which of `PAGES`; empty for the page of an order in the storefront, with the drawer.
        height: pixels of the picture, or 0 for the whole page.
        size: of the window, in pixels.
        press: the value of a button to press first.
    """

    name: str
    page: str = ""
    height: int = 0
    size: tuple[int, int] = WIDE
    scheme: str = "light"
    press: str = ""

    def file(self, language: str) -> Path:
        """Return its file: `overview.png`, or `overview.ja.png` for its Japanese twin."""
        return IMAGES / f"{self.name}{'' if language == 'en' else '.' + language}.png"

    def on_a_phone(self, *, height: int, scheme: str = "light") -> Picture:
        """Return the same page on a phone, whose file ends in `-phone`."""
        name = f"{self.name}-phone"
        return replace(self, name=name, size=PHONE, height=height, scheme=scheme)


OVERVIEW = Picture("overview", "the overview")
ORDER = Picture("order", "an order that is stuck", height=1150)
TIMELINE = Picture("timeline", "the timeline of a stuck order", size=(1280, 1100))
HANDLERS = Picture("handlers", "the handlers", height=1100)
MAP = Picture("map", "the map")
DEAD_LETTERS = Picture("dead-letters", "the dead letters")
STOREFRONT = Picture("storefront", height=900)

MONITOR = (
    OVERVIEW,
    OVERVIEW.on_a_phone(height=1500),
    Picture("overview-dark", "the overview", scheme="dark"),
    ORDER,
    ORDER.on_a_phone(height=1500),
    TIMELINE,
    Picture("timeline-phone", "the timeline of an order", size=PHONE, height=1500),
    Picture("events", "the events", height=800),
    Picture("event", "an event"),
    DEAD_LETTERS,
    DEAD_LETTERS.on_a_phone(height=1500),
    Picture("dry-run", "the dead letters", height=780, press="retry"),
    Picture("delivery", "a dead delivery"),
    HANDLERS,
    HANDLERS.on_a_phone(height=1500),
    MAP,
    MAP.on_a_phone(height=1100),
    Picture("blocked-keys", "the blocked keys", height=360),
    Picture("processes", "the orders under way"),
    Picture("operation", "an operation", height=720),
    Picture("health-checks", "the health checks", height=720),
    Picture("sources", "the sources", height=500),
)
SHOP = (STOREFRONT, STOREFRONT.on_a_phone(height=1500, scheme="dark"))
PICTURES = (*MONITOR, *SHOP)
