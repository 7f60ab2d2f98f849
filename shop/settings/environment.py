"""Sources of the settings: the environment, and the run file of a running `manage.py up`."""

from __future__ import annotations

import builtins
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

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

    def token(self, name: builtins.str, default: builtins.str) -> builtins.str:
        """Return a key or token without the white space around it.

        A file of a secret often ends with a line feed, which no HTTP header can have.
        """
        return builtins.str(self.str(name, default=default)).strip()


@contextmanager
def readable(variable: str) -> Iterator[None]:
    """Name the variable of a URL that cannot be read.

    The error of the parser does not name it, and quotes a part of the URL: often of the password.

    Raises:
        ImproperlyConfigured: the block has raised ValueError.
    """
    try:
        yield
    except ValueError:
        raise ImproperlyConfigured(
            f"{variable} is not a valid URL. Percent-encode special characters of the user and the "
            "password, such as / as %2F, ? as %3F and # as %23."
        ) from None


env = Environment(interpolate=False)

# DEBUG: off unless set, or unless `manage.py up` is running here.
DEBUG = env.bool("DEBUG", default=False)
