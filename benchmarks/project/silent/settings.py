"""The shop, whose orders emit no events: the cost of the view without them."""

from shop.settings import *  # noqa: F403  the whole of them, by intention

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.project.silent.apps.SilentConfig"]  # noqa: F405
