"""What the demo asks the simulated bank itself: whether it still has something to tell."""

from __future__ import annotations

from collections.abc import Mapping

import httpx


def notices_owed(run_file: Mapping[str, str]) -> int:
    """Count the webhooks that the bank has still to send; `run_file` says where it is.

    What it tells last may be emitted after all else is settled, so it must be waited for.
    """
    answer = httpx.get(
        f"{run_file['BANK_URL']}/v1/notices",
        headers={"Authorization": f"Bearer {run_file['BANK_API_KEY']}"},
        timeout=10,
        trust_env=False,
    )
    return int(answer.raise_for_status().json()["owed"])
