"""Settings of a project with two shards, each with an outbox, without a broker."""

from __future__ import annotations

import os
from typing import Any

import environ

SECRET_KEY = "only for tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["outbox", "tests.outbox.shards.stock"]


def _shard(name: str) -> dict[str, Any]:
    found: dict[str, Any] = environ.Env.db_url_config(os.environ[name])
    if found["ENGINE"] == "django.db.backends.sqlite3":
        found["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 60,
            "init_command": "PRAGMA journal_mode=WAL;",
        }
    return found


DATABASES = {"default": _shard("SHARD_0_URL"), "shard_1": _shard("SHARD_1_URL")}
OUTBOX = {
    "DATABASES": ["default", "shard_1"],
    "TRANSPORTS": ["local"],
    # Killed workers are noticed soon.
    "LEASE_SECONDS": 4.0,
    "MAX_WORKER_CRASHES": 1000,
    "BACKOFF_CAP": 1.0,
}
LOGGING: dict[str, Any] = {"version": 1, "disable_existing_loggers": False}
