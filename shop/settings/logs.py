"""Log levels and formats."""

from __future__ import annotations

from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS

from .environment import FOR_REAL, env

# LOG_LEVEL: DEBUG, INFO, WARNING or ERROR. LOG_FORMAT: "json", one object per line, or "plain".
LOG_FORMAT = env.str("LOG_FORMAT", default="json" if FOR_REAL else "plain")
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "correlation": {"()": "outbox.context.CorrelationFilter"},
        "client_errors": {"()": "shop.logs.ClientErrorFilter"},
        "personal_data": {"()": "shop.logs.PersonalDataFilter"},
    },
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(levelname)s %(name)s %(message)s",
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": "time",
            # Only Django uses this object; its text would contain the whole query string.
            "reserved_attrs": [*RESERVED_ATTRS, "request"],
        },
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["correlation", "client_errors", "personal_data"],
            "formatter": LOG_FORMAT,
        }
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        # Otherwise Django prints each line a second time.
        "django": {"handlers": [], "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        # It logs each request to the bank; our own lines have the results.
        "httpx": {"level": "WARNING"},
        # It logs each request that waits for a thread, which is usual under load.
        "waitress.queue": {"level": "ERROR"},
        # It logs where it found credentials, for each connection to SQS.
        "botocore": {"level": "WARNING"},
        # Wrong passwords are warnings; correct ones need no line.
        "axes": {"level": "WARNING"},
    },
}
if LOG_FORMAT == "json":
    # Gunicorn's own lines, too; as plain text it formats them by its options.
    LOGGING["filters"]["access"] = {"()": "shop.logs.AccessFilter"}
    LOGGING["loggers"] |= {
        "gunicorn.error": {"handlers": [], "propagate": True},
        "gunicorn.access": {"handlers": [], "propagate": True, "filters": ["access"]},
    }
