from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SQLITE: Literal["sqlite"] = "sqlite"
POSTGRESQL: Literal["postgresql"] = "postgresql"


class DoesNotApply(Exception):
    """The text that a mutant replaces is not found exactly once: bring its row up to date."""


@dataclass(frozen=True)
class Edit:
    """One piece of a file, and what stands there instead."""

    file: str
    before: str
    after: str

    def apply(self, root: Path) -> None:
        path = root / self.file
        path.write_text(self.mutated(root))

    def mutated(self, root: Path) -> str:
        """Return the file's text with the edit; raise `DoesNotApply` or SyntaxError."""
        path = root / self.file
        text = path.read_text() if path.exists() else ""
        if (found := text.count(self.before)) != 1:
            raise DoesNotApply(f"{self.file} has this {found} times, not once:\n{self.before}")
        mutated = text.replace(self.before, self.after)
        ast.parse(mutated, filename=self.file)
        return mutated


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A safety part that is taken away, and the tests of which each must fail without it.

    Attributes:
        name: for `--only`, and for the page.
        without: what is taken away, in words.
        edits: how; one for each file.
        noticed_by: ids of tests. All of them must fail, in the test itself, not in its fixtures.
        database: the kind that the tests run on.
        hangs: a test that ends by its time limit counts as one that noticed.
    """

    name: str
    without: str
    edits: tuple[Edit, ...]
    noticed_by: tuple[str, ...]
    database: Literal["sqlite", "postgresql"] = SQLITE
    hangs: bool = False
