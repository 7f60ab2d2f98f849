"""Pictures with a palette look like the page."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.palette import reduced

FEW = '<body style="margin: 0"><p style="margin: 0; width: 9px; height: 9px; background: #a3241d">'
MANY = (
    '<body style="margin: 0; height: 400px; background: linear-gradient(90deg, red, lime, blue)">'
)
_COLOUR_AT = """async ([picture, x, y]) => {
    const bitmap = await createImageBitmap(await (await fetch(picture)).blob());
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return [...context.getImageData(x, y, 1, 1).data];
}"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 400, "height": 400})
    yield context.new_page()
    context.close()


def colour_at(page: Page, picture: bytes, x: int, y: int) -> Any:
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    return page.evaluate(_COLOUR_AT, [url, x, y])


class TestAReducedPicture:
    def test_keeps_few_colours_exactly(self, page: Page):
        page.set_content(FEW)
        picture = reduced(page, page.screenshot())

        assert colour_at(page, picture, 1, 1) == [0xA3, 0x24, 0x1D, 255]
        assert colour_at(page, picture, 300, 300) == [255, 255, 255, 255]

    def test_changes_many_colours_by_little(self, page: Page):
        page.set_content(MANY)
        original = page.screenshot()
        picture = reduced(page, original)

        for x in range(0, 400, 37):
            before, after = (colour_at(page, one, x, 200) for one in (original, picture))
            assert max(abs(a - b) for a, b in zip(before, after, strict=True)) <= 8, x
