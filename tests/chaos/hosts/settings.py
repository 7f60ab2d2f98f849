"""The settings of a chaos run, with heartbeats that make a lost host visible within seconds."""

from tests.chaos.proving_settings import *  # noqa: F403  the whole of them, by intention

OUTBOX = {**OUTBOX, "HEARTBEAT_SECONDS": 2.0, "METRICS_TOKEN": "token-of-chaos"}  # noqa: F405
EMAIL_TIMEOUT = 5  # a slow link is no error
