"""The proving ground's settings, where a router moves the outbox to a database of its own."""

import copy

from shop.settings.environment import env
from tests.chaos.settings import *  # noqa: F403  the whole of them, by intention

DATABASES = {
    "default": DATABASES["default"],  # noqa: F405
    "events": {
        **copy.deepcopy(DATABASES["default"]),  # noqa: F405
        **{name: value for name, value in env.db_url("EVENTS_URL").items() if value},
    },
}
DATABASE_ROUTERS = ["tests.chaos.router.OutboxRouter"]
