#!/usr/bin/env python
"""Django's command line for the shop; `make` shows the commands that matter."""

import os
import sys


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  the reader's Python may be older than ours
        sys.exit("This project needs Python 3.11 or later; this is " + sys.version.split()[0] + ".")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    try:
        from django.conf import settings
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed. Run `make install`, then `.venv/bin/python manage.py`.")
    try:
        settings.INSTALLED_APPS  # noqa: B018  loads the settings, whose complaints are sentences
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
