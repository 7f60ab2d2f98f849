"""Demo data: products with stock, a staff user and two customers. Adding it again adds nothing."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User

from api.tokens import add_token, new_token
from inventory.services import add_product, receive_stock
from shared.money import Money
from shop.up.credentials import ADMIN, CUSTOMERS, Credentials, new_password

# SKU, names, price in minor units, stock. The last one is meant to be sold out.
PRODUCTS = [
    ("TEA-SENCHA", "Sencha green tea, 100 g", "煎茶 100 g", 1280, 10_000),
    ("WHISK-CHASEN", "Bamboo tea whisk", "竹の茶筅", 2400, 500),
    ("BOWL-RAKU", "Raku tea bowl", "楽焼の茶碗", 6800, 120),
    ("KETTLE-IRON", "Cast-iron kettle", "鋳鉄の鉄瓶", 12800, 40),
    ("CLOCK-WALL", "Wall clock, the last one", "壁掛け時計 (最後の 1 台)", 9800, 1),
]
FIRST_DELIVERY = "demo"
FULL_NAMES = {"alice": ("Alice", "Archer"), "hanako": ("花子", "山田")}


def add_demo_data(credentials: Credentials) -> None:
    """Add missing rows; existing ones stay unchanged."""
    for sku, name, name_ja, price, quantity in PRODUCTS:
        unit_price = Money(amount=price, currency=settings.SHOP_CURRENCY)
        add_product(sku=sku, name=name, name_ja=name_ja, unit_price=unit_price)
        receive_stock(sku=sku, quantity=quantity, reference=FIRST_DELIVERY)
    _add_token(_add_user(ADMIN, credentials, is_staff=True, is_superuser=True), credentials)
    for name in CUSTOMERS:
        _add_token(_add_user(name, credentials), credentials)


def _add_user(name: str, credentials: Credentials, **rights: bool) -> User:
    first, last = FULL_NAMES.get(name, ("", ""))
    user, is_new = User.objects.get_or_create(
        username=name,
        defaults={
            "email": f"{name}@example.com",
            "first_name": first,
            "last_name": last,
            **rights,
        },
    )
    _settle_password(user, credentials, is_new=is_new)
    return user


def _settle_password(user: User, credentials: Credentials, *, is_new: bool) -> None:
    """Give a new user the password on file. Clear the one on file if the user has another."""
    name = user.get_username()
    if is_new or not credentials.knows(name):
        password = credentials.get(name, "password") or new_password()
        user.set_password(password)
        user.save(update_fields=["password"])
        credentials.set(name, "password", password)
    elif not user.check_password(credentials.get(name, "password")):
        credentials.set(name, "password", "")


def _add_token(user: User, credentials: Credentials) -> None:
    """Add the token on file, or a new one. Only the file has the token itself."""
    name = user.get_username()
    token = credentials.get(name, "token") or new_token()
    add_token(user=user, label="demo", token=token)
    credentials.set(name, "token", token)
