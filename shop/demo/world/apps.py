from django.apps import AppConfig


class ShippingConfig(AppConfig):
    """An app of the demo alone. Its label may not be the name of the source."""

    name = "shop.demo.world"
    label = "shipping"
