from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DrawerConfig(AppConfig):
    name = "shop.drawer"
    label = "shop_drawer"
    verbose_name = _("development drawer")
