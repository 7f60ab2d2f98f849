import os

import environ

SECRET_KEY = "only for tests"
USE_TZ = True
INSTALLED_APPS = ["outbox", "depot", "django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {"default": environ.Env.db_url_config(os.environ["DATABASE_URL"])}
if os.environ["DATABASE_URL"].startswith("sqlite"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
CELERY_BROKER_URL = os.environ["BROKER_URL"]
OUTBOX = {
    "POLL_SECONDS": 0.2,
    "HEARTBEAT_SECONDS": 1.0,
    "RETENTION": {"default": 1e-6},  # days; only `outbox prune` prunes, since beat does not run
}
