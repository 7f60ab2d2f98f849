"""Pictures of what happened, drawn on the server as SVG from the rows of a timeline.

Colours and shapes come from `outbox/drawing.css` by class, so that a page may forbid inline styles,
and light and dark are the admin's. Nothing here reads the database.
"""

from .mermaid import mermaid
from .sequence import sequence
from .waterfall import waterfall

__all__ = ["mermaid", "sequence", "waterfall"]
