"""AsyncAPI 3: the document of this code's events, and documents of other systems.

The document is made from the code, the settings and each app's `events.lock.json`, and from no
database. So it is the same on each machine, and a test or `--check` compares the committed file.
"""

from .document import as_text, document

__all__ = ["as_text", "document"]
