"""Drawings of timelines and metrics, rendered on the server as SVG.

Colours and shapes come from `outbox/drawing.css` by class. So a page may forbid inline styles, and
the drawings follow the admin's light and dark themes. Nothing here reads the database.
"""

from .sequence import mermaid, sequence
from .waterfall import waterfall

__all__ = ["mermaid", "sequence", "waterfall"]
