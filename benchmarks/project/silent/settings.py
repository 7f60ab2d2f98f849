"""The shop, whose orders tell nobody: what the view costs without events."""

from shop.settings import *  # noqa: F403  the whole of them, by intention

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.project.silent.apps.SilentConfig"]  # noqa: F405
