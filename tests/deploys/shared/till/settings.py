import os

import environ

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "till.urls"
USE_TZ = True
INSTALLED_APPS = ["outbox", "till", "django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {"default": environ.Env.db_url_config(os.environ["DATABASE_URL"])}
if os.environ["DATABASE_URL"].startswith("sqlite"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 60,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
OUTBOX: dict[str, object] = {"POLL_SECONDS": 0.2, "HEARTBEAT_SECONDS": 1.0}
if broker := os.environ.get("BROKER_URL"):
    CELERY_BROKER_URL = broker
    CELERY_WORKER_PREFETCH_MULTIPLIER = 1
else:
    OUTBOX["TRANSPORTS"] = ["local"]
