"""Says " ready." when a Celery worker is, as Celery itself does only where it logs every task."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_ready


@worker_ready.connect
def _say(*, sender: Any, **_kwargs: Any) -> None:
    print(f"{sender.hostname} ready.", flush=True)
