"""The shop's settings, with the app of the demo."""

from shop.settings import *  # noqa: F403  settings are names, all of them
from shop.settings.apps import INSTALLED_APPS as SHOP_APPS

INSTALLED_APPS = [*SHOP_APPS, "shop.demo.world"]
