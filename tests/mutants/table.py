"""All mutants, in the order in which they run."""

from __future__ import annotations

from tests.mutants.engine import ENGINE
from tests.mutants.mutant import Mutant
from tests.mutants.shop import SHOP

MUTANTS: list[Mutant] = [*ENGINE, *SHOP]
