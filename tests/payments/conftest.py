from __future__ import annotations

from tests.bank import bank, bank_process

__all__ = ["bank", "bank_process"]
