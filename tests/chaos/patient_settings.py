"""The shop's settings with a broker time-out that never comes.

A request that waited for a frozen broker would then wait for ever, which a test can see.
"""

from shop.settings import *  # noqa: F403  the whole of them, by intention

CELERY_BROKER_TRANSPORT_OPTIONS = {
    **CELERY_BROKER_TRANSPORT_OPTIONS,  # noqa: F405
    "socket_timeout": 3600,
    "socket_connect_timeout": 3600,
}
