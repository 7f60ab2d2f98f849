"""The shop's settings with a second database of the same kind, which has an outbox as well."""

from shop.settings import *  # noqa: F403
from shop.settings import DATABASES as OF_THE_SHOP
from shop.settings import OUTBOX as OUTBOX_OF_THE_SHOP
from shop.settings.environment import env

DATABASES = {
    **OF_THE_SHOP,
    "shard_1": {**OF_THE_SHOP["default"], **env.db_url("SECOND_DATABASE_URL")},
}
OUTBOX = {**OUTBOX_OF_THE_SHOP, "DATABASES": ["default", "shard_1"], "NUDGE": False, "ATTEMPTS": 1}
