"""The pictures of products: static SVG files, drawn for this shop."""

from __future__ import annotations

#: Files of `static/storefront/products/` by SKU.
PICTURES = {
    "TEA-SENCHA": "tea",
    "WHISK-CHASEN": "whisk",
    "BOWL-RAKU": "bowl",
    "KETTLE-IRON": "kettle",
    "CLOCK-WALL": "clock",
}
#: For every other product.
DEFAULT = "parcel"


def picture_of(sku: str) -> str:
    """Return the path of a product's picture, for `static`."""
    return f"storefront/products/{PICTURES.get(sku, DEFAULT)}.svg"
