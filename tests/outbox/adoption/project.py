"""A small project in a folder, and `outbox adopt` in it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from tests.outbox.command import outbox_command

TASKS = '''\
from celery import shared_task


@shared_task
def send_label(parcel_id: int, copies: int = 1) -> None:
    """Print the label."""


@shared_task
def notify(parcel_id):
    """Send an e-mail."""
'''


class Project:
    """An app `parcels` below the current folder.

    Args:
        folder: the current folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.given({"parcels/__init__.py": "", "parcels/tasks.py": TASKS})

    def given(self, files: dict[str, str]) -> None:
        """Write files."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    def services(self, text: str, *, imports: str = "") -> None:
        """Write `services.py` with the usual imports, these imports and this text."""
        head = "from django.db import transaction\n\nfrom .tasks import notify, send_label\n"
        self.given({"parcels/services.py": dedent(imports) + head + "\n\n" + dedent(text)})

    def adopt(self, *options: str) -> str:
        """Run `outbox adopt parcels`, and return its output."""
        return outbox_command("adopt", "parcels", *options)

    def text(self, name: str = "parcels/services.py") -> str:
        """Return a file."""
        return (self.folder / name).read_text()

    def body(self) -> str:
        """Return `services.py` without its imports."""
        return self.text().partition("\n\n\n")[2]

    def texts(self) -> dict[str, str]:
        """Return all files by name."""
        return {str(one.relative_to(self.folder)): one.read_text() for one in self.files()}

    def files(self) -> list[Path]:
        """Return the paths of all files."""
        return sorted(self.folder.rglob("*.py"))
