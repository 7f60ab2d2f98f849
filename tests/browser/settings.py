"""The shop's settings with an app of another project, whose admin pages the shop did not design."""

from shop.settings import *  # noqa: F403
from shop.settings import INSTALLED_APPS as OF_THE_SHOP

INSTALLED_APPS = [*OF_THE_SHOP, "tests.browser.workshop"]
