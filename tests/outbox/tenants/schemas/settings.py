"""Settings of a project with django-tenants and the outbox."""

from __future__ import annotations

from typing import Any

import environ

_HERE = "tests.outbox.tenants.schemas"

SECRET_KEY = "only for tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SHARED_APPS = [
    "django_tenants",
    f"{_HERE}.customers",
    "outbox",
    "django.contrib.contenttypes",
    "django.contrib.auth",
]
TENANT_APPS = [f"{_HERE}.notes"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
TENANT_MODEL = "customers.Customer"
TENANT_DOMAIN_MODEL = "customers.Domain"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **environ.Env().db_url("DATABASE_URL"),
        "ENGINE": "django_tenants.postgresql_backend",
    }
}
OUTBOX: dict[str, Any] = {
    "TRANSPORTS": ["local"],
    "NUDGE": False,
    "TENANT": {"CAPTURE": f"{_HERE}.hooks.capture", "RESTORE": f"{_HERE}.hooks.restore"},
}
