"""The demo's request to the simulated bank: the number of unsent webhooks."""

from __future__ import annotations

from collections.abc import Mapping

import httpx


def unsent_webhooks(run_file: Mapping[str, str]) -> int:
    """Count the webhooks that the bank has not sent yet; `run_file` has its address.

    The last reports may be emitted after everything else is settled, so the demo waits for them.
    """
    answer = httpx.get(
        f"{run_file['BANK_URL']}/v1/notices",
        headers={"Authorization": f"Bearer {run_file['BANK_API_KEY']}"},
        timeout=10,
        trust_env=False,
    )
    return int(answer.raise_for_status().json()["owed"])
