"""What a row of the table is: a module of `rows` has one, `ROW`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .ground import Ground
from .harness import Result
