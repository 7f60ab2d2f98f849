"""Sources of the settings: the environment, and the run file of a running `manage.py up`."""

from __future__ import annotations

import builtins
import json
import os
import secrets
from pathlib import Path
from typing import Any

import environ

BASE_DIR = Path(__file__).resolve().parent.parent.parent

# SHOP_LOCAL_DIR: where a development copy keeps its database, e-mails, keys and run file.
LOCAL_DIR = Path(os.environ.get("SHOP_LOCAL_DIR") or BASE_DIR / ".local")

FOR_REAL = bool(
    os.environ.get("ALLOWED_HOSTS")
    or os.environ.get("DEBUG", "").strip().lower() in {"0", "false", "no", "off"}
)


def run_file() -> dict[str, str]:
    """Return the variables of a running `manage.py up`, or an empty dict."""
    try:
        variables = json.loads((LOCAL_DIR / "run.json").read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(variables, dict):
        return {}
    return {name: str(value) for name, value in variables.items() if name.isupper()}


def local_secret_key() -> str:
    """Return this copy's secret key, created on first use: a clone works without settings."""
    path = LOCAL_DIR / "secret_key"
    LOCAL_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(64))
    except FileExistsError:
        pass
    # Another process may have created the file and not written it yet: then use our own key.
    return path.read_text() or secrets.token_urlsafe(64)


class Environment(environ.Env):  # type: ignore[misc]  # django-environ is untyped
    ENVIRON = dict(os.environ) if FOR_REAL else {**run_file(), **os.environ}

    def list(self, *args: Any, **options: Any) -> builtins.list[str]:
        """Return the texts between the commas of a variable, without the spaces around them."""
        return [text for part in super().list(*args, **options) if (text := part.strip())]


env = Environment(interpolate=False)

# DEBUG: off unless set, or unless `manage.py up` is running here.
DEBUG = env.bool("DEBUG", default=False)
